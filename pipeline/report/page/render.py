"""The report as people read it: one self-contained HTML page, and the same in Markdown."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipeline.report.figures.drawing import LABELS
from pipeline.report.page.reproduce import reproduction
from pipeline.report.report_json import Report
from pipeline.report.wording import alarms, headline, number, target_title
from pipeline.runtime.formatting import readable_bytes, readable_count, readable_seconds


def html(report: Report, figures: Mapping[str, Mapping[str, str]]) -> str:
    """A page that needs nothing but itself. `figures`: name -> width name -> trusted SVG."""
    # Figures, style and script are ours, and all that is not escaped: names and texts come from outside.
    drawings = {name: Markup("".join(widths.values())) for name, widths in figures.items()}
    style, script = _beside("report.css"), _beside("report.js")
    # A policy in the page allows this script and no other, by its hash: that of all characters between its tags.
    digest = base64.b64encode(hashlib.sha256(f"\n{script}".encode()).digest()).decode()
    inline = {"style": Markup(style), "script": Markup(script), "script_sha256": Markup(digest)}
    return _render("report.html.jinja", report, figures=drawings, **inline)


def markdown(report: Report) -> str:
    """The verdict, the tables and the doubts, for a terminal or a README."""
    return _render("report.md.jinja", report)


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _render(template: str, report: Report, **more: Any) -> str:
    # Markdown is not escaped: it is read as text, where `&lt;` would be noise.
    environment = Environment(
        loader=PackageLoader("pipeline.report.page", "."),
        autoescape=template.endswith(".html.jinja"),
        # A field that a template misspells is an error, not an empty place in the page.
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= FILTERS
    return environment.get_template(template).render(report=report, labels=LABELS, **_words(report), **more)


def _words(report: Report) -> dict[str, Any]:
    """What both templates say beyond the report's own fields."""
    return {
        "headline": headline(report),
        "alarms": alarms(report),
        "title": target_title(report.target),
        "reproduction": reproduction(report),
        "strongest": min(report.rivals, key=lambda rival: rival.val_bits_per_byte.mean, default=None),
    }


def _changes(changes: Mapping[str, Any]) -> str:
    """Config keys and their values, as `--set` takes them."""
    several = {key: value if isinstance(value, list | tuple) else [value] for key, value in changes.items()}
    return ", ".join(f"{key}: {' '.join(map(str, values))}" for key, values in several.items())


FILTERS: dict[str, Any] = {
    "loss": number,
    "p_value": lambda value: f"{value:.2g}",
    "rate": lambda value: f"{value:g}",
    "whole": lambda value: f"{value:,.0f}",
    "count": readable_count,
    "bytes": readable_bytes,
    "seconds": readable_seconds,
    "words": lambda name: name.replace("_", " "),
    "changes": _changes,
    "as_yaml": lambda value: yaml.safe_dump(value, sort_keys=False, allow_unicode=True),
}
