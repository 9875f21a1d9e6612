"""What of IPython this package relies on; the types that IPython itself gives differ between versions."""

from __future__ import annotations

from typing import Any, Protocol


class Shell(Protocol):
    """An InteractiveShell of IPython 8.12 or later."""

    user_ns: dict[str, Any]
    execution_count: int
    colors: str
    #: A CachingCompiler; `cache` gives the source of a cell a file name that tracebacks turn into "Cell In[n]".
    compile: Any
    configurables: list[Any]
    display_formatter: Any
    magics_manager: Any
    Completer: Any
    InteractiveTB: Any

    def transform_cell(self, cell: str) -> str:
        """Turn IPython's syntax (`!ls`, `%time`) into Python; raises SyntaxError."""

    def transform_ast(self, tree: Any) -> Any:
        """Let the transformers that users have registered see the tree."""

    def register_magics(self, magics: type) -> None:
        """Make the magics of a class known."""
