"""Forty ways in which a task changes the world: twenty that bear to be run again, and twenty that do not."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
import subprocess
import time
import uuid
from contextlib import closing
from pathlib import Path

from stabilize_nb.testing import effect

GOOD, BAD = [], []


def good(body):
    GOOD.append(body)
    return body


def bad(body):
    BAD.append(body)
    return body


def sql(statement, *values):
    with closing(sqlite3.connect("shop.db")) as connection:
        connection.execute(statement, values)
        connection.commit()


def writes_a_line(name, mode):
    with Path(name).open(mode) as opened:
        opened.write("job\n")


def setup():
    """Make what the bodies find."""
    Path("inbox.txt").write_text("one\ntwo\nthree\n")
    Path("jobs.txt").write_text("one\ntwo\nthree\n")
    Path("draft.txt").write_text("dear\n")
    Path("lock").touch()
    sql("CREATE TABLE sale (id TEXT PRIMARY KEY, item TEXT)")
    sql("CREATE TABLE booking (item TEXT)")
    sql("CREATE TABLE account (name TEXT PRIMARY KEY, balance INT)")
    sql("INSERT INTO account VALUES ('me', 100)")


# -- those that bear it -------------------------------------------------------------------------------


@good
def writes_a_file():
    Path("report.txt").write_text("done\n")


@good
def replaces_a_file():
    Path("page.tmp").write_text("new\n")
    Path("page.tmp").replace("page.html")


@good
def makes_a_folder_if_missing():
    Path("out").mkdir(exist_ok=True)
    Path("out/a.txt").write_text("a\n")


@good
def removes_a_file_if_there():
    Path("lock").unlink(missing_ok=True)


@good
def upserts_a_row():
    sql("INSERT OR REPLACE INTO sale VALUES ('upsert', 'pen')")


@good
def inserts_by_key(stage):
    sql("INSERT INTO sale VALUES (?, 'ink') ON CONFLICT DO NOTHING", stage.idempotency_key)


@good
def sets_a_balance():
    sql("UPDATE account SET balance = 90 WHERE name = 'me'")


@good
def charges_with_a_key(stage):
    effect("charge", key=stage.idempotency_key)


@good
def computes():
    return sum(range(1_000))


@good
def writes_the_time():
    Path("stamp.txt").write_text(f"{time.time_ns()}\n")


@good
def names_a_file_by_its_key(stage):
    Path(f"order-{stage.idempotency_key.replace(':', '-')}.json").write_text("{}\n")


@good
def returns_something_random():
    return uuid.uuid4().hex


@good
def sets_a_key_of_a_document():
    file = Path("settings.json")
    known = json.loads(file.read_text()) if file.exists() else {}
    Path("settings.tmp").write_text(json.dumps({**known, "size": 3}))
    Path("settings.tmp").replace(file)


@good
def adds_a_line_that_is_missing():
    file = Path("hosts.txt")
    if not file.exists() or "me\n" not in file.read_text():
        with file.open("a") as opened:
            opened.write("me\n")


@good
async def writes_later():
    await asyncio.sleep(0.001)
    writes_a_line("later.txt", "w")


@good
def lets_a_program_write():
    subprocess.run(["sh", "-c", "echo made > made.txt"], check=True)


@good
def reads_only():
    return len(Path("inbox.txt").read_text())


@good
def makes_a_table_if_missing():
    sql("CREATE TABLE IF NOT EXISTS extra (id INT)")


@good
def links_anew():
    Path("newest.tmp").unlink(missing_ok=True)
    Path("newest.tmp").symlink_to("report.txt")
    Path("newest.tmp").replace("newest")


@good
def prints():
    print("hello")


# -- those that do not --------------------------------------------------------------------------------


@bad
def appends_a_line():
    with Path("log.txt").open("a") as opened:
        opened.write("done\n")


@bad
def counts_up():
    file = Path("count.txt")
    file.write_text(str(int(file.read_text()) + 1 if file.exists() else 1))


@bad
def makes_a_file_of_a_random_name():
    Path(f"ticket-{uuid.uuid4()}.json").write_text("{}\n")


@bad
def makes_a_file_named_by_the_time():
    Path(f"backup-{time.time_ns()}.txt").write_text("all\n")


@bad
def inserts_a_row():
    sql("INSERT INTO booking VALUES ('pen')")


@bad
def inserts_by_a_random_key():
    sql("INSERT INTO sale VALUES (?, 'cup')", uuid.uuid4().hex)


@bad
def takes_from_a_balance():
    sql("UPDATE account SET balance = balance - 10 WHERE name = 'me'")


@bad
def sends_a_mail():
    effect("mail")


@bad
def charges_by_a_random_key():
    effect("payment", key=uuid.uuid4().hex)


@bad
def makes_a_folder():
    Path("once").mkdir()


@bad
def creates_a_file_exclusively():
    with Path("exclusive.txt").open("x") as opened:
        opened.write("mine\n")


@bad
def moves_a_file():
    Path("draft.txt").rename("sent.txt")


@bad
def removes_a_file():
    Path("jobs.txt").unlink()


@bad
def takes_the_first_line():
    lines = Path("inbox.txt").read_text().splitlines(keepends=True)
    Path("inbox.txt").write_text("".join(lines[1:]))


@bad
def says_done_before_it_is():
    flag = Path("greeted.flag")
    if not flag.exists():
        flag.touch()
        effect("greeting")


@bad
def appends_to_a_document():
    file = Path("basket.json")
    basket = json.loads(file.read_text()) if file.exists() else []
    file.write_text(json.dumps([*basket, "pen"]))


@bad
def logs_to_a_file():
    handler = logging.FileHandler("audit.log")
    handler.emit(logging.LogRecord("audit", logging.INFO, "", 0, "sold", None, None))
    handler.close()


@bad
def lets_a_program_append():
    subprocess.run(["sh", "-c", "echo more >> more.txt"], check=True)


@bad
async def appends_later():
    await asyncio.sleep(0.001)
    writes_a_line("queue.txt", "a")


@bad
def creates_a_table():
    sql("CREATE TABLE once (id INT)")


assert len(GOOD) == len(BAD) == 20
assert os.name == "posix"
