from __future__ import annotations

from typing import Any

import pytest

from pipeline.report.report_json import Report
from pipeline.report.report_records import ReportedDifference
from pipeline.report.wording import alarms, exact, headline, interval, number, target_title


def with_gain(report: Report, low: float, mean: float, high: float) -> Report:
    """The report, with this gain on Tiny Shakespeare."""
    difference = ReportedDifference(mean=mean, ci95=(low, high), p_value=0.5)
    gain = report.gain.model_copy(update={"bits_per_byte": difference, "helps": low > 0})
    target = report.target.model_copy(update={"name": "tiny-shakespeare", "origin": "FOLIO_DATA"})
    return report.model_copy(update={"gain": gain, "target": target})


@pytest.mark.parametrize(
    ("ends", "sentence"),
    [
        (
            (0.461, 0.478, 0.496),
            "Pretraining helps on Tiny Shakespeare: it saves 0.478 bits per byte (95% interval 0.461 to 0.496).",
        ),
        (
            (-0.2, -0.1, -0.05),
            "Pretraining hurts on Tiny Shakespeare: it costs 0.100 bits per byte (gain 95% interval -0.200 to -0.050).",
        ),
        (
            (-0.1, 0.02, 0.14),
            "No gain shown on Tiny Shakespeare: 0.020 bits per byte (95% interval -0.100 to 0.140 includes zero).",
        ),
    ],
)
def test_headline_says_what_the_interval_allows(written: Any, ends: tuple[float, float, float], sentence: str) -> None:
    assert str(headline(with_gain(written.report, *ends))).replace("\N{MINUS SIGN}", "-") == sentence


def test_a_run_that_pretrains_nothing_says_what_scratch_reaches(written: Any) -> None:
    report = written.report.model_copy(update={"gain": None})
    loss = report.arms.scratch.val_bits_per_byte
    assert str(headline(report)) == (
        f"Trained from scratch, the model reaches {loss.mean:.3f} bits per byte on words.txt "
        f"({interval(loss)}; nothing was pretrained, so there is no gain to report)."
    )


def test_a_stand_in_is_not_called_by_its_name(written: Any) -> None:
    target = written.report.target
    assert target_title(target) == "words.txt"
    assert target_title(target.model_copy(update={"origin": "installed text"})) == "a stand-in text"


def test_numbers_have_a_minus_and_three_or_all_digits() -> None:
    assert (number(-0.12345), exact(-0.12345)) == ("\N{MINUS SIGN}0.123", "\N{MINUS SIGN}0.12345")
    assert exact(1.23456789) == "1.23457", "six digits, as in report.json"


def test_a_fair_report_raises_no_alarm(written: Any) -> None:
    assert alarms(written.report) == []


def test_stand_ins_failed_controls_and_contamination_raise_alarms(written: Any) -> None:
    report = written.report
    changed = report.model_copy(
        update={
            "target": report.target.model_copy(
                update={"name": "python-language-reference", "origin": "installed text"}
            ),
            "contamination": report.contamination.model_copy(
                update={"val_ngrams_left_in_shards": 1234, "corpus_origin": "installed text"}
            ),
            "controls": report.controls.model_copy(update={"same_model": False}),
        }
    )
    found = alarms(changed)
    assert [line.split(",")[0].split(":")[0][:30] for line in found] == [
        "The target is not what was ask",
        "The corpus is a stand-in as we",
        "1",
        "Controls that did not hold",
    ]
    assert "same model" in found[-1] and "same split" not in found[-1]
