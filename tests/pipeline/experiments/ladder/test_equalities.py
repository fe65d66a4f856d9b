from pipeline.experiments.ladder.equalities import ROUNDING, largest_differences


def test_what_the_lecture_shows_to_be_equal_is_equal():
    differences = largest_differences()
    assert len(differences) == 4
    assert all(difference < ROUNDING for difference in differences.values())
