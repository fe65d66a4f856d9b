from __future__ import annotations

from pipeline.corpus.splits import SplitRule

DIGESTS = [number.to_bytes(16, "big") for number in range(20_000)]


def test_share_of_validation_documents_is_the_configured_one() -> None:
    rule = SplitRule(0.05, seed=7)
    assert 900 < sum(rule.split_of(digest) == "validation" for digest in DIGESTS) < 1_100
    assert {SplitRule(0.0, seed=7).split_of(digest) for digest in DIGESTS} == {"train"}
    assert {SplitRule(1.0, seed=7).split_of(digest) for digest in DIGESTS} == {"validation"}


def test_larger_share_keeps_the_documents_of_a_smaller_one() -> None:
    small, large = (SplitRule(share, seed=7) for share in (0.05, 0.1))
    assert all(large.split_of(d) == "validation" for d in DIGESTS if small.split_of(d) == "validation")


def test_seeds_choose_unrelated_documents() -> None:
    """Two independent tenths of 20,000 documents share 200, give or take four standard deviations of 14."""
    first, second = (SplitRule(0.1, seed) for seed in (0, 1))
    both = sum(first.split_of(digest) == second.split_of(digest) == "validation" for digest in DIGESTS)
    assert 144 < both < 256


def test_split_does_not_change_between_versions() -> None:
    """Golden: another rule would move documents of finished corpora between training and validation."""
    rule = SplitRule(0.5, seed=3)
    assert [rule.split_of(bytes([number] * 16))[0] for number in range(12)] == list("vtvttvvvvvtv")
