"""The state of each stage, and the progress of a running one, as `folio status` shows them."""

import json

from pipeline.graph import runner
from pipeline.graph.lock import exclusive
from pipeline.graph.runner import PROGRESS, Selection
from pipeline.graph.status import as_text, states


def test_a_stage_is_done_running_interrupted_or_waiting(chain, config):
    runner.run_nodes(config(), chain, Selection(last="target"))
    corpus, tokenizer = (state.folder for state in states(config(), chain)[1:3])
    for folder in (corpus, tokenizer):
        (chain.root.parent / folder).mkdir()
    live = {"label": "reading", "done": 5.0, "total": 20.0, "unit": "documents", "seconds_left": 3.0, "info": "fast"}
    (chain.root.parent / corpus / PROGRESS).write_text(json.dumps(live))
    with exclusive(chain.root.parent / corpus):
        shown = states(config(), chain)
        lines = as_text(shown).splitlines()
    assert [state.state for state in shown[:4]] == ["done", "running", "interrupted", "waiting"]
    assert lines[1].endswith("reading  5/20 documents  3.0 s left  fast")


def test_a_running_stage_between_two_tasks_has_no_progress(chain, config):
    folder = chain.root.parent / states(config(), chain)[0].folder
    with exclusive(folder):
        state = states(config(), chain)[0]
    assert (state.state, state.progress) == ("running", None)
    assert state.as_json()["stage"] == "target"
