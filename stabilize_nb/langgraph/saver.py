"""
Checkpoints of LangGraph's graphs in the store, so that a graph whose process died goes on at the nodes it had not done.

A value of a channel is kept once for each of its versions, however many checkpoints have it. Versions end in random
digits: two branches of one thread count alike and hold different values.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    CheckpointTuple,
    get_checkpoint_id,
    get_checkpoint_metadata,
)

from stabilize_nb.engine import Engine, store_url
from stabilize_nb.errors import ConfigError
from stabilize_nb.langgraph.serde import dumped, refuse_pickle, strict
from stabilize_nb.queue.processor.loop import in_thread
from stabilize_nb.store.codec import dumps
from stabilize_nb.store.database import Database
from stabilize_nb.store.graphs import delete_threads, forget_unused

if TYPE_CHECKING:
    import os
    from types import TracebackType

    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata
    from langgraph.checkpoint.serde.base import SerializerProtocol

    from stabilize_nb.store.connection import Connection

Params = dict[str, Any]


class StoreSaver(BaseCheckpointSaver[str]):
    """A checkpointer of LangGraph that keeps its checkpoints in a store of this package; close it again.

    `store`: an engine, whose store it is then, or what `Engine` takes. `types`: classes of which values in the state of
    a graph are, beside plain data, dates, paths and messages; nothing else is stored, and nothing is ever unpickled.
    `serde`: another serializer of LangGraph, such as one that encrypts. A thread that is named by the idempotency key
    of a stage goes when its run is deleted.
    """

    def __init__(
        self,
        store: Engine | str | os.PathLike[str] | None = None,
        *,
        types: Iterable[type] = (),
        serde: SerializerProtocol | None = None,
    ) -> None:
        if serde is not None and tuple(types):
            raise ConfigError("give StoreSaver either types or a serde, which knows its types itself, not both")
        refuse_pickle(serde)
        super().__init__(serde=serde or strict(types))
        if isinstance(store, Engine):
            self.database = store.database
            self.database.retain()
        else:
            self.database = Database.open(store_url(store))

    def close(self) -> None:
        """Give the store back."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- reading -------------------------------------------------------------------------------------

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the checkpoint that a config names, or the newest of its thread and namespace."""
        place = _place(config)
        wanted = {**place, "checkpoint_id": get_checkpoint_id(config)}
        return self.database.call_read(lambda connection: self._tuple(connection, place, wanted))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Iterate over checkpoints, newest first; `filter` says what their metadata have."""
        for one in self._listed(config, filter, before, limit):
            found = self.get_tuple(one)
            if found is not None:
                yield found

    def _listed(
        self,
        config: RunnableConfig | None,
        filter: Mapping[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> Sequence[RunnableConfig]:
        wanted: Params = {"before": get_checkpoint_id(before) if before else None}
        name = "graph_checkpoints"
        if config is not None:
            name, configurable = "graph_checkpoints_of", config["configurable"]
            wanted |= {**_place(config), "namespace": configurable.get("checkpoint_ns")}
            wanted["checkpoint_id"] = get_checkpoint_id(config)
        found: list[RunnableConfig] = []
        for thread_id, namespace, checkpoint_id, *meta in self.database.call_read(lambda c: c.all(name, wanted)):
            if len(found) == limit:
                break
            if not filter or filter.items() <= self._loaded(meta).items():
                found.append(_config(thread_id, namespace, checkpoint_id))
        return found

    def _tuple(self, connection: Connection, place: Params, wanted: Params) -> CheckpointTuple | None:
        row = connection.one("graph_checkpoint", wanted)
        if row is None:
            return None
        checkpoint_id, parent_id, kind, body, *meta = row
        here = {**place, "checkpoint_id": checkpoint_id}
        values = {channel: self._loaded(typed) for channel, *typed in connection.all("graph_channels", here)}
        writes = connection.all("graph_writes", here)
        thread = place["thread_id"], place["namespace"]
        checkpoint: Checkpoint = self._loaded((kind, body)) | {"channel_values": values}
        return CheckpointTuple(
            config=_config(*thread, checkpoint_id),
            checkpoint=checkpoint,
            metadata=self._loaded(meta),
            parent_config=_config(*thread, parent_id) if parent_id else None,
            pending_writes=[(task_id, channel, self._loaded(typed)) for task_id, channel, *typed in writes],
        )

    def _loaded(self, typed: Sequence[Any]) -> Any:
        kind, body = typed
        return self.serde.loads_typed((kind, body))

    # -- writing -------------------------------------------------------------------------------------

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Keep a checkpoint, with the values of channels that are new in it; raises ValueNotStorableError."""
        place = _place(config)
        meta = get_checkpoint_metadata(config, metadata)
        values: Mapping[str, Any] = checkpoint["channel_values"]
        rest = {name: part for name, part in checkpoint.items() if name != "channel_values"}
        kind, body = dumped(self.serde, "the checkpoint", rest)
        meta_kind, meta_body = dumped(self.serde, "the metadata of the checkpoint", meta)
        row = {
            **place, "checkpoint_id": checkpoint["id"], "parent_id": get_checkpoint_id(config),
            "run_id": meta.get("run_id"), "kind": kind, "body": body, "meta_kind": meta_kind, "meta": meta_body,
            "versions": dumps({name: str(version) for name, version in checkpoint["channel_versions"].items()}),
        }  # fmt: skip
        channels = [
            {**place, "channel": name, "version": str(version), **self._body(f"channel {name!r}", values[name])}
            for name, version in new_versions.items()
            if name in values
        ]

        def write(connection: Connection) -> None:
            connection.run("put_graph_checkpoint", row)
            connection.many("put_graph_channel", channels)

        self.database.call_write(write)
        return _config(place["thread_id"], place["namespace"], checkpoint["id"])

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Keep what a task of a graph has written after a checkpoint, each write once; raises ValueNotStorableError."""
        here = {**_place(config), "checkpoint_id": get_checkpoint_id(config), "task_id": task_id, "path": task_path}
        rows = [
            {
                **here, "number": WRITES_IDX_MAP.get(channel, at), "channel": channel,
                **self._body(f"what was written to {channel!r}", value),
            }
            for at, (channel, value) in enumerate(writes)
        ]  # fmt: skip
        self.database.call_write(lambda connection: connection.many("put_graph_write", rows))

    def _body(self, what: str, value: Any) -> Params:
        kind, body = dumped(self.serde, what, value)
        return {"kind": kind, "body": body}

    # -- deleting and copying ------------------------------------------------------------------------

    def delete_thread(self, thread_id: str) -> None:
        """Delete all checkpoints and writes of a thread."""
        self.database.call_write(lambda connection: delete_threads(connection, [thread_id]))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints and writes of runs of LangGraph; differences that later checkpoints need go too."""
        runs = {"runs": dumps([*run_ids])}

        def write(connection: Connection) -> None:
            threads = [row[0] for row in connection.all("graph_threads_of", runs)]
            connection.run("delete_graph_checkpoints_of_runs", runs)
            forget_unused(connection, threads)

        self.database.call_write(write)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy everything of a thread to another one."""
        both = {"source": source_thread_id, "target": target_thread_id}

        def write(connection: Connection) -> None:
            for table in ("checkpoints", "channels", "writes"):
                connection.run(f"copy_graph_{table}", both)

        self.database.call_write(write)

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """
        Delete checkpoints of threads: but for the newest of each namespace ("keep_latest"), or all ("delete").

        Ancestors that hold differences of which the newest consists are kept as well.
        """
        if strategy not in {"keep_latest", "delete"}:
            raise ConfigError(f"strategy {strategy!r} is not known; expected one of keep_latest, delete")

        def write(connection: Connection) -> None:
            if strategy == "delete":
                delete_threads(connection, thread_ids)
                return
            for thread_id in thread_ids:
                for (namespace,) in connection.all("graph_namespaces", {"thread_id": thread_id}):
                    place = {"thread_id": thread_id, "namespace": namespace}
                    kept = self._needed(connection, place)
                    connection.run("delete_graph_checkpoints_but", {**place, "kept": dumps(kept)})
            forget_unused(connection, thread_ids)

        self.database.call_write(write)

    def _needed(self, connection: Connection, place: Params) -> Sequence[str]:
        """
        Return the newest checkpoint of a namespace, with the ancestors of which its values consist.

        Metadata name the channels that are kept as differences: an ancestor that has the value of one ends the search.
        """
        found = self._tuple(connection, place, {**place, "checkpoint_id": None})
        needed: list[str] = []
        lacking = set(found.metadata.get("counters_since_delta_snapshot") or ()) if found else set()
        while found is not None:
            needed.append(found.checkpoint["id"])
            lacking -= found.checkpoint["channel_values"].keys()
            parent = get_checkpoint_id(found.parent_config) if lacking and found.parent_config else None
            found = self._tuple(connection, place, {**place, "checkpoint_id": parent}) if parent else None
        return needed

    # -- the same for coroutines ---------------------------------------------------------------------

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Do the same as `get_tuple`."""
        return await in_thread(partial(self.get_tuple, config))

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Do the same as `list`."""
        for one in await in_thread(partial(self._listed, config, filter, before, limit)):
            found = await self.aget_tuple(one)
            if found is not None:
                yield found

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Do the same as `put`."""
        return await in_thread(partial(self.put, config, checkpoint, metadata, new_versions))

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Do the same as `put_writes`."""
        await in_thread(partial(self.put_writes, config, writes, task_id, task_path))

    async def adelete_thread(self, thread_id: str) -> None:
        """Do the same as `delete_thread`."""
        await in_thread(partial(self.delete_thread, thread_id))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Do the same as `delete_for_runs`."""
        await in_thread(partial(self.delete_for_runs, run_ids))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Do the same as `copy_thread`."""
        await in_thread(partial(self.copy_thread, source_thread_id, target_thread_id))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Do the same as `prune`."""
        await in_thread(partial(self.prune, thread_ids, strategy=strategy))

    def get_next_version(self, current: str | None, channel: None) -> str:
        """Return the next version of a channel."""
        return f"{int((current or '0').partition('.')[0]) + 1:032}.{random.random():016}"  # noqa: S311 - no secret


def _place(config: RunnableConfig) -> Params:
    """Return thread and namespace of a config; raises ConfigError when it names no thread."""
    configurable = config.get("configurable") or {}
    if configurable.get("thread_id") is None:
        raise ConfigError(
            "a graph with a checkpointer is invoked for a thread, and the config names none: pass "
            '{"configurable": {"thread_id": "..."}}'
        )
    return {"thread_id": str(configurable["thread_id"]), "namespace": configurable.get("checkpoint_ns") or ""}


def _config(thread_id: str, namespace: str, checkpoint_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": namespace, "checkpoint_id": checkpoint_id}}
