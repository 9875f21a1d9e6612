"""
What tests and tutorials need instead of the world: a language model that answers from a script, and deterministic mode.

Deterministic mode is described in `stabilize_nb.deterministic`.
"""

from __future__ import annotations

from stabilize_nb.deterministic import deterministic
from stabilize_nb.llm.tools import ToolCall
from stabilize_nb.testing.model import Failure, ModelRequest, Reply, ScriptedModel

__all__ = ["Failure", "ModelRequest", "Reply", "ScriptedModel", "ToolCall", "deterministic"]
