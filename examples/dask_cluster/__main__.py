"""`python -m examples.dask_cluster`: 64 stages on a Dask cluster, of which a worker is killed in the middle."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import click
import dask
from distributed import Client, LocalCluster

from examples.dask_cluster.primes import flow, sieved
from stabilize_nb import Engine

if TYPE_CHECKING:
    from stabilize_nb import Run

#: Seconds for everything.
PATIENCE = 300.0


@click.command()
@click.option("--parts", default=64, show_default=True, help="Stages that run beside each other.")
@click.option("--width", default=4_000, show_default=True, help="Numbers that each looks at.")
@click.option("--workers", default=2, show_default=True, help="Processes of the cluster.")
@click.option("--kill/--no-kill", default=True, help="Whether one of them is killed while it works.")
@click.option("--db", default=":memory:", show_default=True, help="The store.")
def main(parts: int, width: int, workers: int, db: str, *, kill: bool) -> None:
    """Count primes on a cluster."""
    dask.config.set({"distributed.scheduler.allowed-failures": 0})  # what is lost is begun again by the engine
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster,
        Client(cluster) as client,
        Engine(db, executor={"cluster": client.get_executor()}, workers=2 * workers) as engine,
    ):
        run = engine.start(flow, parts=parts, width=width)
        if kill:
            click.echo(f"killed the worker with pid {kill_one(client)}")
        found = run.result(PATIENCE)
        lost = causes(run)
    right = "right" if found == sieved(parts * width) else "WRONG"
    click.echo(f"{parts} stages on {workers} workers: {found} primes below {parts * width}, which is {right}")
    click.echo(f"{len(lost)} bodies were lost and begun again" + (f": {lost[0].partition(',')[0]}" if lost else ""))


def kill_one(client: Client) -> int:
    """Kill a process of the cluster while it works, and return its pid."""
    pids = client.run(os.getpid)
    while not (busy := [worker for worker, bodies in client.processing().items() if bodies]):
        time.sleep(0.01)
    os.kill(pids[busy[0]], signal.SIGKILL)
    return int(pids[busy[0]])


def causes(run: Run) -> list[str]:
    """Return why bodies were begun again."""
    events = run.events
    return [each["error"] for each in events[events["type"] == "task.retried"]["data"]]


if __name__ == "__main__":
    main()
