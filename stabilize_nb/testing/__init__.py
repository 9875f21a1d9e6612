"""
What tests and tutorials need: a language model that answers from a script, deterministic mode, and crashes.

Deterministic mode is described in `stabilize_nb.deterministic`.
"""

from __future__ import annotations

from stabilize_nb.deterministic import deterministic
from stabilize_nb.llm.calls import ToolCall
from stabilize_nb.testing.bodies import effect
from stabilize_nb.testing.crashes import crash_sweep
from stabilize_nb.testing.model import Failure, ModelCall, ModelRequest, Reply, ScriptedModel, by_turn

__all__ = [
    "Failure", "ModelCall", "ModelRequest", "Reply", "ScriptedModel", "ToolCall", "by_turn", "crash_sweep",
    "deterministic", "effect",
]  # fmt: skip
