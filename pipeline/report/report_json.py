"""`report.json`, format 1, as one typed tree: its records, its one conversion to JSON, and its JSON Schema.

    python -m pipeline.report.report_json > docs/report.schema.json      after a change of the records

The schema is committed for the programs of others; a test compares it with what the records say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pipeline.report.curve_records import ReportedCurve
from pipeline.report.report_records import ReportRecord, came_later
from pipeline.report.section_records import (
    ReportedArms,
    ReportedContamination,
    ReportedControls,
    ReportedCost,
    ReportedGain,
    ReportedImport,
    ReportedLeak,
    ReportedPretraining,
    ReportedProvenance,
    ReportedReference,
    ReportedRival,
    ReportedSamples,
    ReportedSize,
    ReportedTarget,
)

FORMAT: Literal[1] = 1
SIGNIFICANT_DIGITS = 6  # a forward in float32 promises no more


class Report(ReportRecord):
    """Folio's report: how much pretraining helps on the target, how sure that is, and what limits the answer.

    A section is null where the run has none: no gain without finetuning, no curve without branches.
    """

    model_config = came_later("curve", "leak", "sizes", "rivals", "imported")
    format: Literal[1]
    run: str
    target: ReportedTarget
    arms: ReportedArms
    gain: ReportedGain | None
    references: tuple[ReportedReference, ...]
    curve: ReportedCurve | None
    leak: ReportedLeak | None
    sizes: tuple[ReportedSize, ...]  # smallest first
    rivals: tuple[ReportedRival, ...]
    pretrain: ReportedPretraining | None
    imported: ReportedImport | None
    contamination: ReportedContamination | None
    controls: ReportedControls
    caveats: tuple[str, ...]
    cost: dict[str, ReportedCost]  # by stage, those of variants as in "leak.corpus"
    provenance: ReportedProvenance
    samples: ReportedSamples
    methods: dict[str, str]  # by subject

    def as_published(self) -> Report:
        """The report as report.json holds it: what page and figures show is what a reader of the file finds there."""
        return Report.model_validate(to_json(self))


def to_json(value: Any) -> Any:
    """Plain JSON of a record or of anything inside it, floats cut to the digits that mean something."""
    if isinstance(value, ReportRecord):
        return {name: to_json(item) for name, item in value.written().items()}
    # Integers stay as they are: a count has no digit too many.
    if isinstance(value, float):
        return float(f"{value:.{SIGNIFICANT_DIGITS}g}")
    if isinstance(value, Mapping):
        return {name: to_json(item) for name, item in value.items()}
    return [to_json(item) for item in value] if isinstance(value, list | tuple) else value


def json_text(report: Report) -> str:
    """The content of report.json. Raises ValueError if a number is not finite: JSON has no such number."""
    return json.dumps(to_json(report), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def schema_text() -> str:
    """The content of docs/report.schema.json."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Report.model_json_schema()}
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(schema_text(), end="")
