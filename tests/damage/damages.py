"""Ways to damage a store: each changes the copy of a template and says what was done. All are drawn from one seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import apsw

from tests.damage.stores import Template

PAGE = 4_096


@dataclass(frozen=True)
class Damage:
    """`refused`: opening must raise. `page`: the only page that was touched."""

    name: str
    of: str
    do: Callable[[Path], None]
    refused: bool = False
    page: int = 0


def damages(killed: Template, whole: Template, seed: int = 7) -> Iterator[Damage]:
    """Yield every damage."""
    chance = random.Random(seed)
    pages = (whole.folder / "runs.db").stat().st_size // PAGE
    for number in range(1, pages + 1):
        yield Damage(f"a bit of page {number}", "whole", flipped(number, chance.randrange(PAGE * 8)), page=number)
    for number in chance.sample(range(1, pages + 1), 40):
        yield Damage(f"zeros in page {number}", "whole", written(number, bytes(PAGE)), page=number)
    for number in chance.sample(range(1, pages + 1), 12):
        yield Damage(f"noise in page {number}", "whole", written(number, chance.randbytes(PAGE)), page=number)
    for number in chance.sample(range(2, pages + 1), 8):
        yield Damage(f"page {number} twice", "whole", copied(number, chance.randrange(2, pages + 1)), page=number)
    for part in (0.01, 0.2, 0.5, 0.8, 0.99):
        yield Damage(f"cut off at {part:.0%}", "whole", cut("", part), refused=True)
    for part in (0.0001, 0.3, 0.7, 0.999):
        yield Damage(f"WAL cut off at {part:.2%}", "killed", cut("-wal", part))
    for at in range(10):
        yield Damage(f"a bit of the WAL {at}", "killed", flipped_in("-wal", chance.random(), chance.randrange(8)))
    yield Damage("WAL of zeros", "killed", zeroed("-wal"))
    yield Damage("no WAL", "killed", removed("-wal"))
    yield Damage("shared memory of zeros", "killed", zeroed("-shm"))
    yield Damage("noise for shared memory", "killed", beside("-shm", chance.randbytes(32_768)))
    yield Damage("noise for a WAL", "whole", beside("-wal", chance.randbytes(40_000)))
    yield Damage("noise for a journal", "whole", beside("-journal", chance.randbytes(40_000)))
    for at in (0, 5, 16, 17, 18, 21):
        yield Damage(f"noise at {at} of the head", "whole", poked(at, b"\xa5"))
    yield Damage("head of zeros", "whole", poked(0, bytes(100)), refused=True)
    yield Damage("text instead", "whole", replaced(b"this is a letter, and no database\n" * 50), refused=True)
    yield Damage("zeros instead", "whole", replaced(bytes(PAGE * 4)), refused=True)
    yield Damage("a few bytes", "whole", replaced(b"SQLite format 3\0"), refused=True)
    yield Damage("empty beside a WAL", "killed", cut("", 0), refused=True)
    yield Damage("of another program", "whole", asked("PRAGMA application_id = 7"), refused=True)
    yield Damage("of nobody", "whole", asked("PRAGMA application_id = 0"), refused=True)
    yield Damage("of a newer version", "whole", newer, refused=True)
    yield Damage("of a much newer version", "whole", asked("PRAGMA user_version = 900"), refused=True)
    for table in ("workflow", "event", "message", "stage"):
        yield Damage(f"without {table}", "whole", asked(f"DROP TABLE {table}"))
    yield Damage("facts that are no JSON", "whole", asked("UPDATE event SET data = substr(data, 3)"))
    yield Damage("texts that are none", "whole", asked("UPDATE stage SET context = CAST(x'FF7B7D' AS TEXT)"))
    yield Damage("facts that are lost", "whole", asked("DELETE FROM event WHERE sequence % 5 = 3"))
    yield Damage("definitions of something else", "whole", asked("UPDATE stage SET spec = '[1, 2]'"))


def newer(path: Path) -> None:
    """Say that a version to come has migrated the store."""
    asked("INSERT INTO migration VALUES ('0002_budgets.sql', 'x', 0); PRAGMA user_version = 2")(path)


def written(number: int, content: bytes) -> Callable[[Path], None]:
    """Overwrite a page."""
    return poked((number - 1) * PAGE, content)


def copied(number: int, source: int) -> Callable[[Path], None]:
    """Write one page in the place of another."""
    return lambda path: written(number, path.read_bytes()[(source - 1) * PAGE : source * PAGE])(path)


def flipped(number: int, bit: int) -> Callable[[Path], None]:
    """Turn a bit of a page."""
    return lambda path: _flip(path, (number - 1) * PAGE + bit // 8, bit % 8)


def flipped_in(suffix: str, where: float, bit: int) -> Callable[[Path], None]:
    """Turn a bit somewhere in a file beside the store."""

    def do(path: Path) -> None:
        file = Path(f"{path}{suffix}")
        _flip(file, int(where * file.stat().st_size), bit)

    return do


def _flip(file: Path, at: int, bit: int) -> None:
    with file.open("r+b") as handle:
        handle.seek(at)
        (byte,) = handle.read(1)
        handle.seek(at)
        handle.write(bytes([byte ^ 1 << bit]))


def poked(at: int, content: bytes) -> Callable[[Path], None]:
    """Overwrite a part of the file."""

    def do(path: Path) -> None:
        with path.open("r+b") as handle:
            handle.seek(at)
            handle.write(content)

    return do


def cut(suffix: str, part: float) -> Callable[[Path], None]:
    """Keep only the first part of a file."""

    def do(path: Path) -> None:
        file = Path(f"{path}{suffix}")
        with file.open("r+b") as handle:
            handle.truncate(int(part * file.stat().st_size))

    return do


def zeroed(suffix: str) -> Callable[[Path], None]:
    """Have a file beside the store be as long as it was, and hold nothing."""

    def do(path: Path) -> None:
        file = Path(f"{path}{suffix}")
        file.write_bytes(bytes(file.stat().st_size))

    return do


def removed(suffix: str) -> Callable[[Path], None]:
    """Take away a file beside the store."""
    return lambda path: Path(f"{path}{suffix}").unlink()


def beside(suffix: str, content: bytes) -> Callable[[Path], None]:
    """Put a file beside the store."""

    def do(path: Path) -> None:
        Path(f"{path}{suffix}").write_bytes(content)

    return do


def replaced(content: bytes) -> Callable[[Path], None]:
    """Put something else in the place of the store."""

    def do(path: Path) -> None:
        path.write_bytes(content)

    return do


def asked(sql: str) -> Callable[[Path], None]:
    """Have SQLite change the store."""

    def do(path: Path) -> None:
        connection = apsw.Connection(str(path))
        connection.execute(sql)
        connection.close()

    return do
