from __future__ import annotations

from typing import Any

from pipeline.report.page.reproduce import reproduction
from pipeline.report.report_json import Report


def changed(report: Report, **provenance: Any) -> Report:
    return report.model_copy(update={"provenance": report.provenance.model_copy(update=provenance)})


def test_reproduction_installs_the_same_versions_and_runs_with_the_same_ranks(written: Any) -> None:
    versions = {"python": "3.11.7", "torch": "2.13.0+cpu", "numpy": "2.4.6"}
    report = changed(written.report, versions=versions)
    two_ranks = report.cost["pretrain"].model_copy(update={"ranks": 2})
    report = report.model_copy(update={"cost": report.cost | {"pretrain": two_ranks}})
    assert reproduction(report).split("\n") == [
        "git checkout 0123456789ab",
        "python -m venv .venv && . .venv/bin/activate",
        "python -m pip install --extra-index-url https://download.pytorch.org/whl/cpu torch==2.13.0+cpu numpy==2.4.6 .",
        "export FOLIO_DATA=/path/to/data   # the folder that the config's paths start from",
        "folio run configs/tiny.yaml --ranks 2",
    ]


def test_a_build_from_the_package_index_needs_no_other_and_a_config_without_data_no_folder(written: Any) -> None:
    report = changed(written.report, versions={"torch": "2.13.0"}, config={"name": "tiny"}, git_commit="abc-dirty")
    assert reproduction(report).split("\n") == [
        "git checkout abc",
        "python -m venv .venv && . .venv/bin/activate",
        "python -m pip install torch==2.13.0 .",
        "folio run configs/tiny.yaml --ranks 1",
    ]
