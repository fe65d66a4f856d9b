"""What became of a config; test_plan.py shows the reasons of a whole run, texts from outside among them."""

from pipeline.graph.stale_reasons import differences


def test_differences_name_added_and_removed_keys():
    assert differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 2}, "d": 3}) == [
        "a.b 1 -> 2",
        "c 2 -> (unset)",
        "d (unset) -> 3",
    ]
