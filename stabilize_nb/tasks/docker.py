"""
DockerTask: a container as a stage.

The container outlives the process that started it. Its name and a label follow from the call of the stage, so when the
process dies the next one finds it, takes up what it has printed from the beginning, and waits for its end: nothing is
run twice. When the time is up, or the result is not wanted any more, the container is killed and removed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from stabilize_nb.errors import ConfigError, PermanentError, TransientError
from stabilize_nb.models.ids import new_id
from stabilize_nb.tasks.command import CommandTask, ended_with
from stabilize_nb.tasks.docker_engine import Containers, ImageMissingError, Stop
from stabilize_nb.tasks.docker_order import (
    CALL_LABEL,
    KEYS,
    Allowed,
    action,
    argv,
    container_name,
    container_order,
    environment,
    image,
    mask,
)
from stabilize_nb.tasks.options import Options
from stabilize_nb.tasks.process import Kept, in_own_thread, until_stopped
from stabilize_nb.tasks.result import TaskResult

if TYPE_CHECKING:
    from stabilize_nb.models.stage import StageExecution
    from stabilize_nb.tasks.docker_order import ContainerOrder

DEFAULT_TIMEOUT: Final = 300
DEFAULT_CAP: Final = 10_000_000
_MOST: Final = 1_000_000_000
#: Seconds that the threads of a container that was ended have to notice.
_LINGER: Final = 5
PULLS: Final = ("missing", "always", "never")


class DockerTask(CommandTask):
    """Does what the option `action` says at a container engine; "run" (the default) runs a container to its end.

    Options, or keys of the context: `image`, `command` (a list of arguments, or text that is split into such; no shell
    reads it; `{key}` is a value of the context), `entrypoint`, `name`, `user`, `volumes`, `ports`, `network`,
    `environment`, `workdir`, `memory`, `cpus`, `gpus`, `cap_add`, `cap_drop`, `read_only`, `remove` (True), `detach`,
    `platform`, `pull` ("missing"), `labels`, `timeout` (300 s), `max_output_size` (10 MB of each stream), `secrets`
    (names in `environment` or the context whose values are masked), `continue_on_failure`; for "build" `path` and
    `dockerfile`.
    Outputs: stdout, stderr, exit_code, container_id, image_id. docs/docker.md has the whole.

    `allow`: what containers may have beside their own, words of ALLOWABLE; `folders`: of the machine, which they may
    mount or be built from. `base_url`: where the engine is; None: where DOCKER_HOST says.
    """

    keys = KEYS
    fillable = ("image", "environment")

    def __init__(
        self, *, allow: Iterable[str] = (), folders: Iterable[str] = (), base_url: str | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self._allowed = Allowed(what=frozenset(allow), folders=tuple(folders))
        self._base_url = base_url

    async def execute(self, stage: StageExecution) -> TaskResult:
        """Do what is asked; what the engine refuses fails the stage, or lets it go on where it says so."""
        options = Options(stage, self.options)
        job = _Job(options, stage, self._allowed, self._base_url)
        try:
            what = action(options)
            job.prepare(what)
            return await until_stopped(lambda stop: job.done(what, stop))
        except (ConfigError, PermanentError) as error:
            return job.failed(_placed(options, error), {})


def _placed(options: Options, error: Exception) -> str:
    text = str(error)
    return text if text.startswith(options.place) else f"{options.place}: {text}"


class _Job:
    """One action of one stage: what it asks for, what has come of it, and how it is broken off."""

    def __init__(self, options: Options, stage: StageExecution, allowed: Allowed, base_url: str | None) -> None:
        self.options = options
        self.stage = stage
        self.allowed = allowed
        self.base_url = base_url
        self.stop = Stop()
        self.call = new_id() if stage.runtime is None else stage.idempotency_key
        digest = hashlib.blake2b(self.call.encode(), digest_size=10).hexdigest()
        self.name = f"stabilize-nb-{digest}"
        self.begins = False  # whether a container is its own, to be ended with it
        self.order: ContainerOrder | None = None

    def prepare(self, what: str) -> None:
        """Look at everything that is asked for; raises ConfigError before the engine hears of it."""
        options = self.options
        self.limit = options.seconds("timeout", DEFAULT_TIMEOUT)
        self.remove = options.flag("remove", True)
        self.detach = options.flag("detach")
        self.pull = options.get("pull", "missing")
        if self.pull not in PULLS and not isinstance(self.pull, bool):
            raise options.wrong("pull", f"one of {', '.join(PULLS)} is expected")
        cap = options.whole("max_output_size", DEFAULT_CAP, 0, _MOST)
        masked = mask(options)
        self.stdout, self.stderr = Kept(cap, masked, "stdout"), Kept(cap, masked, "stderr")
        given = container_name(options)
        if what == "run":
            self.begins = True
            self.name = given or self.name
            self.order = container_order(options, self.allowed)
        elif what in ("exec", "logs", "stop", "rm"):
            if given is None:
                raise ConfigError(f"{options.place}: No 'name' specified; {what} needs the name of a container")
            self.name = given

    async def done(self, what: str, stop: asyncio.Event) -> TaskResult:
        """Do it, and break it off when the time is up or nobody wants it."""
        work = asyncio.ensure_future(in_own_thread(partial(self._carried_out, what)))
        stopped = asyncio.ensure_future(stop.wait())
        finished, _ = await asyncio.wait([work, stopped], timeout=self.limit, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if work in finished:
            return work.result()
        await in_own_thread(self._break_off)
        await asyncio.wait([work], timeout=_LINGER)
        if work.done() and not work.cancelled():
            work.exception()
        left = "" if self.begins else "; what it began goes on in the engine, whose interface cannot end it"
        return self.failed(f"{self.options.place}: {what} timed out after {self.limit:g} s{left}", self._outputs(None))

    def failed(self, why: str, outputs: dict[str, Any]) -> TaskResult:
        """Return the result of something that failed; what it printed is kept."""
        if self.options.get("continue_on_failure") is True:
            return TaskResult.failed_continue(why, outputs)
        return TaskResult.terminal(why, outputs)

    def _outputs(self, code: int | None, container: str = "", image_id: str = "") -> dict[str, Any]:
        for stream in (self.stdout, self.stderr):
            stream.flush()
        said, complained = (text.data().decode("utf-8", "replace") for text in (self.stdout, self.stderr))
        return {
            "stdout": said.replace("\0", "\\0").strip(), "stderr": complained.replace("\0", "\\0").strip(),
            "exit_code": code, "container_id": container, "image_id": image_id,
        }  # fmt: skip

    # -- in a thread ----------------------------------------------------------------------------------

    def _carried_out(self, what: str) -> TaskResult:
        engine = Containers(self.base_url)
        try:
            does: dict[str, Callable[[Containers], TaskResult]] = {
                "run": self._run, "exec": self._exec, "build": self._build, "pull": self._pull, "ps": self._ps,
                "images": self._images, "logs": self._logs, "stop": self._stop, "rm": self._rm,
            }  # fmt: skip
            return does[what](engine)
        finally:
            engine.close()

    def _break_off(self) -> None:
        """End the container; one that is just being made is ended by its maker."""
        with self.stop.lock:
            self.stop.is_set = True
        if not self.begins:
            return
        engine = Containers(self.base_url)
        try:
            if engine.own(self.name, self.call) is not None:
                engine.end(self.name, remove=self.remove)
        finally:
            engine.close()

    def _run(self, engine: Containers) -> TaskResult:
        id_ = self._begun(engine)
        if self.detach:
            return TaskResult.success(self._outputs(None, id_, engine.found(id_)["Image"]))  # type: ignore[index]  # it was just there
        engine.follow(id_, {"stdout": self.stdout.data_received, "stderr": self.stderr.data_received})
        ended = engine.found(id_)
        if ended is None:
            raise PermanentError(f"container {self.name!r} was removed before its end, by somebody else")
        if ended["State"]["Running"]:
            raise TransientError(f"the log of container {self.name!r} broke off; it is taken up again")
        code = int(ended["State"]["ExitCode"])
        outputs = self._outputs(code, id_, ended["Image"])
        if self.remove:
            engine.end(id_, remove=True)
        if code == 0:
            return TaskResult.success(outputs)
        why = "ran out of memory" if ended["State"].get("OOMKilled") else ended_with(code, outputs["stderr"])
        return self.failed(f"{self.options.place}: the container {why}", outputs)

    def _begun(self, engine: Containers) -> str:
        """Return the id of the container of this call, which is running or has ended."""
        found = engine.own(self.name, self.call)
        if found is not None and found["State"]["Status"] != "created":
            print(f"took up container {self.name}, which is {found['State']['Status']}")  # noqa: T201 - a line of the log
            return str(found["Id"])
        id_ = self._created(engine) if found is None else str(found["Id"])
        with self.stop.lock:
            if self.stop.is_set:
                engine.end(id_, remove=True)
                raise PermanentError("nobody wants the container any more")
            engine.start(id_)
        return id_

    def _created(self, engine: Containers) -> str:
        assert self.order is not None, "prepare has read it"  # noqa: S101 - tells mypy
        if self.pull in ("always", True):
            engine.pull(self.order.image, self.order.platform, self._tell)
        try:
            return engine.create(self.name, self.call, self.order)
        except ImageMissingError:
            if self.pull != "missing":
                raise
        engine.pull(self.order.image, self.order.platform, self._tell)
        return engine.create(self.name, self.call, self.order)

    def _tell(self, fraction: float | None, message: str) -> None:
        if self.stage.runtime is not None:
            self.stage.progress(fraction, message)

    def _exec(self, engine: Containers) -> TaskResult:
        self._theirs(engine)
        settings = {"environment": environment(self.options), "workdir": self.options.text("workdir")}
        if user := self.options.text("user"):
            settings["user"] = user
        command = argv(self.options, "command")
        if not command:
            raise ConfigError(f"{self.options.place}: No 'command' specified; exec needs one")
        takers = {"stdout": self.stdout.data_received, "stderr": self.stderr.data_received}
        code = engine.execute(self.name, command, settings, takers)
        outputs = self._outputs(code, self.name)
        if code == 0:
            return TaskResult.success(outputs)
        return self.failed(f"{self.options.place}: the command {ended_with(code or 0, outputs['stderr'])}", outputs)

    def _theirs(self, engine: Containers) -> None:
        """Raise for a container that may not be touched."""
        if "other_containers" in self.allowed.what:
            return
        found = engine.found(self.name)
        if found is not None and CALL_LABEL not in (found["Config"].get("Labels") or {}):
            self.allowed.check(self.options.place, "other_containers", f"the container {self.name!r}")

    def _build(self, engine: Containers) -> TaskResult:
        path = self.options.text("path")
        if path is None:
            raise ConfigError(f"{self.options.place}: No 'path' specified; build needs the folder of the image")
        folder = self.allowed.folder(self.options.place, path)
        dockerfile = self.options.text("dockerfile")
        if dockerfile is not None and (dockerfile.startswith("/") or ".." in dockerfile.split("/")):
            raise self.options.wrong("dockerfile", "a file inside of 'path' is expected")
        tag = image(self.options) if self.options.get("image") is not None else None
        built = ""
        for event in engine.build(folder, tag, dockerfile, self.options.text("platform")):
            if event.get("error"):
                why = f"{self.options.place}: the image could not be built: {event['error']}"
                return self.failed(why, self._outputs(None))
            self.stdout.data_received(str(event.get("stream", "")).encode())
            built = (event.get("aux") or {}).get("ID", built)
        return TaskResult.success(self._outputs(0, "", built))

    def _pull(self, engine: Containers) -> TaskResult:
        wanted = image(self.options)
        engine.pull(wanted, self.options.text("platform"), self._tell)
        return TaskResult.success(self._outputs(0, "", engine.image_id(wanted)))

    def _ps(self, engine: Containers) -> TaskResult:
        return self._lines(engine.containers(only_own="other_containers" not in self.allowed.what))

    def _images(self, engine: Containers) -> TaskResult:
        return self._lines(engine.images())

    def _lines(self, found: Iterable[dict[str, Any]]) -> TaskResult:
        for each in found:
            self.stdout.data_received(f"{json.dumps(each)}\n".encode())
        return TaskResult.success(self._outputs(0))

    def _logs(self, engine: Containers) -> TaskResult:
        self._theirs(engine)
        for name, stream in (("stdout", self.stdout), ("stderr", self.stderr)):
            stream.data_received(engine.log(self.name, name))
        return TaskResult.success(self._outputs(0, self.name))

    def _stop(self, engine: Containers) -> TaskResult:
        self._theirs(engine)
        engine.halt(self.name)
        return TaskResult.success(self._outputs(0, self.name))

    def _rm(self, engine: Containers) -> TaskResult:
        self._theirs(engine)
        engine.end(self.name, remove=True)
        return TaskResult.success(self._outputs(0, self.name))
