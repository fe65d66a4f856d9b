from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pipeline.report.figures.drawing import COLOURS
from pipeline.report.page import render

CSS = Path(render.__file__).with_name("report.css").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def html(written: Any) -> str:
    return written.html


class Links(HTMLParser):
    """Collects everything a browser would load or follow, the ids that are given, and the tags that stay open."""

    VOID = ("meta", "link", "br", "use")

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.links += [found[name] for name in ("src", "href", "xlink:href", "data", "srcset") if name in found]
        self.ids += [found["id"]] if "id" in found else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def parsed(html: str) -> Links:
    links = Links()
    links.feed(html)
    links.close()
    return links


def theme(scheme: str) -> dict[str, str]:
    """The colours of a theme by variable name."""
    light, dark = CSS.split("@media screen and (prefers-color-scheme: dark)")
    block = light if scheme == "light" else dark[: dark.index("}")]
    return dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))


def contrast(first: str, second: str) -> float:
    """The contrast ratio of WCAG 2: 1 to 21."""

    def luminance(colour: str) -> float:
        channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
        return sum(weight * one for weight, one in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


def test_page_loads_nothing_from_outside(html: str) -> None:
    links = parsed(html).links
    assert links
    assert all(link.startswith(("#", "data:")) for link in links)
    assert "url(http" not in html and "@import" not in html
    assert "default-src 'none'" in html


def test_only_our_own_script_may_run(html: str) -> None:
    [script] = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in html
    assert "<script" not in html.replace("<script>", "", 1)


def test_every_tag_is_closed_and_every_id_is_given_once(html: str) -> None:
    found = parsed(html)
    assert not found.open
    assert len(found.ids) == len(set(found.ids)) > 0
    referenced = re.findall(r"url\(#(\w+)\)", html) + [link[1:] for link in found.links if link.startswith("#")]
    assert referenced and set(referenced) <= set(found.ids)


def test_headline_names_number_unit_interval_and_target(html: str) -> None:
    heading = re.search(r"<h1>(.*?)</h1>", html, re.DOTALL)
    assert heading is not None
    assert re.search(
        r"on words\.txt: it saves \d\.\d{3} bits per byte <span>95% interval \d\.\d{3} to \d\.\d{3}", heading[1]
    )


def test_large_numbers_carry_their_unit(html: str) -> None:
    tiles = re.findall(r"<b>([\d.]+)</b>\s*<span>(.*?)</span><span>(.*?)</span>", html)
    assert len(tiles) == 4
    assert all(unit == "bits/byte" and interval.startswith("95% ") for _, unit, interval in tiles)


def test_names_from_outside_are_escaped(html: str) -> None:
    assert "books &lt;&amp;&gt;" in html and "books <&>" not in html


def test_figures_come_in_two_widths_and_keep_text_as_text(html: str) -> None:
    figures = re.findall(r"<svg .*?</svg>", html, re.DOTALL)
    assert [re.search('class="(\\w+)"', figure)[1] for figure in figures] == ["wide", "narrow"] * 3  # type: ignore[index]
    assert all(figure.count("<text") > 8 for figure in figures)
    assert all('role="img"' in figure and "font-family" not in figure for figure in figures)


def test_figures_take_every_colour_from_the_page(html: str) -> None:
    figures = "".join(re.findall(r"<svg .*?</svg>", html, re.DOTALL))
    assert "var(--finetune)" in figures
    assert not re.findall(r"(?:fill|stroke): ?#[0-9a-f]{3,6}", figures)


def test_both_themes_define_every_colour() -> None:
    light, dark = theme("light"), theme("dark")
    assert COLOURS.items() <= light.items()
    assert light.keys() == dark.keys() >= set(re.findall(r"color: var\(--(\w+)\)", CSS))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["ink", "muted", "scratch", "zero_shot", "finetune", "alarm", "held"])
@pytest.mark.parametrize("ground", ["paper", "leaf"])
def test_text_stands_out_from_its_ground(scheme: str, name: str, ground: str) -> None:
    colours = theme(scheme)
    assert contrast(colours[name], colours[ground]) >= 4.5


def test_marks_say_values_without_a_script(html: str) -> None:
    titles = re.findall(r"<title>(Gain.*?)</title>", html, re.DOTALL)
    assert len(titles) == 2 and titles[0] == titles[1]
    assert re.fullmatch(r"Gain\n[\d.]+ bits/byte\n95% interval [\d.]+ to [\d.]+", titles[0])


def test_markdown_repeats_the_verdict_and_the_table(written: Any) -> None:
    text = written.markdown
    assert text.startswith("# Pretraining helps on words.txt: it saves ")
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert len({line.count("|") for line in table[:5]}) == 1
    assert "| **Gain** | **" in text and "- [x] same tokenizer" in text


def test_a_stand_in_target_is_announced_loudly(chain: Any, write: Any) -> None:
    chain.recounted("target", origin="installed text", name="python-language-reference")
    written = write(chain)
    assert "<title>⚠ Pretraining helps on a stand-in text" in written.html
    assert written.html.index('role="alert">The target is not what was asked for') < written.html.index("<h1>")
    assert "> **The target is not what was asked for" in written.markdown


def test_page_and_text_show_every_section(whole: Any) -> None:
    for heading in (
        "Does the gain hold against other models from scratch?",
        "How much pretraining does it take?",
        "Does it hang on the size of the model?",
        "How much would have been memory?",
    ):
        assert heading in whole.html
    for heading in (
        "## Other models from scratch",
        "## The gain over pretraining",
        "## The gain over model size",
        "## The leak ablation",
    ):
        assert heading in whole.markdown
    titles = re.findall(r"<title>([^<]*)</title></path>", whole.html)
    assert any("Next doubling, 2.56k tokens" in title for title in titles)
    assert whole.report.rivals[1].name in whole.html


def test_a_plain_page_has_no_section_of_what_was_not_measured(written: Any) -> None:
    assert "How much would have been memory" not in written.html
    assert "## The leak ablation" not in written.markdown


def test_a_corpus_without_a_held_out_part_has_no_gap_on_the_page(written: Any) -> None:
    report = written.report
    missing = dict.fromkeys(("val_nats_per_token", "val_nats_per_token_ci95", "gap", "gap_ci95"))
    alone = report.model_copy(update={"pretrain": report.pretrain.model_copy(update=missing)})
    figures = {name: {"wide": "<svg></svg>"} for name in ("comparison", "curves", "pretraining")}
    for page in (render.markdown(alone), render.html(alone, figures)):
        text = " ".join(page.split())
        assert "The corpus has no held-out part, or less than two windows of one" in text
        assert "a gap of" not in text and "None" not in text
    assert "a gap of" in " ".join(written.html.split())


def test_a_leak_ablation_without_a_leak_says_so(whole: Any) -> None:
    report = whole.report
    assert "how well the result repeats" not in render.markdown(report).replace("\n", " ")
    nothing_left_in = report.leak.model_copy(update={"documents_left_in": 0})
    clean = render.markdown(report.model_copy(update={"leak": nothing_left_in}))
    assert "how well the result repeats" in clean.replace("\n", " ")
    assert "would have come from the leak" not in clean


def test_a_rivals_changes_read_as_they_are_written(whole: Any) -> None:
    changes = {"scratch.learning_rates": ["2e-3", "4e-3"], "model.width": 64}
    rival = whole.report.rivals[0].model_copy(update={"changes": changes})
    text = render.markdown(whole.report.model_copy(update={"rivals": (rival,)}))
    assert "| scratch.learning_rates: 2e-3 4e-3, model.width: 64 |" in text


def test_cost_names_what_the_branches_took(whole: Any) -> None:
    assert "<small>3.0 s for the curve</small>" in whole.html
    assert ", 3.0 s for the curve |" in whole.markdown
