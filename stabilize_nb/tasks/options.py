"""
The options of tasks that run commands: read, and refused in a sentence where they are wrong.

An option counts where the task or its stage says it. What a stage sees of others (the run's inputs, outputs of earlier
stages) only fills in places: an answer or a model that gives an output named `env` or `shell` decides nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stabilize_nb.errors import ConfigError
from stabilize_nb.secrets.resolving import resolved
from stabilize_nb.tasks.masking import Mask
from stabilize_nb.tasks.templates import as_text, place_in

if TYPE_CHECKING:
    from stabilize_nb.models.stage import StageExecution

#: What a command gets of the engine's environment: where things are and how people read, and no keys of services.
PASSED: Final = frozenset({
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TMP", "TEMP",
    "VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "JAVA_HOME",
    "SSL_CERT_FILE", "SSL_CERT_DIR",
})  # fmt: skip
PASSED_PREFIXES: Final = ("LC_", "XDG_", "CONDA_", "CUDA_", "OMP_")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


class Options:
    """What a stage says under the keys of its task, and under it what the task says itself: `fixed`.

    `context`: what places are filled in from.
    """

    def __init__(self, stage: StageExecution, fixed: Mapping[str, Any]) -> None:
        own = stage.context if stage.runtime is None else stage.runtime.own_context
        self._given: Mapping[str, Any] = {**own, **resolved(dict(fixed))}
        self.context: Mapping[str, Any] = stage.context
        self.place = f"stage {stage.ref_id!r}"

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value; one that is only a place is what the context has there."""
        return self.filled(self._given.get(key, default))

    def filled(self, value: Any) -> Any:
        """Return a value, or of a place alone (`"{rows}"`) what the context has there."""
        name = place_in(value)
        return value if name is None else self.context.get(name, value)

    def wrong(self, key: str, expected: str) -> ConfigError:
        """Return the error for a value that cannot be used."""
        return ConfigError(f"{self.place}: {key} is {_shown(self.get(key))}; {expected}")

    def flag(self, key: str, default: bool = False) -> bool:
        """Return True or False."""
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, "True or False is expected")
        return value

    def seconds(self, key: str, default: float) -> float | None:
        """Return a time limit; None when it is given as None."""
        value = self.get(key, default)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not value > 0):
            raise self.wrong(key, "seconds above 0 are expected, or None for no limit")
        return value

    def whole(self, key: str, default: int, least: int, most: int) -> int:
        """Return a whole number."""
        value = self.get(key, default)
        if type(value) is not int or not least <= value <= most:
            raise self.wrong(key, f"a whole number from {least} to {most} is expected")
        return value

    def text(self, key: str, default: str | None = None) -> str | None:
        """Return text that is no option: one line, not empty, and not beginning with "-"."""
        value = self.get(key, default)
        if value is None:
            return None
        if not isinstance(value, str) or not value or value.startswith("-") or _CONTROL.search(value):
            raise self.wrong(key, "one line of text is expected that does not begin with '-'")
        return value

    def path(self, key: str) -> str | None:
        """Return a path, with `~` for the user's folder."""
        value = self.text(key)
        return None if value is None else os.path.expanduser(value)  # noqa: PTH111 - Path raises for a user that is not there

    def names(self, key: str) -> list[str]:
        """Return a list of names."""
        value = self.get(key, [])
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self.wrong(key, "a list of names is expected")
        return value

    def command(self) -> str | list[str]:
        """Return what to run: a shell's text, or a list of arguments."""
        value = self._given.get("command")
        if value is None or value in ("", []):
            raise ConfigError(f"{self.place}: No 'command' specified; give text for a shell, or a list of arguments")
        is_list = isinstance(value, list) and all(isinstance(each, str) for each in value)
        if not is_list and not isinstance(value, str):
            raise self.wrong("command", "text for a shell is expected, or a list of texts")
        if any("\0" in each for each in value):
            raise self.wrong("command", "it holds a NUL character, which no argument can")
        return value  # type: ignore[no-any-return]  # looked at above

    def folder(self) -> str | None:
        """Return the `cwd`, which must be there."""
        folder = self.path("cwd")
        if folder is not None and not Path(folder).is_dir():
            raise self.wrong("cwd", "there is no such folder")
        return folder

    def environment(self) -> dict[str, str]:
        """Return a process's environment: some of the engine's (`inherit_env`: more, or True for all), and `env`."""
        inherited = self.get("inherit_env", [])
        more = () if inherited is True else self.names("inherit_env")
        kept = {
            name: value
            for name, value in os.environ.items()
            if inherited is True or name in PASSED or name in more or name.startswith(PASSED_PREFIXES)
        }
        return kept | self._own_environment()

    def _own_environment(self) -> dict[str, str]:
        given = self.get("env") or {}
        if not isinstance(given, Mapping):
            raise self.wrong("env", "a mapping from names to values is expected")
        for name in given:
            if not name or "=" in name or _CONTROL.search(name):
                raise ConfigError(f"{self.place}: env has the name {name!r}; a name without '=' is expected")
        return {name: as_text(name, self.filled(value)) for name, value in given.items()}

    def mask(self) -> Mask:
        """Return what hides the values of `secrets`, which are names of keys of the context or of `env`."""
        own = self._own_environment()
        found = [own[name] for name in self.names("secrets") if name in own]
        found += [as_text(name, self.context[name]) for name in self.names("secrets") if name in self.context]
        return Mask(found)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004 - a line's worth of text
