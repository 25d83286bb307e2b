"""The report page in a real browser: it decodes, fits, can be read, loads nothing and runs nothing."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lop_sweeps.analysis import page
from lop_sweeps.analysis.reading.load import load
from tests.analysis import browser
from tests.analysis.sweep_builder import SweepBuilder, task_rows

pytestmark = pytest.mark.skipif(browser.find() is None, reason="needs Chromium (Debian: chromium)")

ATTACK = "<script>window.attacked = 1</script><img src=x onerror='window.attacked = 1'>"
WIDE, PHONE = 1280, 390

# Contrast: WCAG 2.1, relative luminance; of every element with text of its own, against what is painted behind it.
SCRIPT = """
document.querySelectorAll("details").forEach(each => each.open = true);
const all = (what, how) => Array.from(document.querySelectorAll(what), how);
const numbers = text => text.match(/[\\d.]+/g).map(Number);
const light = text => numbers(text).slice(0, 3).map(c => c / 255)
    .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const behind = node => {
    const colour = getComputedStyle(node).backgroundColor;
    return (numbers(colour)[3] ?? 1) > 0 || !node.parentElement ? colour : behind(node.parentElement);
};
const contrast = node => {
    const [a, b] = [light(getComputedStyle(node).color), light(behind(node))];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
};
const written = Array.from(document.body.querySelectorAll("*")).filter(node =>
    node.tagName != "SCRIPT" && Array.from(node.childNodes).some(child => child.nodeType == 3 && child.data.trim()));
const images = all("img", image => ({
    natural: [image.naturalWidth, image.naturalHeight], shown: image.getBoundingClientRect().width,
    alt: image.alt, source: image.src.slice(0, 22)}));
document.querySelector("label").click();
const enlarged = document.querySelector("img").getBoundingClientRect().width;
return {
    images, enlarged,
    page: [document.documentElement.scrollWidth, innerWidth],
    boxes: all(".scroll", box => [box.scrollWidth, box.clientWidth]),
    headings: all("h1, h2", heading => heading.textContent),
    cells: all("th, td", cell => cell.textContent),
    targets: all("nav a", link => document.querySelector(link.getAttribute("href")) != null),
    contrast: written.map(node => [contrast(node), node.tagName, node.className]),
    dark: light(getComputedStyle(document.body).backgroundColor) < 0.1,
    loaded: performance.getEntriesByType("resource").map(entry => entry.name),
    scripts: document.scripts.length,
    attacked: "attacked" in window,
};
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    sweep = SweepBuilder(folder / "sweeps" / f"digits {ATTACK}".replace("/", "∕"))
    for label in ("backprop", "continual backprop with a name that is long", ATTACK):
        for seed in range(3):
            option = {
                "_target_": "x",
                "a_long_hyper_parameter": 0.001,
                "maturity_threshold": 100,
                "scaled_by_width": True,
            }
            run = sweep.add(
                seed=seed,
                run=f"{len(label)}-{seed}",
                config={"variant": label},
                optimizer={"step_size": 0.01 / len(label)},
                options={"continual_backprop": option} if label != "backprop" else {},
                rows=task_rows(np.linspace(0.9, 0.7, 20)),
            )
            provenance = {
                "commit": "0123456789" * 4,
                "diff": "+1",
                "python": "3.11",
                "machine": {"host": ATTACK, "cpu": "c" * 80, "cores": 8, "system": "s"},
                "sessions": [{"began": 1e9, "ended": 1e9 + 60, "pid": seed, "engine": "fused"}],
            }
            (run / "provenance.json").write_text(json.dumps(provenance))
    error = {"type": "ValueError", "message": ATTACK, "traceback": f"{'x' * 400}\n{ATTACK}"}
    run = sweep.add(seed=3, run="failed", config={"variant": ATTACK}, state="failed")
    (run / "status.json").write_text(json.dumps({"state": "failed", "error": error}))
    pictures = []
    for name, size in {"narrow": (600, 300), "wide": (2400, 700)}.items():
        path = folder / f"{name}.png"
        Image.new("RGB", size, "white").save(path)
        pictures.append(page.Picture(f"A {name} figure", path, f"Text & {ATTACK}"))
    wide = pd.DataFrame({f"a long heading {i}": [0.5] for i in range(12)}).assign(label=[ATTACK])
    return page.write(load(sweep.folder), pictures, {"Numbers": wide}, [ATTACK], folder / "report.html", ATTACK)


@pytest.fixture(scope="module")
def wide(report: Path) -> Any:
    return browser.measure(report, SCRIPT, WIDE)


@pytest.fixture(scope="module")
def phone(report: Path) -> Any:
    return browser.measure(report, SCRIPT, PHONE, dark=True)


def test_images_decode_and_fit(wide: Any, phone: Any) -> None:
    for measured, width in ((wide, WIDE), (phone, PHONE)):
        assert [image["natural"] for image in measured["images"]] == [[600, 300], [2400, 700]]
        assert all(0 < image["shown"] < width for image in measured["images"])
        assert [image["source"] for image in measured["images"]] == ["data:image/png;base64,"] * 2
    assert wide["images"][0]["alt"] == f"A narrow figure. Text & {ATTACK}"


def test_click_shows_a_figure_in_full_size(wide: Any, phone: Any) -> None:
    assert phone["images"][0]["shown"] < 400
    assert wide["enlarged"] == phone["enlarged"] == 600


def test_only_boxes_scroll_sideways(wide: Any, phone: Any) -> None:
    assert wide["page"] == [WIDE, WIDE]
    assert phone["page"] == [PHONE, PHONE]
    assert all(inner > outer for inner, outer in phone["boxes"]), "tables are wider than a phone"
    assert all(outer < PHONE for _, outer in phone["boxes"])


def test_every_text_can_be_read_in_light_and_dark(wide: Any, phone: Any) -> None:
    assert not wide["dark"]
    assert phone["dark"]
    for measured in (wide, phone):
        assert len(measured["contrast"]) > 80
        assert [text for text in measured["contrast"] if text[0] < 4.5] == []


def test_headings_links_and_cells_are_there(wide: Any) -> None:
    sections = ["Tables", "Figures", "What was run", "What failed or is missing", "How this page was made"]
    assert wide["headings"][1:] == sections
    assert wide["targets"] == [True] * len(sections)
    assert {"0.5000", "backprop", "continual backprop with a name that is long", ATTACK, "0–2", "3 done"} <= set(
        wide["cells"]
    )


def test_nothing_is_loaded_and_nothing_runs(wide: Any, report: Path) -> None:
    assert wide["loaded"] == []
    assert wide["scripts"] == 1  # the test's own
    assert not wide["attacked"]


def test_policy_stops_a_script_that_got_into_the_page(report: Path) -> None:
    script = '<p id="p">-</p><script>document.getElementById("p").textContent = "ran"</script></body>'
    text = report.read_text(encoding="utf-8").replace("</body>", script)
    for name, content in {"kept": text, "without": browser.POLICY.sub("", text)}.items():
        copy = report.with_name(f"{name}.html")
        copy.write_text(content, encoding="utf-8")
        assert ('<p id="p">ran</p>' in browser.dom(copy, WIDE)) == (name == "without")
