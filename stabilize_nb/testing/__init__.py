"""
What tests and tutorials need: a language model that answers from a script, deterministic mode, and crashes.

Deterministic mode is described in `stabilize_nb.deterministic`.
"""

from __future__ import annotations

from stabilize_nb.deterministic import deterministic
from stabilize_nb.llm.tools import ToolCall
from stabilize_nb.testing.bodies import effect
from stabilize_nb.testing.crashes import crash_sweep
from stabilize_nb.testing.model import Failure, ModelRequest, Reply, ScriptedModel

__all__ = [
    "Failure", "ModelRequest", "Reply", "ScriptedModel", "ToolCall", "crash_sweep", "deterministic", "effect",
]  # fmt: skip
