import pytest

from pipeline.experiments import measurements
from pipeline.experiments.measurements import FIELDS, met, record

FIGURE = {"name": "speed", "value": 1.2, "unit": "x", "target": 1.0}


@pytest.mark.parametrize(
    ("value", "target", "unit", "expected"),
    [(1.1, 1.0, "x", True), (0.9, 1.0, "x", False), (9.0, 10, "minutes", True), (None, 10, "minutes", None)],
)
def test_met_means_at_least_for_ratios_and_at_most_for_the_rest(value, target, unit, expected):
    assert met({"value": value, "target": target, "unit": unit}) is expected


def test_a_record_says_where_and_when_it_was_measured():
    complete = record(FIGURE, "make bench")
    assert set(complete) == set(FIELDS)
    assert (complete["met"], complete["command"]) == (True, "make bench")
    assert "GiB" in complete["machine"]


def test_a_figure_keeps_what_it_says_itself():
    complete = record({**FIGURE, "commit": "abc", "met": False, "seeds": 3}, "make bench")
    assert (complete["commit"], complete["met"], complete["seeds"]) == ("abc", False, 3)


def test_a_figure_without_a_name_is_refused():
    with pytest.raises(AssertionError, match=r"a record without \['name'\] cannot be judged"):
        record({key: value for key, value in FIGURE.items() if key != "name"}, "make bench")


def test_a_machine_whose_kernel_names_no_processor_is_its_architecture(monkeypatch, tmp_path):
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nBogoMIPS\t: 50.00\n")
    monkeypatch.setattr(measurements, "Path", lambda _: tmp_path / "cpuinfo")
    monkeypatch.setattr(measurements.platform, "machine", lambda: "aarch64")
    assert "x aarch64, " in measurements.machine()
