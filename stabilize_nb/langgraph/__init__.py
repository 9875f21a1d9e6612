"""LangGraph on the store of this package: checkpoints of graphs, and graphs as stages of workflows."""

from stabilize_nb.errors import ConfigError

try:
    import langgraph.checkpoint.base  # noqa: F401
except ImportError as error:
    msg = "stabilize_nb.langgraph needs LangGraph, which is not installed: pip install 'stabilize-nb[langgraph]'"
    raise ConfigError(msg) from error

from stabilize_nb.langgraph.saver import StoreSaver
from stabilize_nb.langgraph.stage import run_graph

__all__ = ["StoreSaver", "run_graph"]
