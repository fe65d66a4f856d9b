"""The figures of the committed report, docs/results/shakespeare-cpu.json, beside what they aimed at."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.graph.stages import NAMES

REPORT = Path("docs/results/shakespeare-cpu.json")
COMMAND = "folio run configs/shakespeare-cpu.yaml --ranks 2"


def main() -> None:
    """Print one JSON record per figure."""
    report = json.loads(REPORT.read_text())
    losses = {arm: report["arms"][arm]["val_bits_per_byte"] for arm in ("scratch", "zero_shot", "finetune")}
    gain = report["gain"]["bits_per_byte"]
    own = [cost for stage, cost in report["cost"].items() if stage in NAMES]
    minutes = sum(cost["seconds"] - cost["branch_seconds"] for cost in own) / 60
    whole = sum(cost["seconds"] for cost in report["cost"].values()) / 60
    figures = (
        ("shakespeare-cpu: finetune, validation loss", losses["finetune"]["mean"], "bits/byte", 1.90),
        ("shakespeare-cpu: scratch, validation loss", losses["scratch"]["mean"], "bits/byte", 2.18),
        ("shakespeare-cpu: zero-shot, validation loss", losses["zero_shot"]["mean"], "bits/byte", None),
        ("shakespeare-cpu: lower end of the gain's 95% interval", gain["ci95"][0], "bits/byte saved", 0.0),
        ("shakespeare-cpu: stages before the report, without curve, leak ablation and rivals", minutes, "minutes", 60),
        ("shakespeare-cpu: all of it", whole, "minutes", None),
    )
    for name, value, unit, target in figures:
        record = {"name": name, "value": round(value, 3), "unit": unit, "target": target}
        print(json.dumps(record | {"command": COMMAND, "commit": report["provenance"]["git_commit"]}))


if __name__ == "__main__":
    main()
