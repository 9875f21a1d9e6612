"""
A language model that answers from a script.

It is a real HTTP server on this machine, so the client and its errors are the real ones; neither a key nor a network
is needed. `python -m stabilize_nb.testing.model script.json` runs it as a process of its own.
"""

from stabilize_nb.testing.model.answers import Failure, Line, ModelCall, ModelRequest, Reply, by_turn, script_of
from stabilize_nb.testing.model.server import ScriptedModel

__all__ = ["Failure", "Line", "ModelCall", "ModelRequest", "Reply", "ScriptedModel", "by_turn", "script_of"]
