"""
What is asked of a container engine; every call here blocks.

A container has a name and a label that follow from the stage that asks for it. Whoever asks again, because the process
died in between or the connection broke, finds the container of the first time, and takes it up where it is.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stabilize_nb.errors import ConfigError, PermanentError, TransientError
from stabilize_nb.tasks.docker_order import CALL_LABEL

if TYPE_CHECKING:
    import docker

    from stabilize_nb.tasks.docker_order import ContainerOrder

#: Seconds for what an engine answers at once.
PATIENCE: Final = 60
_SERVER_ERRORS: Final = 500
_CONFLICT: Final = 409


def library() -> Any:
    """Return the SDK; raises ConfigError where it is not installed."""
    try:
        import docker  # noqa: PLC0415 - an optional dependency
    except ImportError:
        msg = "containers need the docker SDK, which is not installed: pip install 'stabilize-nb[tasks]'"
        raise ConfigError(msg) from None
    return docker


@contextmanager
def told(what: str) -> Iterator[None]:
    """Let what an engine refuses be a PermanentError, and a connection that breaks a TransientError."""
    import requests  # noqa: PLC0415 - comes with the SDK
    import urllib3  # noqa: PLC0415 - so does this

    sdk = library()
    try:
        yield
    except sdk.errors.APIError as error:
        said = f"{what}: {error.explanation or error}"
        is_server = error.response is not None and error.response.status_code >= _SERVER_ERRORS
        raise (TransientError if is_server else PermanentError)(said) from error
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        msg = f"{what}: the connection to the container engine broke ({type(error).__name__})"
        raise TransientError(msg) from error
    except sdk.errors.DockerException as error:
        raise PermanentError(f"{what}: {error}") from error


class Containers:
    """The containers of one engine: at `base_url`, or where DOCKER_HOST says."""

    def __init__(self, base_url: str | None = None) -> None:
        sdk = library()
        where = sdk.utils.kwargs_from_env() if base_url is None else {"base_url": base_url}
        try:
            self.api: docker.APIClient = sdk.APIClient(version="auto", timeout=PATIENCE, **where)
        except sdk.errors.DockerException as error:
            place = where.get("base_url") or "unix:///var/run/docker.sock"
            msg = f"no container engine answers at {place}: start it, or say by DOCKER_HOST where it is ({error})"
            raise PermanentError(msg) from error
        self._streams: docker.APIClient = sdk.APIClient(version=self.api.api_version, timeout=None, **where)
        self._missing = sdk.errors.NotFound

    def close(self) -> None:
        """Close the connections."""
        self.api.close()
        self._streams.close()

    # -- containers -----------------------------------------------------------------------------------

    def found(self, name: str) -> Mapping[str, Any] | None:
        """Return what the engine says of a container; None when there is none of that name."""
        with told(f"container {name!r}"):
            try:
                return dict(self.api.inspect_container(name))
            except self._missing:
                return None

    def own(self, name: str, call: str | None) -> Mapping[str, Any] | None:
        """
        Return the container of a name if a call has made it (None: any call); None when there is none.

        Raises PermanentError for a container of somebody else.
        """
        found = self.found(name)
        label = None if found is None else (found["Config"].get("Labels") or {}).get(CALL_LABEL)
        if found is not None and (label is None if call is None else label != call):
            msg = f"container {name!r} is there already and was not started by this stage; choose another name"
            raise PermanentError(msg)
        return found

    def create(self, name: str, call: str, order: ContainerOrder) -> str:
        """Make a container and return its id; raises ImageMissingError."""
        ports: dict[int | str, Any] = dict(order.ports.items())
        host = self.api.create_host_config(
            port_bindings=ports, mounts=[_mount(mounted) for mounted in order.mounts] or None,
            privileged=order.is_privileged, network_mode=order.network, cap_add=order.cap_add or None,
            cap_drop=order.cap_drop or None, read_only=order.is_read_only, mem_limit=order.memory,
            nano_cpus=None if order.cpus is None else round(order.cpus * 1e9), init=True,
            device_requests=_gpus(order.gpus), security_opt=None if order.is_privileged else ["no-new-privileges"],
        )  # fmt: skip
        with told(f"container of image {order.image!r}"):
            try:
                made = self.api.create_container(
                    order.image, order.command, name=name, entrypoint=order.entrypoint, user=order.user,
                    environment=order.environment, working_dir=order.workdir, platform=order.platform,
                    labels={**order.labels, CALL_LABEL: call}, host_config=host,
                    ports=[tuple(port.split("/")) for port in order.ports] or None,
                )  # fmt: skip
            except self._missing as error:
                raise ImageMissingError(order.image) from error
        return str(made["Id"])

    def start(self, id_: str) -> None:
        """Start a container that has not been started."""
        with told(f"container {id_[:12]}"):
            self.api.start(id_)

    def follow(self, id_: str, takers: Mapping[str, Callable[[bytes], None]]) -> None:
        """
        Give what a container prints to a taker for each of "stdout" and "stderr", from its beginning to its end.

        One that is gone has printed all that it will.
        """
        with ThreadPoolExecutor(len(takers), "stabilize-docker") as pool, told(f"log of container {id_[:12]}"):
            pumps = [
                pool.submit(contextvars.copy_context().run, self._pump, id_, stream, taker)
                for stream, taker in takers.items()
            ]
            for pump in pumps:
                pump.result()

    def _pump(self, id_: str, stream: str, taker: Callable[[bytes], None]) -> None:
        wanted = {"stdout": stream == "stdout", "stderr": stream == "stderr"}
        with suppress(self._missing):
            for part in self._streams.logs(id_, stream=True, follow=True, **wanted):
                taker(part)

    def end(self, name: str, *, remove: bool) -> None:
        """Kill a container, if there is one, and remove it."""
        with told(f"container {name!r}"):
            try:
                if remove:
                    self.api.remove_container(name, force=True, v=True)
                else:
                    self.api.kill(name)
            except self._missing:
                return
            except library().errors.APIError as error:  # it has ended by itself, or is being removed already
                if error.response is None or error.response.status_code != _CONFLICT:
                    raise

    def halt(self, name: str) -> None:
        """Ask a container to end, and kill it when it does not within 10 s."""
        with told(f"container {name!r}"):
            self.api.stop(name)

    def log(self, name: str, stream: str) -> bytes:
        """Return what a container has printed to "stdout" or "stderr"."""
        with told(f"log of container {name!r}"):
            return bytes(self.api.logs(name, stdout=stream == "stdout", stderr=stream == "stderr"))

    def containers(self, *, only_own: bool) -> list[dict[str, Any]]:
        """Return what containers there are, those that have ended included; `only_own`: that stages have started."""
        wanted = {"label": CALL_LABEL} if only_own else {}
        with told("containers"):
            found = self.api.containers(all=True, filters=wanted)
        names = {each["Id"]: ", ".join(name.lstrip("/") for name in each["Names"]) for each in found}
        return [
            {"id": each["Id"], "name": names[each["Id"]], "image": each["Image"], "state": each["State"]}
            for each in found
        ]

    # -- images ---------------------------------------------------------------------------------------

    def pull(self, image: str, platform: str | None, tell: Callable[[float | None, str], None]) -> None:
        """Fetch an image; `tell` hears how far it is."""
        with told(f"image {image!r} could not be pulled"):
            layers = _Layers(tell)
            for event in self._streams.pull(image, stream=True, decode=True, platform=platform):
                if event.get("error"):
                    raise PermanentError(f"image {image!r} could not be pulled: {event['error']}")
                layers.take(event)

    def build(self, folder: str, tag: str | None, dockerfile: str | None, platform: str | None) -> Iterator[Any]:
        """Build an image of a folder; yields what the engine tells."""
        ignored = Path(folder, ".dockerignore")
        lines = ignored.read_text().splitlines() if ignored.is_file() else []
        left_out = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        with (
            told(f"image of {folder!r} could not be built"),
            library().utils.build.tar(folder, exclude=left_out, dockerfile=(dockerfile or "Dockerfile", None)) as sent,
        ):
            yield from self._streams.build(
                fileobj=sent, custom_context=True, tag=tag, dockerfile=dockerfile, platform=platform, rm=True,
                decode=True,
            )  # fmt: skip

    def images(self) -> list[dict[str, Any]]:
        """Return what images there are."""
        with told("images"):
            found = self.api.images()
        return [{"id": each["Id"], "tags": each["RepoTags"] or [], "size": each["Size"]} for each in found]

    def image_id(self, image: str) -> str:
        """Return the id of an image that is there."""
        with told(f"image {image!r}"):
            return str(self.api.inspect_image(image)["Id"])  # type: ignore[no-untyped-call]  # the SDK has no types

    # -- commands in containers -----------------------------------------------------------------------

    def _frames(self, connection: Any) -> Iterator[tuple[int, bytes]]:
        """Yield what comes through a connection, which the SDK hands over and leaves open."""
        try:
            yield from library().utils.socket.frames_iter(connection, tty=False)
        finally:
            connection._response.close()  # noqa: SLF001 - where the SDK keeps what has to be closed
            connection.close()

    def execute(self, name: str, argv: list[str], settings: Mapping[str, Any], takers: Mapping[str, Any]) -> int | None:
        """Run a command in a container that is there, and return its code."""
        with told(f"command in container {name!r}"):
            made = self.api.exec_create(name, argv, **settings)["Id"]
            for number, data in self._frames(self._streams.exec_start(made, socket=True)):
                takers["stdout" if number == 1 else "stderr"](data)
            code = self.api.exec_inspect(made)["ExitCode"]
        return None if code is None else int(code)


class ImageMissingError(PermanentError):
    """The engine does not have an image."""

    def __init__(self, image: str) -> None:
        super().__init__(f"image {image!r} is not there; pull='missing' (the default) or pull='always' fetches it")


class Stop:
    """Whether a container is not wanted any more. Who begins one looks, and who ends one says so, in any order."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.is_set = False


class _Layers:
    """How much of an image is there, told whenever it is a hundredth more."""

    def __init__(self, tell: Callable[[float | None, str], None]) -> None:
        self._tell = tell
        self._bytes: dict[str, tuple[int, int]] = {}
        self._told = -1

    def take(self, event: Mapping[str, Any]) -> None:
        """Take in one line of what the engine tells."""
        detail = event.get("progressDetail") or {}
        if event.get("id") and detail.get("total"):
            self._bytes[event["id"]] = (int(detail.get("current", 0)), int(detail["total"]))
        total = sum(whole for _, whole in self._bytes.values())
        part = sum(min(pair) for pair in self._bytes.values())
        hundredth = 100 * part // total if total else -1
        if hundredth != self._told:
            self._told = hundredth
            self._tell(part / total, f"pulling: {part:,} of {total:,} bytes")


def _mount(mounted: Any) -> Any:
    kind = "bind" if mounted.is_folder else "volume"
    return library().types.Mount(mounted.target, mounted.source, type=kind, read_only=mounted.is_read_only)


def _gpus(count: int | None) -> list[Any] | None:
    if count is None:
        return None
    return [library().types.DeviceRequest(count=count, capabilities=[["gpu"]])]
