"""The page in a real browser: Chromium, driven over its debugging pipe, started once for all that is asserted here."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.report.wording import exact

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
COMPLAINTS = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
# Chromium reads commands from descriptor 3 and writes answers to 4, each ended by a zero byte.
AS_3_AND_4 = "import os, sys; r, w, *c = sys.argv[1:]; os.dup2(int(r), 3); os.dup2(int(w), 4); os.execv(c[0], c)"
TIP = "document.querySelector('.tip.on')?.textContent ?? null"


class Browser:
    """One tab: `call` a command of the DevTools protocol, `evaluate` an expression; `events` holds what was told."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        (commands, self._out), (self._in, answers) = os.pipe(), os.pipe()
        launch = [sys.executable, "-c", AS_3_AND_4, str(commands), str(answers), CHROMIUM, *FLAGS]
        self.process = subprocess.Popen(
            [*launch, f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"],
            pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._buffer, self._number, self._session = b"", 0, {}
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params, **self._session}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._message()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def evaluate(self, expression: str) -> Any:
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def open(self, page: Path, width: int, scheme: str, *, touch: bool = False) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=touch)
        self.call("Emulation.setTouchEmulationEnabled", enabled=touch)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.events.clear()
        self.call("Page.navigate", url=page.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._message())

    def place(self, words: str) -> tuple[float, float]:
        """The middle of the visible mark whose words begin so, scrolled into view."""
        x, y = self.evaluate(f"""(() => {{
          const marks = [...document.querySelectorAll('.mark[data-words^={json.dumps(words)}]')];
          const mark = marks.find(mark => mark.closest('svg').clientWidth);
          mark.scrollIntoView({{block: 'center', behavior: 'instant'}});
          const box = mark.getBoundingClientRect();
          return [box.x + box.width / 2, box.y + box.height / 2]; }})()""")
        return x, y

    def picture(self, path: Path) -> None:
        """A screenshot of the whole page, for the eye."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        self._session = {}
        self.call("Browser.close")
        self.process.wait(timeout=20)
        os.close(self._in)
        os.close(self._out)

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            piece = os.read(self._in, 1 << 16)
            assert piece, "Chromium ended"
            self._buffer += piece
        first, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(first)
        return message


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def mouse(browser: Browser, x: float, y: float) -> str | None:
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    words: str | None = browser.evaluate(TIP)
    return words


def press(browser: Browser, key: str) -> str | None:
    browser.call("Input.dispatchKeyEvent", type="keyDown", key=key)
    words: str | None = browser.evaluate(TIP)
    return words


@pytest.mark.parametrize("width", [360, 390, 768, 1280])
def test_page_is_quiet_fits_and_fetches_nothing(browser: Browser, whole: Any, width: int) -> None:
    page = whole.folder / "report.html"
    browser.open(page, width, "light")
    assert "Is the comparison fair?" in browser.evaluate("document.body.innerText")
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert browser.evaluate("[...document.querySelectorAll('.scroll')].every(e => e.scrollWidth <= e.clientWidth)")
    shown = "[...document.querySelectorAll('figure svg')].filter(e => e.clientWidth).map(e => e.classList[0])"
    assert browser.evaluate(shown) == ["narrow" if width < 640 else "wide"] * 5
    assert [event for event in browser.events if event["method"] in COMPLAINTS] == []
    requests = [e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"]
    assert [url for url in requests if not url.startswith("data:")] == [page.as_uri()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pointer_reads_the_number_of_report_json(browser: Browser, written: Any, scheme: str) -> None:
    browser.open(written.folder / "report.html", 1280, scheme)
    gain = written.content["gain"]["bits_per_byte"]
    words = mouse(browser, *browser.place("Gain"))
    assert words is not None
    assert words.split("\n")[1:] == [
        f"{exact(gain['mean'])} bits/byte",
        f"95% interval {exact(gain['ci95'][0])} to {exact(gain['ci95'][1])}",
    ]
    paper = browser.evaluate("getComputedStyle(document.querySelector('.tip')).backgroundColor")
    assert paper == {"light": "rgb(245, 241, 232)", "dark": "rgb(34, 32, 29)"}[scheme]
    assert mouse(browser, 5, 5) is None


def test_curves_say_step_seeds_and_validation_loss(browser: Browser, written: Any) -> None:
    browser.open(written.folder / "report.html", 1280, "light")
    words = mouse(browser, *browser.place("From scratch, step 20"))
    assert words is not None and words.count("its best") == 2 and words.count("chosen") == 1 and "bits/byte" in words
    words = mouse(browser, *browser.place("Finetuned, refits to step 21"))
    per_seed = written.content["arms"]["finetune"]["val_bits_per_byte"]["per_seed"]
    assert words is not None
    assert words.split("\n")[2:] == [f"seed {seed}: {exact(loss)}" for seed, loss in zip((1, 2), per_seed, strict=True)]
    words = mouse(browser, *browser.place("Held-out documents"))
    assert words == "Held-out documents\n2.100 nats/token\nafter 1.28k tokens"


def test_curve_says_the_loss_and_the_gain_of_each_point(browser: Browser, whole: Any) -> None:
    browser.open(whole.folder / "report.html", 1280, "light")
    point = whole.content["curve"]["points"][0]
    words = mouse(browser, *browser.place("Finetuned, after 64 tokens"))
    assert words is not None
    assert words.split("\n")[1] == f"{exact(point['finetune']['mean'])} bits/byte"
    assert words.split("\n")[3] == f"gain {exact(point['gain']['mean'])} bits/byte"
    words = mouse(browser, *browser.place("Next doubling, 2.56k tokens"))
    assert words is not None and "extrapolated, not measured" in words


def test_a_tap_on_a_phone_shows_a_value_inside_of_the_screen(browser: Browser, written: Any) -> None:
    browser.open(written.folder / "report.html", 360, "dark", touch=True)
    for words in ("From scratch", "Gain", "From scratch, step 30", "Held-out documents"):
        x, y = browser.place(words)
        browser.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        browser.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        assert browser.evaluate(TIP).startswith(words)
        box = browser.evaluate("document.querySelector('.tip').getBoundingClientRect().toJSON()")
        assert box["left"] >= 0 and box["right"] <= 360 and box["top"] >= 0 and box["bottom"] <= 800
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_arrow_keys_read_the_values(browser: Browser, written: Any) -> None:
    browser.open(written.folder / "report.html", 1280, "light")
    browser.evaluate("document.querySelector('figure svg.wide').focus()")
    first, second = press(browser, "ArrowRight"), press(browser, "ArrowRight")
    assert first is not None and first.startswith("From scratch\n")
    assert second is not None and second.startswith("Pretrained only\n")
    assert press(browser, "ArrowLeft") == first
    last = press(browser, "End")
    assert last is not None and last.startswith("Gain\n")
    assert press(browser, "Escape") is None
