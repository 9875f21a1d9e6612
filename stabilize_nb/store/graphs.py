"""Checkpoints of graphs that go: those of threads, and what only they had (langgraph/saver.py writes them)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from stabilize_nb.store.codec import dumps

if TYPE_CHECKING:
    from stabilize_nb.store.connection import Connection


def delete_threads(connection: Connection, threads: Iterable[str]) -> None:
    """Delete threads with all that belongs to them."""
    those = list(threads)
    connection.run("delete_graph_checkpoints", {"threads": dumps(those)})
    forget_unused(connection, those)


def delete_threads_of(connection: Connection, workflow_ids: Iterable[str]) -> None:
    """Delete the threads that are named by the idempotency key of a task of these workflows."""
    found = connection.all("graph_threads_of_workflows", {"ids": dumps(list(workflow_ids))})
    if found:
        delete_threads(connection, [row[0] for row in found])


def forget_unused(connection: Connection, threads: Iterable[str]) -> None:
    """Delete writes and values of threads that belong to no checkpoint any more."""
    those = {"threads": dumps(list(threads))}
    connection.run("delete_graph_writes", those)
    connection.run("delete_graph_channels", those)
