"""
What a stage asks of a container engine, read from its context, and refused where it asks for what it may not have.

A container reaches the machine around it by privileges, the host's network, capabilities, folders and volumes, ports
that others can reach, and other people's containers. None of that is given by a context, which may hold what a model or
a person wrote: whoever registers the task says it in Python (`Allowed`).
"""

from __future__ import annotations

import ipaddress
import itertools
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from stabilize_nb.errors import ConfigError
from stabilize_nb.tasks.masking import Mask
from stabilize_nb.tasks.options import Options
from stabilize_nb.tasks.templates import as_text, in_arguments, places

#: Context keys of the task.
KEYS: Final = frozenset({
    "action", "image", "command", "entrypoint", "name", "user", "volumes", "ports", "network", "environment", "workdir",
    "memory", "cpus", "gpus", "cap_add", "cap_drop", "read_only", "remove", "detach", "platform", "pull", "labels",
    "privileged", "timeout", "path", "dockerfile", "max_output_size", "secrets", "continue_on_failure",
})  # fmt: skip
ACTIONS: Final = ("run", "exec", "build", "pull", "ps", "images", "logs", "stop", "rm")
#: What may be allowed, and what it lets a container do.
ALLOWABLE: Final[Mapping[str, str]] = {
    "privileged": "everything that the machine can",
    "capabilities": "what `cap_add` names",
    "host_network": "the network as the machine sees it, or as another container does",
    "public_ports": "listen at other addresses than 127.0.0.1",
    "volumes": "named volumes, which may hold what others wrote",
    "other_containers": "exec, logs, stop and rm of containers that no stage has started",
}
#: Labels of containers that a stage has started.
CALL_LABEL: Final = "stabilize-nb.call"
#: A reference of an image: registry, path, tag and digest.
_IMAGE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,400}")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_MEMORY: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,3})?[bkmgtBKMGT]?")
_CAPABILITY: Final = re.compile(r"[A-Z_]{1,40}")
_PORT: Final = re.compile(r"([0-9]{1,5})(/(tcp|udp|sctp))?")
#: What makes the next argument of a shell or an interpreter code.
_CODE: Final = re.compile(r"-[A-Za-z]*[ce]|--eval|--command")
_MOST_PORT: Final = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """What containers may have. `what`: words of ALLOWABLE; `folders`: of the machine, to mount or to build from."""

    what: frozenset[str] = frozenset()
    folders: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for word in sorted(self.what - ALLOWABLE.keys()):
            raise ConfigError(f"DockerTask cannot allow {word!r}; known are {', '.join(ALLOWABLE)}")

    def check(self, place: str, word: str, asked: str) -> None:
        """Raise ConfigError unless something is allowed."""
        if word not in self.what:
            raise ConfigError(
                f"{place} asks for {asked}, which is not allowed: a container would have {ALLOWABLE[word]}; whoever "
                f"trusts it says so where the task is registered: DockerTask(allow=[{word!r}])"
            )

    def folder(self, place: str, given: str) -> str:
        """Return a folder of the machine, its links followed; raises ConfigError for one that is not allowed."""
        found = Path(os.path.realpath(Path(given).expanduser()))
        if not any(found.is_relative_to(os.path.realpath(Path(each).expanduser())) for each in self.folders):
            known = ", ".join(map(repr, self.folders)) or "none"
            raise ConfigError(
                f"{place} asks for the folder {given!r}, which is not allowed (allowed: {known}); whoever trusts it "
                f"says so where the task is registered: DockerTask(folders=[{str(found)!r}])"
            )
        return str(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mounted:
    """A folder of the machine, or a named volume, in a container."""

    source: str
    target: str
    is_folder: bool
    is_read_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerOrder:
    """A container as it is to be; `ports`: port of the container -> (address, port) of the machine."""

    image: str
    command: list[str]
    entrypoint: list[str] | None
    environment: dict[str, str]
    labels: dict[str, str]
    mounts: list[Mounted] = field(default_factory=list)
    ports: dict[str, tuple[str, int]] = field(default_factory=dict)
    network: str | None = None
    user: str | None = None
    workdir: str | None = None
    memory: str | None = None
    cpus: float | None = None
    gpus: int | None = None
    cap_add: list[str] = field(default_factory=list)
    cap_drop: list[str] = field(default_factory=list)
    is_read_only: bool = False
    is_privileged: bool = False
    platform: str | None = None


def container_order(options: Options, allowed: Allowed) -> ContainerOrder:
    """Return the container that a stage asks for; raises ConfigError."""
    place = options.place
    if is_privileged := options.flag("privileged"):
        allowed.check(place, "privileged", "privileged=True")
    added = _words(options, "cap_add", _CAPABILITY)
    if added:
        allowed.check(place, "capabilities", f"cap_add={added}")
    entrypoint = options.get("entrypoint")
    return ContainerOrder(
        image=image(options), command=argv(options, "command"),
        entrypoint=None if entrypoint is None else argv(options, "entrypoint"), environment=environment(options),
        labels=_labels(options), mounts=_mounts(options, allowed), ports=_ports(options, allowed),
        network=_network(options, allowed), user=options.text("user"), workdir=options.text("workdir"),
        memory=_matching(options, "memory", _MEMORY, "bytes, or text such as '512m', is expected"),
        cpus=_number(options, "cpus"), gpus=_gpus(options), cap_add=added,
        cap_drop=_words(options, "cap_drop", _CAPABILITY), is_read_only=options.flag("read_only"),
        is_privileged=is_privileged, platform=options.text("platform"),
    )  # fmt: skip


def action(options: Options) -> str:
    """Return what is to be done."""
    found = options.get("action", "run")
    if found not in ACTIONS:
        raise options.wrong("action", f"one of {', '.join(ACTIONS)} is expected")
    return str(found)


def image(options: Options) -> str:
    """Return the image; raises ConfigError for text that is no reference of one."""
    if options.get("image") is None:
        raise ConfigError(
            f"{options.place}: No 'image' specified; give the reference of one, such as 'python:3.13-slim'"
        )
    found = _matching(options, "image", _IMAGE, "the reference of an image is expected, such as 'python:3.13-slim'")
    return str(found)


def container_name(options: Options) -> str | None:
    """Return the `name`; None when the stage gives none."""
    return _matching(options, "name", _NAME, "letters, digits, '_', '.' and '-' are expected, beginning with no sign")


def argv(options: Options, key: str) -> list[str]:
    """
    Return arguments with the values in their places; no shell reads them. Text is split as a shell would split it.

    Raises ConfigError also for a place in code: what a shell gets behind `-c` is read again, so no value stands there.
    """
    parts = _parts(options, key)
    before = _parts(options, "entrypoint")[-1:] if key == "command" else []
    for flag, code in itertools.pairwise([*before, *parts]):
        if _CODE.fullmatch(flag) and (names := [each for each in places([code]) if each in options.context]):
            raise ConfigError(
                f"{options.place}: {key} has {{{names[0]}}} in code behind {flag!r}, where its value would be run; "
                f"give it in the environment, or as an argument: ['sh', '-c', 'cat \"$1\"', '--', '{{{names[0]}}}']"
            )
    return in_arguments(parts, options.context, KEYS)


def _parts(options: Options, key: str) -> list[str]:
    given = options.get(key)
    if given is None:
        return []
    try:
        parts = shlex.split(given) if isinstance(given, str) else given
    except ValueError as error:
        raise options.wrong(key, f"its quotes do not match ({error})") from None
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise options.wrong(key, "a list of texts is expected, or one text")
    if any("\0" in part for part in parts):
        raise options.wrong(key, "it holds a NUL character, which no argument can")
    return parts


def _matching(options: Options, key: str, pattern: re.Pattern[str], expected: str) -> str | None:
    value = options.get(key)
    if value is None:
        return None
    text = str(value) if type(value) is int else value
    if not isinstance(text, str) or not pattern.fullmatch(text):
        raise options.wrong(key, expected)
    return text


def _words(options: Options, key: str, pattern: re.Pattern[str]) -> list[str]:
    found = options.names(key)
    if not all(map(pattern.fullmatch, found)):
        raise options.wrong(key, "a list of names in capitals is expected, such as ['NET_ADMIN']")
    return found


def _number(options: Options, key: str) -> float | None:
    value = options.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 10_000):  # noqa: PLR2004 - cores
        raise options.wrong(key, "a number above 0 is expected")
    return value


def _gpus(options: Options) -> int | None:
    value = options.get("gpus")
    if value in (None, "all"):
        return None if value is None else -1
    return options.whole("gpus", 0, 1, 1_000)


def _mapping(options: Options, key: str) -> dict[str, Any]:
    value = options.get(key) or {}
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise options.wrong(key, "a mapping is expected")
    return dict(value)


def environment(options: Options) -> dict[str, str]:
    """Return the variables of a container; raises ConfigError."""
    given = _mapping(options, "environment")
    for name in given:
        if not name or "=" in name or "\0" in name:
            raise options.wrong("environment", f"{name!r} is no name of a variable")
    return {name: as_text(name, options.filled(value)) for name, value in given.items()}


def mask(options: Options) -> Mask:
    """Return what hides the values of `secrets`, which are names in the environment or in the context."""
    own = environment(options)
    names = options.names("secrets")
    found = [own[name] for name in names if name in own]
    found += [as_text(name, options.context[name]) for name in names if options.context.get(name) is not None]
    return Mask(found)


def _labels(options: Options) -> dict[str, str]:
    given = _mapping(options, "labels")
    if any(name.startswith("stabilize-nb.") for name in given):
        raise options.wrong("labels", "names that begin with 'stabilize-nb.' are the engine's own")
    return {name: as_text(name, value) for name, value in given.items()}


def _network(options: Options, allowed: Allowed) -> str | None:
    found = options.text("network")
    if found is not None and (found == "host" or found.startswith("container:")):
        allowed.check(options.place, "host_network", f"network={found!r}")
    elif found is not None and not _NAME.fullmatch(found):
        raise options.wrong("network", "the name of a network is expected, or 'none'")
    return found


def _ports(options: Options, allowed: Allowed) -> dict[str, tuple[str, int]]:
    found = {}
    for inside, outside in _mapping(options, "ports").items():
        address, _, number = ("", "", outside) if type(outside) is int else str(outside).rpartition(":")
        address = address or "127.0.0.1"
        if not _PORT.fullmatch(inside) or not _is_port(number):
            raise options.wrong("ports", "such as {'80/tcp': 8080} is expected, or {'80/tcp': '127.0.0.1:8080'}")
        try:
            is_local = ipaddress.ip_address(address).is_loopback
        except ValueError:
            raise options.wrong("ports", f"{address!r} is no address") from None
        if not is_local:
            allowed.check(options.place, "public_ports", f"the port {outside!r}")
        found[inside] = (address, int(number))
    return found


def _is_port(number: Any) -> bool:
    return str(number).isascii() and str(number).isdecimal() and 0 <= int(number) <= _MOST_PORT


def _mounts(options: Options, allowed: Allowed) -> list[Mounted]:
    return [
        _mounted(options, allowed, source, given if isinstance(given, Mapping) else {"bind": given})
        for source, given in _mapping(options, "volumes").items()
    ]


def _mounted(options: Options, allowed: Allowed, source: str, given: Mapping[str, Any]) -> Mounted:
    target, mode = given.get("bind"), given.get("mode", "rw")
    if not isinstance(target, str) or not target.startswith("/") or "\0" in target or mode not in ("ro", "rw"):
        raise options.wrong("volumes", "such as {'/data': {'bind': '/in', 'mode': 'ro'}} is expected")
    is_folder = source.startswith((".", "/", "~")) or "/" in source
    if is_folder:
        source = allowed.folder(options.place, source)
    elif not _NAME.fullmatch(source):
        raise options.wrong("volumes", "the name of a volume or the path of a folder is expected")
    else:
        allowed.check(options.place, "volumes", f"the volume {source!r}")
    return Mounted(source=source, target=target, is_folder=is_folder, is_read_only=mode == "ro")
