"""Nothing that a test switches on for the whole process stays on."""

import pytest

from stabilize_nb.events import configure_event_sourcing, reset_event_bus


@pytest.fixture(autouse=True)
def _quiet_process():
    yield
    configure_event_sourcing(None)
    reset_event_bus()
