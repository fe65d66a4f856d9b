import pytest

from pipeline.config.quantities import byte_size, count, real, share


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30M", 30_000_000), ("1e9", 10**9), ("64k", 64_000), (500, 500), ("1_000", 1000), ("2.5k", 2500)],
)
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
    [(count, "-3"), (count, "1.5"), (count, "nan"), (count, "inf"), (count, True), (count, "3 apples"), (count, None),
     (byte_size, "3 lightyears"), (share, "150%"), (share, -0.1), (real, "1e400"), (real, "2%")],
)  # fmt: skip
def test_nonsense_is_refused_with_the_value(read, value):
    with pytest.raises(ValueError, match="is not"):
        read(value)
