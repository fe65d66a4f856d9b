from pipeline.experiments.ladder.climb import RungResult
from pipeline.experiments.ladder.ladder_plot import ladder
from pipeline.report.figures.drawing import COLOURS

HIGH = RungResult("bigram", 2.491, losses=(2.49, 2.51), interval=(2.37, 2.63))
LAST = RungResult("scaled-up", 1.48, note="not run")


def lines_at(axes, height):
    """What is drawn in a row: the marker and the x of each line."""
    rows = [(line.get_marker(), list(line.get_xdata())) for line in axes.lines if set(line.get_ydata()) == {height}]
    return dict(rows)


def test_a_rung_shows_the_lectures_number_its_mean_interval_and_seeds():
    (axes,) = ladder([HIGH, LAST], inches=6).axes
    assert lines_at(axes, 0) == {"D": [2.491], "None": [2.37, 2.63], "|": [2.49, 2.51], "o": [2.5]}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["bigram", "scaled-up"]


def test_a_rung_that_was_not_run_shows_the_lectures_number_alone():
    (axes,) = ladder([HIGH, LAST], inches=6).axes
    assert lines_at(axes, 1) == {"D": [1.48]}
    texts = {text.get_text(): text.get_color() for text in axes.texts}
    assert texts == {"2.500": COLOURS["ink"], "not run": COLOURS["muted"]}


def test_the_first_rung_is_on_top():
    (axes,) = ladder([HIGH, LAST], inches=6).axes
    bottom, top = axes.get_ylim()
    assert bottom > 1
    assert top < 0
