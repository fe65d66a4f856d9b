import pytest

from pipeline.experiments.ladder import lecture_experiment
from pipeline.experiments.ladder.climb import RungResult
from pipeline.experiments.ladder.page import HEAD, headline, row

LOW = RungResult("one-head", 2.408, losses=(2.40, 2.42), interval=(2.28, 2.54), parameters=7553, commits=("c",))
HIGH = RungResult("bigram", 2.491, losses=(2.6,), parameters=4225, commits=("b",))


def test_the_page_shows_every_rung_its_number_and_the_picture(climbed, tmp_path):
    page = lecture_experiment.write(climbed, tmp_path).read_text()
    for result in climbed.rungs:
        assert f"| {result.rung} |" in page
        assert f"| {result.published:g} |" in page
    assert "not run" in page
    assert (tmp_path / "lecture.png").read_bytes().startswith(b"\x89PNG")


def test_a_missed_number_stands_as_missed(climbed, tmp_path):
    page = lecture_experiment.write(climbed, tmp_path).read_text()
    missed = sum(result.close is False for result in climbed.rungs)
    assert missed > 0, "four steps do not reach the lecture's numbers"
    assert page.count("| **no** |") == missed


def test_a_row_holds_loss_interval_difference_and_whether_it_is_near():
    assert row(LOW) == ["one-head", "7,553", "2.410 (2.280 to 2.540)", "2.408", "+0.002", "yes"]
    assert row(HIGH) == ["bigram", "4,225", "2.600", "2.491", "+0.109", "**no**"]
    assert row(RungResult("scaled-up", 1.48, note="not run")) == ["scaled-up", "", "not run", "1.48", "", ""]
    assert len(HEAD) == 6


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([HIGH, LOW], "1 of 2 rungs within 0.02 nats of the lecture's number; each rung lies below the one before."),
        ([LOW, HIGH], "1 of 2 rungs within 0.02 nats of the lecture's number; THE ORDER IS NOT THE LECTURE'S."),
        ([LOW, RungResult("scaled-up", 1.48)], "1 of 1 rung within 0.02 nats of the lecture's number."),
    ],
)
def test_headline_counts_the_rungs_that_were_run_and_checks_their_order(results, expected):
    assert headline(results) == expected
