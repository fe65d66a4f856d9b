import pytest
from pydantic import TypeAdapter, ValidationError

from pipeline.config.quantities import Count, NonNegativeReal, Seed, Share, byte_size, count, real, share, shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30M", 30_000_000), ("1e9", 10**9), ("64k", 64_000), (500, 500), ("1_000", 1000), ("2.5k", 2500),
     ("0.57M", 570_000), (2**63 - 1, 2**63 - 1), (str(2**63 - 1), 2**63 - 1), ("-3", -3)],
)  # fmt: skip
def test_counts_read_as_people_write_them(text, expected):
    assert count(text) == expected


@pytest.mark.parametrize(("text", "expected"), [("64MB", 64_000_000), ("2 GB", 2 * 10**9), ("1MiB", 2**20), (10, 10)])
def test_sizes_read_as_people_write_them(text, expected):
    assert byte_size(text) == expected


def test_shares_are_percents_or_fractions():
    assert (share("5%"), share(0.05), share("0.05")) == (0.05, 0.05, 0.05)


def test_yaml_text_like_2e_3_is_a_number():
    assert real("2e-3") == 0.002


@pytest.mark.parametrize(
    ("read", "value"),
    [(count, "1.5"), (count, "nan"), (count, float("nan")), (count, "inf"), (count, True), (count, "3 apples"),
     (count, "12abc"), (count, None), (count, [1]), (count, {"a": 1}), (count, "1e-999"), (count, "\uff13"),
     (byte_size, "3 lightyears"), (share, "5k"), (real, "2%"), (real, float("nan")), (real, False)],
)  # fmt: skip
def test_nonsense_is_refused_with_the_value(read, value):
    with pytest.raises(ValueError, match="is not"):
        read(value)


@pytest.mark.parametrize(
    ("kind", "value", "refusal"),
    [
        (Count, -5, "-5 is not between 0 and 1,000,000,000,000,000"),
        (Count, "1e23", "'1e23' is not between"),
        (Count, 1e23, "1e+23 is not between"),
        (Count, 10**5000, "a number of 5,001 digits is not between"),
        (Count, "1" * 5000, "111... is not between"),
        (Count, float("inf"), "inf is not between"),
        (Count, "1e999999999", "'1e999999999' is not between"),
        (Seed, 2**63, "9223372036854775808 is not between 0 and 9,223,372,036,854,775,807"),
        (Share, "150%", "'150%' is not between 0 and 1"),
        (Share, -0.1, "-0.1 is not between 0 and 1"),
        (NonNegativeReal, "1e400", "'1e400' is not between 0 and 1,000"),
    ],
    ids=lambda value: "" if isinstance(value, int) else None,  # pytest cannot write out the longest one either
)
def test_what_is_out_of_bounds_is_refused_with_both_of_them(kind, value, refusal):
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(value)
    assert refusal in caught.value.errors()[0]["msg"]


def test_minus_zero_is_zero():
    assert str(TypeAdapter(NonNegativeReal).validate_python("-0.0")) == "0.0"


@pytest.mark.parametrize("value", [10**5000, "x" * 10_000, list(range(10_000)), None], ids=type)
def test_any_value_is_shown_in_a_few_characters(value):
    assert len(shown(value)) < 50
