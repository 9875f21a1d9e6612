"""Words of a model in the pane of a run, while they come, over a reload, and in the end."""

import pytest

from stabilize_nb.testing import ScriptedModel

LOAD = "%load_ext stabilize_nb"
WORDS = [f"w{number}" for number in range(60)]
ASK = """from stabilize_nb import ApprovalTask, Engine, StageExecution, TaskExecution, Workflow
from stabilize_nb.llm import LLMClient, LLMTask

def stage(name, *after, **context):
    task = TaskExecution.create(name, name, stage_start=True, stage_end=True)
    return StageExecution(name, name, name, context, tasks=[task], requisite_stage_ref_ids=set(after))

engine = Engine()
engine.registry.register("agent", LLMTask(LLMClient("scripted", base_url="{url}")))
engine.registry.register("sign_off", ApprovalTask)
work = Workflow.create("tests", "talk", [stage("agent", prompt="Count."), stage("sign_off", "agent", message="Good?")])
run = engine.start(work)
run"""
RUN = 1
#: The words that can be seen in the logs of the panes.
SEEN = r"""cell => [...document.querySelectorAll('.jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook .jp-Cell')][cell]
    ? [...[...document.querySelectorAll('.jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook .jp-Cell')][cell]
        .querySelectorAll('[role=log]')].flatMap(log => log.innerText.match(/w\d+/g) || []) : []"""


@pytest.fixture
def talk(lab_notebook):
    """Open a notebook whose run asks a model that speaks two words a second."""
    with ScriptedModel([" ".join(WORDS)], pace=0.5) as model:
        tab = lab_notebook([LOAD, ASK.format(url=model.url)])
        tab.run_all()
        yield tab, model


def seen(tab) -> list[str]:
    return tab.page.evaluate(SEEN, RUN)


def test_words_appear_as_they_come_and_once_after_a_reload(talk):
    """Words stand in the pane while the model speaks; a page that is loaded anew has each once, and the rest."""
    tab, model = talk
    early = tab.wait(lambda: seen(tab)[:3] and seen(tab), "the first words of the model")
    assert early == WORDS[: len(early)]
    assert len(early) < len(WORDS)

    tab.reload()
    again = tab.wait(lambda: len(seen(tab)) > len(early) and seen(tab), "the words after the reload")
    assert not model.calls[0].is_whole
    assert again == WORDS[: len(again)]

    model.pace = 0
    tab.wait_button("Approve", cell=RUN)
    tab.wait(lambda: len(seen(tab)) >= len(WORDS), "all words")
    assert seen(tab) == WORDS
    assert len(model.calls) == 1
    assert tab.errors() == []
