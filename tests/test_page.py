"""The page of a run in headless Chromium, at two widths and in both color schemes."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from qkd.circuits import library
from qkd.reports.report import render
from qkd.results import DeviceResult, MeasuredResult, Metrics, TestPrediction

CLASSES = ("$$", "<b>好评</b>", "a_very_long_class_name_" * 6)
WIDTHS, SCHEMES = (390, 1280), ("light", "dark")
OVERFLOWING = """
const found = [], width = document.documentElement.clientWidth;
if (document.documentElement.scrollWidth > width) found.push("page " + document.documentElement.scrollWidth);
for (const element of document.querySelectorAll("main *")) {
  if (!element.checkVisibility() || element.closest("thead") && width < 720) continue;
  const box = element.getBoundingClientRect(), svg = element.ownerSVGElement;
  if (box.width && (box.left < -1 || box.right > width + 1)) found.push(`${element.tagName} ${box.left} ${box.right}`);
  if (!svg && element.tagName != "svg" && element.scrollWidth > element.clientWidth + 1 && element.clientWidth)
    found.push(`${element.tagName} ${element.textContent.slice(0, 40)} ${element.scrollWidth}`);
}
return found;
"""
CONTRASTS = """
const luminance = color => {
  const [r, g, b] = color.match(/[\\d.]+/g).map(Number).map(v => v / 255).map(
    v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const paper = luminance(getComputedStyle(document.body).backgroundColor), low = [];
for (const element of document.querySelectorAll("main p, main td, main th, main dt, main dd, figcaption, svg text")) {
  const style = getComputedStyle(element), color = luminance(element.ownerSVGElement ? style.fill : style.color);
  const ratio = (Math.max(paper, color) + 0.05) / (Math.min(paper, color) + 0.05);
  const onPatch = element.ownerSVGElement && color == paper;  // numbers on dark fields of the confusion matrix
  if (ratio < 4.5 && !onPatch) low.push(`${element.tagName} ${element.textContent.slice(0, 30)} ${ratio}`);
}
return [paper, low];
"""


def estimate(value):
    return {"value": value, "low": value - 0.05, "high": value + 0.05}


def difference(value):
    return estimate(value) | {"p": 0.4, "p_holm": 0.8, "verdict": "undecided", "sentence": "Both differ by little."}


def make_page(texts=80, classes=CLASSES, device_runs=True):
    """Return the page of a run with foreign labels, texts and names."""
    rng = np.random.default_rng(0)
    scores = {"accuracy": estimate(0.8), "macro_f1": estimate(0.7), "calibration_error": estimate(0.1)}
    line = {"numbers": scores | {"agreement": estimate(0.9)}, "ms_per_text": 1.5}
    line |= {"parameters": {"classical": 1200, "quantum": 12, "encoder": 22_713_216}}
    names = ("teacher", "student", "linear", "logreg", "ideal training, head refitted", "majority")
    metrics = Metrics.from_dict(
        {
            "qkd": "0.1.0",
            "data": "/a/very/long/path/" + "folder_without_blanks_" * 8 + ".csv",
            "classes": classes,
            "texts": {"train": 500, "valid": 60, "test": texts},
            "notes": ["read 640 rows", "dropped 3 texts that are empty: " + "line 12, " * 40],
            "teacher": {"name": "probe:" + "organization/some-model-" * 4},
            "encoder": {
                "name": "minilm?layers=4",
                "dim": 384,
                "trials": [{"name": "m", "error": 0.1, "accuracy": 0.9}],
            },
            "student": {"circuit": "hardware", "qubits": 4, "inputs": 4, "weights": 12, "observables": 4}
            | {"engine": "statevector", "measured": "exact", "epochs": 3, "best_epoch": 2, "best_valid_loss": 0.5},
            "lines": dict.fromkeys(names, line),
            "gain": difference(-0.02),
            "controls": {"linear": difference(0.01)},
            "seconds": {"training": 12.0},
        }
    )
    history = [{"epoch": n, "loss": 1 / n, "valid_loss": 1.1 / n, "valid_accuracy": 0.5} for n in (1, 2, 3)]
    predictions = [
        TestPrediction(
            text=f"text {n} <script>alert(1)</script> " + "x" * (400 if n == 3 else n),
            label=classes[n % len(classes)],
            **{who: rng.normal(size=len(classes)).tolist() for who in ("teacher", "student", "control")},
        )
        for n in range(texts)
    ]
    rows = [
        {
            "text": "a",
            "evs": evs,
            "stds": [0.1] * 4,
            "exact": [0.8 * value for value in evs],
            "noisy": [0.9 * value for value in evs],
            "logits": [1.0, 0.0],
        }
        | {"prediction": classes[0], "margin": 1.0, "unclear": False}
        for evs in rng.uniform(-1, 1, (20, 4)).tolist()
    ]
    measured = {"plan": "hw-1", "device": "fake_fez", "mitigation": {"name": "zne", "shots": 4096}, "texts": 20}
    measured |= {
        "asked": 20,
        "classes": classes,
        "rms": estimate(0.1),
        "rms_noisy": 0.1,
        "observables": ["Z0", "Z1", "Z2", "Z3"],
        "unclear": 2,
    }
    measured |= {"lines": {kind: {"like_exact": estimate(0.9)} for kind in ("measured", "exact")}, "rows": rows}
    runs: list[DeviceResult] = [MeasuredResult.from_dict(measured)] if device_runs else []
    circuit = library.load_circuit("hardware", qubits=4, layers=2)
    return render("run-" + "n" * 120, metrics, history, predictions, circuit, "[data]\n" + "key = 1\n" * 40, runs)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Headless Chromium with a profile of its own."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if not chromium or not driver:
        pytest.skip("Chromium or its driver is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-component-update"):
        options.add_argument(f"--{flag}")
    for flag in ("disable-background-networking", "disable-sync"):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    started = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield started
    started.quit()


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    """The page in the browser, with every folded part open."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(make_page(), encoding="utf-8")
    browser.get(path.as_uri())
    browser.execute_script("for (const part of document.querySelectorAll('details')) part.open = true")
    return path


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_clipped_and_every_text_is_readable(browser, page, width, scheme):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    assert browser.execute_script(OVERFLOWING) == []
    paper, unreadable = browser.execute_script(CONTRASTS)
    assert unreadable == []
    assert paper > 0.9 if scheme == "light" else paper < 0.05


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_axe_finds_no_violation(browser, page, width, scheme):
    if not (axe := os.environ.get("QKD_AXE")):
        pytest.skip("QKD_AXE does not name axe.min.js, which 'npm pack axe-core' downloads")
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.execute_script(Path(axe).read_text("utf8"))
    found = browser.execute_async_script("const done = arguments[0]; axe.run().then(done)")
    assert [(rule["id"], rule["nodes"][0]["html"]) for rule in found["violations"]] == []


def test_texts_can_be_searched_and_labels_are_shown_as_they_are(browser, page):
    rows = (
        "return [...document.querySelectorAll('.search tbody tr')].filter(row => !row.hidden).map(row => row.innerText)"
    )
    everything = browser.execute_script(rows)
    assert len(everything) == 20 and any("<script>alert(1)</script>" in row for row in everything)
    browser.find_element("css selector", ".search button").click()
    everything = browser.execute_script(rows)
    assert len(everything) > 40
    field = browser.find_element("css selector", ".search input")
    field.send_keys("TEXT 3 ")
    assert 0 < len(browser.execute_script(rows)) <= 1
    field.clear()
    field.send_keys(" ")
    choices = browser.find_elements("css selector", ".search option")
    choices[1].click()
    wrong = browser.execute_script(rows)
    assert 0 < len(wrong) < len(everything)
    choices[0].click()
    labels = browser.execute_script("return [...document.querySelectorAll('td bdi')].map(cell => cell.textContent)")
    assert set(CLASSES) <= set(labels)
    drawn = browser.execute_script("return [...document.querySelectorAll('svg text')].map(text => text.textContent)")
    assert {"$$", "<b>好评</b>", "a_very_long_cla…", "q3"} <= set(drawn)


def test_the_page_is_self_contained_and_answers_first():
    page = make_page(device_runs=False)
    assert "http" not in page.replace("http://www.w3.org/", "") and "<img" not in page and "<link" not in page
    order = [page.index(f"<dt>{label}</dt>") for label in ("Question", "Answer", "Control", "Cost")]
    assert order == sorted(order) and order[-1] < page.index("<h2>")
    assert "Device runs" not in page and page.count("<details>") == 3
    assert Path(__file__).name not in page
