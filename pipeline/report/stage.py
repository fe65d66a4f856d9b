"""Stage `report`: how much pretraining helps on the target, how sure that is, and everything needed to doubt it.

    report.json    for programs (format 1)
    report.html    one self-contained page for people
    report.md      the same in short
    gain.png       the comparison as a picture

This is the only stage that opens the validation text, and it scores every token of it with the saved weights. The same
artifacts give the same bytes again: sums use a fixed number of threads, draws a fixed seed, and nothing names the time.
"""

from __future__ import annotations

from pathlib import Path

import torch

from pipeline.graph.stage_counts import ReportCounts
from pipeline.graph.work import Work
from pipeline.report.figures import drawing
from pipeline.report.figures.all_figures import drawings
from pipeline.report.finished_run import FinishedRun
from pipeline.report.page import render
from pipeline.report.report_json import FORMAT, Report, json_text
from pipeline.report.run_scores import RunScores, scored
from pipeline.report.sections import provenance
from pipeline.report.sections.arm_losses import arms_section, gain_section
from pipeline.report.sections.caveats import caveats_section
from pipeline.report.sections.controls import controls_section
from pipeline.report.sections.gain_curve import curve_section
from pipeline.report.sections.leak import leak_section
from pipeline.report.sections.memorization import pretraining_section
from pipeline.report.sections.methods import methods_section
from pipeline.report.sections.references import references_section
from pipeline.report.sections.rivals import rivals_section
from pipeline.report.sections.samples import samples_section
from pipeline.report.sections.sizes import sizes_section
from pipeline.report.wording import headline
from pipeline.runtime.files import write_text
from pipeline.runtime.memory import keep_freed_memory
from pipeline.runtime.precision import default_device
from pipeline.runtime.threads import fixed_threads
from pipeline.tokens.shard import refuse_impossible_rows

PAGE = "report.html"


def make_report(work: Work) -> ReportCounts:
    """Score the arms, compare them, write the report. Raises DataError if an artifact is damaged."""
    _refuse_damaged(work)
    keep_freed_memory()  # as training does: scoring takes two thirds of the time
    run, device = FinishedRun.of(work), default_device()
    with fixed_threads(work.launch.threads or work.workers):
        measured = report_of(run, scored(run, device, work.progress), device)
    # From here on the digits are those of the file: no page can say another number than report.json.
    report = measured.as_published()
    _write(work.folder, report, run)
    work.progress.say(str(headline(report)))
    return _counts(report)


def report_of(run: FinishedRun, scores: RunScores, device: torch.device) -> Report:
    """The report of a run whose weights were scored. The device is for what is computed beyond the scores."""
    target, arms, rivals = provenance.target_section(run), arms_section(run, scores), rivals_section(run, scores)
    pretraining = pretraining_section(run, device)
    # Caveats compare losses before they are rounded, like everything else that is computed.
    control = arms.scratch.val_bits_per_byte.mean
    return Report(
        format=FORMAT,
        run=run.artifacts["scratch"].manifest.run,
        target=target,
        arms=arms,
        gain=gain_section(run, scores),
        references=references_section(target, arms),
        curve=curve_section(run, scores),
        leak=leak_section(run, scores),
        sizes=sizes_section(run, scores),
        rivals=rivals,
        pretrain=pretraining,
        imported=provenance.imported_section(run),
        contamination=provenance.contamination_section(run),
        controls=controls_section(run, scores),
        caveats=caveats_section(run, control, rivals, pretraining=pretraining),
        cost=provenance.cost_section(run),
        provenance=provenance.provenance_section(run),
        samples=samples_section(run, device),
        methods=methods_section(run),
    )


def _refuse_damaged(work: Work) -> None:
    """Raise DataError if a file of an input does not match its hash, or a shard to be scored cannot be right."""
    # All of them first: hashing is cheap beside scoring, and a report on damaged weights would look like any other.
    for artifact in work.reads.values():
        if artifact.stage != "corpus":  # read for its counts alone, and the largest by far
            artifact.checked()
        if artifact.stage == "shards":
            for path in sorted((artifact.folder / "target").glob("*.arrow")):
                refuse_impossible_rows(path)


def _write(folder: Path, report: Report, run: FinishedRun) -> None:
    figures = drawings(report, run)
    svg = {name: drawing.inline_svg(name, figure.draw, figure.description) for name, figure in figures.items()}
    write_text(folder / "report.json", json_text(report))
    write_text(folder / "report.md", render.markdown(report))
    write_text(folder / PAGE, render.html(report, svg))
    drawing.write_png(folder / "gain.png", figures["comparison"].draw)


def _counts(report: Report) -> ReportCounts:
    losses = {name: arm.val_bits_per_byte.mean for name, arm in report.arms.by_name().items()}
    gain = report.gain.bits_per_byte if report.gain else None
    return ReportCounts(
        gain_bits_per_byte=gain.mean if gain else None,
        ci95=gain.ci95 if gain else None,
        scratch_bits_per_byte=losses["scratch"],
        zero_shot_bits_per_byte=losses.get("zero_shot"),
        finetune_bits_per_byte=losses.get("finetune"),
        html=PAGE,
    )
