"""`python -m examples.event_sourcing`: three orders, looked at as they happen, as a table, as they were, and again."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import stabilize_nb
from examples.event_sourcing.shop import Till, flow
from stabilize_nb import Engine, Run
from stabilize_nb.events import EventReplayer, SqliteEventStore, get_event_bus

ORDERS = {"bread": 3, "cake": 30, "wedding cake": 300}
FACTS = ["task.started", "task.retried", "task.completed", "task.failed"]


def main() -> None:
    """Take the orders, and tell of them."""
    till, bus = Till(), get_event_bus()
    bus.subscribe("till", till.apply)
    with TemporaryDirectory() as folder:
        file = Path(folder, "shop.db")
        with Engine(file) as engine:
            bread, cake, wedding = (engine.start(flow, item=item, price=price) for item, price in ORDERS.items())
            for run in (bread, cake, wedding):
                print(f"{run.inputs['item']}: {run.wait(timeout=30)}")
            bus.flush()
            bus.unsubscribe("till")
            print(f"\nheard as it happened\n{till}")
            print(f"\nthe log as a table\n{table(engine)}")
            print(f"\nright before the bank refused\n{before_refusal(wedding)}")
        print(f"\nfrom the file alone\n{from_file(file, cake.id, till)}")


def table(engine: Engine) -> str:
    """Count what happened to the stages of all orders."""
    log = stabilize_nb.events(engine)
    log = log[log["type"].isin(FACTS)].astype({"type": str})
    counts = log.groupby(["stage", "type"]).size().unstack(fill_value=0)[FACTS]
    return counts.rename_axis(None).rename_axis(columns=None).to_string()


def before_refusal(run: Run) -> str:
    """Go back to the last moment at which an order could still be paid."""
    log = run.events
    moment = int(log.loc[log["type"] == "task.failed", "seq"].item()) - 1
    then = run.at(moment)
    return f"the order is {then.status}; {then.explain('deliver')}"


def from_file(file: Path, order: str, till: Till) -> str:
    """Fold the facts once more; neither an engine nor the code of the flow is needed."""
    facts, again = SqliteEventStore(f"sqlite:///{file}"), Till()
    for event in facts:
        again.apply(event)
    state = EventReplayer(facts).rebuild_workflow_state(order)
    facts.close()
    return f"the till is {'the same' if again == till else 'ANOTHER'}; {state.outputs['deliver']['result']}"


if __name__ == "__main__":
    main()
