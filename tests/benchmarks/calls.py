"""What a stage costs in calls of Python functions, and what a processor remembers of it, as JSON.

    python -m tests.benchmarks.calls

In a process of its own: what other tests leave behind in theirs, such as a shell of IPython, is asked for every body.
"""

from __future__ import annotations

import json
import sys
import tempfile

from tests.benchmarks.counts import called, held
from tests.makers import Bench, chain

FEW, MANY = 50, 200


def main() -> None:
    """Count and print."""
    with tempfile.TemporaryDirectory() as folder, Bench(f"sqlite:///{folder}/runs.db", durability="normal") as bench:
        bench.run(chain(20))
        bench.begin(chain(FEW))
        few = called(bench.processor.process_all) / FEW
        bench.begin(chain(MANY))
        many = called(bench.processor.process_all) / MANY
        bench.begin(chain(MANY))
        kept = held(bench.processor.process_all)
    json.dump({"few": few, "many": many, "kept": kept}, sys.stdout)


if __name__ == "__main__":
    main()
