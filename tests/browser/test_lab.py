"""The ground the browser tests stand on: what they would not see, no test of theirs could fail for."""

import pytest

from tests.kernels import OLDEST_NAME


@pytest.mark.parametrize("kernel", ["python3", OLDEST_NAME])
def test_notebook_has_a_kernel_and_a_store_of_its_own(lab_notebook, kernel):
    """A cell runs in the kernel that the notebook names, and the default store is made beside the notebook."""
    tab = lab_notebook(
        ["import ipykernel\nipykernel.__version__", "%load_ext stabilize_nb\n%workflow store"], kernel=kernel
    )

    tab.run_all()

    version, store = tab.output_texts()
    assert version.strip("'").startswith("6.29" if kernel == OLDEST_NAME else "7.")
    assert ".stabilize/notebook.db" in store
    assert (tab.folder() / ".stabilize" / "notebook.db").exists()
    assert tab.errors() == []


def test_requests_to_other_machines_are_noticed(lab, lab_notebook):
    """What a page and a kernel ask of another machine is refused or written down, names and numbers."""
    tab = lab_notebook(
        [
            "import socket\ntry:\n    socket.create_connection(('192.0.2.1', 9), timeout=0.01)\nexcept OSError: pass",
            "try:\n    socket.getaddrinfo('elsewhere.invalid', 80)\nexcept OSError: pass",
        ]
    )
    tab.run_all()
    tab.page.evaluate("() => fetch('http://192.0.2.2/').catch(() => null)")
    tab.page.evaluate("() => new Promise(done => { new WebSocket('ws://192.0.2.3/').onerror = done; })")

    noticed = "\n".join(lab.left_the_machine())

    for asked in ("192.0.2.1", "elsewhere.invalid", "192.0.2.2", "192.0.2.3"):
        assert asked in noticed
