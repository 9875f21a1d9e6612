"""A bakery: the flow of an order, and what the shop makes of its events."""

from __future__ import annotations

from dataclasses import dataclass, field

from stabilize_nb import Flow, StageExecution, TransientError
from stabilize_nb.events import Event, EventType

#: What the bank lends nobody.
CREDIT = 200

flow = Flow("order", description="From an order to the customer's door")


@flow.stage
def bake(item: str) -> str:
    return f"one {item}"


@flow.stage(after=bake, retry=3)
def pay(item: str, price: int, stage: StageExecution) -> dict[str, int]:
    if item == "cake" and stage.tasks[0].attempt == 1:
        raise TransientError("the bank is busy", retry_after=0.1)
    if price > CREDIT:
        raise ValueError(f"the bank refuses {price} euros")
    return {"paid": price}


@flow.stage(after=pay)
def deliver(bake: str, item: str) -> str:
    return f"{bake} is at the door"


@dataclass
class Till:
    """A projection: what the events add up to. The same events give the same till, live or from the log."""

    euros: int = 0
    delivered: int = 0
    second_tries: int = 0
    complaints: list[str] = field(default_factory=list)

    def apply(self, event: Event) -> None:
        """Take in one event."""
        match event.event_type:
            case EventType.TASK_COMPLETED:
                self.euros += event.data["outputs"].get("paid", 0)
            case EventType.TASK_RETRIED:
                self.second_tries += 1
            case EventType.TASK_FAILED:
                self.complaints.append(event.data["error"])
            case EventType.WORKFLOW_COMPLETED:
                self.delivered += 1
