"""Settings of a QueueProcessor, checked when they are made."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from stabilize_nb.egress.policy import Egress
from stabilize_nb.errors import ConfigError
from stabilize_nb.queue.processor.capture import check_manner
from stabilize_nb.queue.processor.executors import Sources, check_sources
from stabilize_nb.secrets.resolving import Source, check_source


def _default_workers() -> int:
    text = os.environ.get("STABILIZE_NB_PROCESSOR_MAX_WORKERS") or os.environ.get("STABILIZE_PROCESSOR_MAX_WORKERS")
    return int(text) if text else 10


def _default_output() -> str:
    return os.environ.get("STABILIZE_NB_TASK_OUTPUT") or "auto"


def _default_timeout() -> float:
    name = "DEFAULT_TASK_TIMEOUT_S"
    return float(os.environ.get(f"STABILIZE_NB_{name}") or os.environ.get(f"STABILIZE_{name}") or 4 * 3_600)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueProcessorConfig:
    """How a processor works. Units are in the names or given here; the defaults suit one machine.

    `poll_frequency_ms`: how often commits of other processes are looked for; a fifth as often when nothing has
    happened for three seconds. `retry_delay`: s before a message that could not be processed is tried again. `lease`: s
    a claim lasts without a sign of life from its owner; it matters only where the owner's death cannot be seen at
    once. `task_timeout`: s a task body may take unless it says otherwise. `task_output`: what becomes of what a body
    prints ("auto", "keep", "echo", "off"; see `capture`). `fold_budget`: messages decided in one step at most.
    `egress`: where tasks may send requests; None: to public addresses alone. `secrets`: where bodies find secrets, a
    mapping or a function from name to value; None: the environment. `only`: the queues or the tasks whose bodies are
    run here, such as ("gpu",); empty: all that are known. `executor`: what runs bodies instead of threads, for all or
    by queue.
    `recover_on_start` and the other recovery settings are accepted for programs that set them: recovery is
    not a pass at the start here, it always happens.
    """

    poll_frequency_ms: int = 50
    max_workers: int = field(default_factory=_default_workers)
    retry_delay: float = 15.0
    max_deliveries: int = 10
    lease: float = 60.0
    task_timeout: float = field(default_factory=_default_timeout)
    task_output: str = field(default_factory=_default_output)
    secrets: Source = field(default=None, repr=False)
    only: Sequence[str] = ()
    fold_budget: int = 32
    egress: Egress | None = None
    executor: Sources = field(default=None, repr=False)
    stop_on_error: bool = False
    enable_deduplication: bool = True
    enable_lock_heartbeat: bool = True
    recover_on_start: bool = False
    recovery_interval_seconds: float = 0
    recovery_application: str | None = None
    recovery_max_age_hours: float = 24

    def __post_init__(self) -> None:
        check_manner(self.task_output)
        if isinstance(self.only, str):
            msg = f"QueueProcessorConfig.only is {self.only!r}; a list of queues or tasks is expected: [{self.only!r}]"
            raise ConfigError(msg)
        check_source(self.secrets)
        check_sources(self.executor)
        for name in (
            "poll_frequency_ms",
            "max_workers",
            "lease",
            "task_timeout",
            "fold_budget",
            "max_deliveries",
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
                msg = f"QueueProcessorConfig.{name} is {value!r}; a number above 0 is expected"
                raise ConfigError(msg)
