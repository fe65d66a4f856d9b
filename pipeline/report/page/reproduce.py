"""The commands that make a report again, as a newcomer pastes them."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pipeline.report.report_json import Report

TORCH_WHEELS = "https://download.pytorch.org/whl"  # builds such as 2.13.0+cpu are there and not on the package index


def reproduction(report: Report) -> str:
    """A line for each step: check out, install the same versions, name the data, run with the same ranks."""
    provenance = report.provenance
    # The most that any stage had: the report's times were measured with them.
    ranks = max(cost.ranks for cost in report.cost.values())
    commands = [
        f"git checkout {provenance.git_commit.removesuffix('-dirty')}",
        "python -m venv .venv && . .venv/bin/activate",
        _install(provenance.versions),
        f"folio run configs/{report.run}.yaml --ranks {ranks}",
    ]
    # Paths in the config are unexpanded, so that they name the variable and not a folder of this machine.
    if "${FOLIO_DATA}" in json.dumps(provenance.config):
        commands.insert(-1, "export FOLIO_DATA=/path/to/data   # the folder that the config's paths start from")
    return "\n".join(commands)


def _install(versions: Mapping[str, str]) -> str:
    packages = [f"{name}=={version}" for name, version in versions.items() if name != "python"]
    _, _, build = versions.get("torch", "").partition("+")
    wheels = f"--extra-index-url {TORCH_WHEELS}/{build} " if build else ""
    return f"python -m pip install {wheels}{' '.join(packages)} ."
