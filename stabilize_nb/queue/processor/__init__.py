"""The workers: they take messages, decide them, run task bodies and commit, in threads of their own."""

from stabilize_nb.queue.processor.config import QueueProcessorConfig
from stabilize_nb.queue.processor.processor import QueueProcessor

__all__ = ["QueueProcessor", "QueueProcessorConfig"]
