"""Lines of the package's logger, without secrets and without what a terminal obeys."""

from __future__ import annotations

import logging

from stabilize_nb.plain import obeyed_by_none
from stabilize_nb.secrets.patterns import masked

_FORMATTER = logging.Formatter()


def mask_record(record: logging.LogRecord) -> bool:
    """Make the text of a record, its traceback included, before any handler sees it."""
    said = record.getMessage()
    shown = obeyed_by_none(masked(said))
    if shown != said:
        record.msg, record.args = shown, ()
    if record.exc_info:
        record.exc_text = obeyed_by_none(masked(_FORMATTER.formatException(record.exc_info)))
    return True


def mask_logger(name: str = "stabilize_nb") -> None:
    """Have every record of a logger masked."""
    logger = logging.getLogger(name)
    if mask_record not in logger.filters:
        logger.addFilter(mask_record)
