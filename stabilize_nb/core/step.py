"""decide and Step: one message becomes facts, and the messages it sends are folded into the same commit.

Every fold is one legal order of the queue, so it can change speed but not meaning: tests run with a budget of 1
and of 32.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from stabilize_nb.core.draft import Body, Decision, Draft, Env, Send
from stabilize_nb.core.view import MessagesLeft, NotLoaded
from stabilize_nb.errors import StabilizeFatalError
from stabilize_nb.handlers import HANDLERS
from stabilize_nb.handlers.reactions import react
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.queue.messages import CompleteWorkflow, Message, RunTask

if TYPE_CHECKING:
    from stabilize_nb.core.facts import Fact
    from stabilize_nb.core.view import View


def decide(view: View, message: Message, env: Env) -> Decision:
    """
    Decide one message; the given view stays as it is.

    Raises NotLoaded when the decision needs a row that the view has not seen.
    """
    handler = HANDLERS.get(type(message))
    if handler is None:
        msg = f"no handler for message {type(message).__name__}"
        raise StabilizeFatalError(msg)
    draft = Draft(view.fork(), env)
    handler(draft, message)
    react(draft)
    return Decision(
        draft.view, tuple(draft.facts), tuple(draft.sends), tuple(draft.bodies), tuple(draft.children), draft.dead
    )  # fmt: skip


class Step:
    """One message and what folds into it.

    `proceed` raises NotLoaded as `decide` does; call it again once the answer is in `view`: decisions already
    folded stay. When it returns, `facts`, `sends`, `runs` and `view` are what one transaction commits. A run is
    the RunTask message and its body; its message is `message` itself or one that was never queued. `children` are
    definitions of workflows to store and start. `dead`: why `message` is a dead letter; nothing when it is done.
    """

    __slots__ = (
        "_budget",
        "_decided",
        "_pending",
        "_slots",
        "bodies",
        "children",
        "dead",
        "env",
        "facts",
        "message",
        "runs",
        "sends",
        "view",
    )

    def __init__(self, view: View, message: Message, env: Env, *, budget: int = 32) -> None:
        self.view = view
        self.message = message
        self.env = env
        self.facts: list[Fact] = []
        self.sends: list[Send] = []
        self.runs: list[tuple[RunTask, Body]] = []
        self.bodies: list[Body] = []
        self.children: list[dict[str, Any]] = []
        self.dead = ""
        self._pending: deque[Message] = deque([message])
        self._decided = 0
        self._budget = budget
        self._slots = env.slots

    @property
    def current(self) -> Message:
        """The message that is being decided."""
        return self._pending[0] if self._pending else self.message

    def proceed(self) -> None:
        """Decide until nothing is left to fold; raises NotLoaded."""
        while self._pending or self._may_end():
            if not self._pending:
                self._pending.append(CompleteWorkflow(execution_id=self.message.execution_id))
            message = self._pending[0]
            decision = decide(self.view, message, self.env)
            self._pending.popleft()
            self._decided += 1
            self._take(message, decision)

    def _take(self, message: Message, decision: Decision) -> None:
        self.view = decision.view
        self.facts.extend(decision.facts)
        self.children.extend(decision.children)
        self.dead = self.dead or decision.dead
        for body in decision.bodies:
            if isinstance(message, RunTask):
                self.runs.append((message, body))
            else:
                self.bodies.append(body)
        for send in decision.sends:
            if self._folds(send):
                self._pending.append(send.message)
            else:
                self.sends.append(send)

    def _folds(self, send: Send) -> bool:
        message = send.message
        if message.execution_id != self.message.execution_id:
            return False
        if send.after or self._decided + len(self._pending) >= self._budget:
            return False
        return not isinstance(message, RunTask) or self._takes(message.task_type)

    def _takes(self, task_type: str) -> bool:
        if task_type in self.env.coroutines:
            return True
        if self._slots <= 0 or task_type not in self.env.runnable:
            return False
        self._slots -= 1
        return True

    def _may_end(self) -> bool:
        head = self.view.head
        if head.active or head.status is not WorkflowStatus.RUNNING:
            return False
        mine = self.message.execution_id
        if any(send.message.COUNTS and send.message.execution_id == mine for send in self.sends):
            return False
        left = self.view.get(MessagesLeft(dead=head.ending is None))
        return not left


__all__ = ["NotLoaded", "Step", "decide"]
