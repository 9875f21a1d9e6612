"""What becomes of values has nothing to do with a disk."""

from tests.memory import tmp_path

__all__ = ["tmp_path"]
