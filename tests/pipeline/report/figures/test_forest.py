from __future__ import annotations

from typing import Any

from pipeline.report.figures.forest import Row, comparison
from pipeline.report.report_records import ReportedDifference, ReportedLoss, ReportedMean
from pipeline.report.sections.references import PUBLISHED


def test_a_row_reads_its_value_its_interval_and_its_seeds() -> None:
    loss = ReportedLoss(mean=2.0, ci95=(1.5, 2.5), per_seed=(1.9, 2.1))
    assert Row("From scratch", "scratch", loss).reading() == [
        "From scratch",
        "2 bits/byte",
        "95% interval 1.5 to 2.5",
        "its seeds 1.9, 2.1",
    ]


def test_one_seed_and_a_single_published_value_are_not_listed_twice() -> None:
    assert len(Row("Pretrained only", "zero_shot", ReportedLoss(mean=2, ci95=(1, 3), per_seed=(2,))).reading()) == 3
    published = Row("nanoGPT", "muted", ReportedMean(mean=2.12, ci95=(2.12, 2.12)), "D", "published as")
    assert published.reading() == ["nanoGPT", "2.12 bits/byte"]


def test_a_gain_has_no_seeds() -> None:
    assert Row("Gain", "finetune", ReportedDifference(mean=0.5, ci95=(0.4, 0.6), p_value=0.01)).seeds == ()


def test_arms_and_published_losses_share_an_axis_and_the_gain_has_another(written: Any) -> None:
    report = written.report.model_copy(update={"references": PUBLISHED})
    chart = comparison(report, inches=7.4)
    losses, gain = chart.axes
    assert [mark.lines[0] for mark in chart.marks if mark.axes is losses] == [
        "From scratch",
        "Pretrained only",
        "Finetuned",
        *(reference.name for reference in PUBLISHED),
    ]
    assert [mark.lines[0] for mark in chart.marks if mark.axes is gain] == ["Gain"]
    lecture = next(mark for mark in chart.marks if mark.lines[0] == "Lecture's final model")
    assert lecture.lines[1:] == ("2.14 bits/byte", "published as 2.13 to 2.15")


def test_scratch_alone_has_one_axis(written: Any) -> None:
    assert len(comparison(written.report.model_copy(update={"gain": None}), inches=7.4).axes) == 1
