"""The page classifies in a browser as the student does, without network, at phone and desk width, in light and dark."""

import json
import shutil

import numpy as np
import pytest

from qkd.circuits import library
from qkd.core.errors import ModelError
from qkd.encoders.registry import make_encoder
from qkd.student.cores import make_control
from tests.export.conftest import CLASSES, CPU, make_student
from tests.export.test_classical import own_circuit

webdriver = pytest.importorskip("selenium.webdriver")
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Chromium without a window."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.chrome.service.Service(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(hashing_student, some_texts, tmp_path_factory):
    """A page with a control."""
    circuit = library.load_circuit("hardware", qubits=4, layers=2)
    control = make_student(hashing_student.encoder, core=make_control("linear", circuit, 3, CPU), seed=7)
    folder = tmp_path_factory.mktemp("page") / "out"
    hashing_student.export(folder, "page", texts=some_texts, control=control, threshold=0.999)
    return folder / "index.html", control


def open_page(browser, path, width=1180, dark=False):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    still = {"name": "prefers-reduced-motion", "value": "reduce"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme, still]})
    browser.get(path.as_uri())


def wait_for(browser):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 60)


def type_text(browser, text):
    box = browser.find_element("id", "text")
    box.clear()
    box.send_keys(text)


@needs_node
def test_its_own_code_answers_as_the_student(hashing_student, static_student, some_texts, tmp_path):
    for name, student in (("hashing", hashing_student), ("static", static_student)):
        done = student.export(tmp_path / name, "page", texts=some_texts)
        assert done.difference < 2e-6 and done.agreement == 1 and done.bytes < 200_000


@needs_node
@pytest.mark.parametrize("kind", ["reupload", "own", "mlp"])
def test_every_core_runs_in_the_page(kind, some_texts, tmp_path):
    circuit, core = library.load_circuit("hardware", qubits=4, layers=1), None
    if kind == "mlp":
        core = make_control("mlp", circuit, 3, CPU)
    elif kind == "own":
        circuit = own_circuit(lambda y: y)
    else:
        circuit = library.load_circuit("reupload", qubits=9, layers=3)
    student = make_student(make_encoder("hashing:32"), circuit, core)
    assert student.export(tmp_path / "out", "page", texts=some_texts[:8]).difference < 2e-6


def test_a_person_types_and_reads(browser, page, hashing_student):
    path, control = page
    open_page(browser, path)
    text = 'Don\'t "quote" <b>me</b> & smile'
    type_text(browser, text)
    for student, bars in ((hashing_student, "bars"), (control, "control-bars")):
        shares = [row.text for row in browser.find_elements("css selector", f"#{bars} .share")]
        exact = 100 * student.predict_proba([text])[0]
        assert np.allclose([float(share.rstrip(" %")) for share in shares], exact, atol=0.51)
    names = [row.text for row in browser.find_elements("css selector", "#bars .name")]
    assert names == list(CLASSES)
    verdict = browser.find_element("id", "verdict").text
    assert verdict.startswith(hashing_student.predict([text])[0]) and verdict.endswith("unsure: defer this text")
    values = [label.text for label in browser.find_elements("css selector", "svg .value")]
    exact = hashing_student.classical().values(hashing_student.encoder.encode([text]))[0]
    assert np.allclose([float(value.replace("−", "-")) for value in values], exact, atol=0.0051)


def test_words_that_matter_are_marked(browser, page, hashing_student):
    open_page(browser, page[0])
    type_text(browser, "alpha beta gamma")
    wait = wait_for(browser)
    wait.until(lambda driver: len(driver.find_elements("css selector", "#words span")) == 3)
    label = hashing_student.predict_proba(["alpha beta gamma"])[0].argmax()
    parts = ["alpha", " ", "beta", " ", "gamma"]
    for place, span in zip((0, 2, 4), browser.find_elements("css selector", "#words span"), strict=True):
        without = "".join(part for i, part in enumerate(parts) if i != place)
        rows = hashing_student.predict_proba(["alpha beta gamma", without])[:, label]
        shown = float(span.get_attribute("title").removesuffix(" points").replace("−", "-"))
        assert shown == pytest.approx(100 * (rows[0] - rows[1]), abs=0.06)


def test_bloch_vectors_are_those_of_the_state(browser, page, hashing_student):
    from qiskit.quantum_info import Statevector

    open_page(browser, page[0])
    type_text(browser, "a text")
    browser.find_element("css selector", "summary").click()
    rows = browser.find_elements("css selector", "#numbers tr")
    cells = [[cell.text for cell in row.find_elements("tag name", "td")] for row in rows]
    circuit = hashing_student.model.circuit
    values = hashing_student.model.values(hashing_student.encoder.encode(["a text"]))[0]
    state = Statevector(circuit.circuit.assign_parameters(dict(zip(circuit.parameters, values, strict=True))))
    for qubit in range(4):
        from qiskit.quantum_info import Pauli

        exact = [state.expectation_value(Pauli(axis), [qubit]).real for axis in "XYZ"]
        assert np.allclose([float(cell) for cell in cells[1 + qubit][4:]], exact, atol=2e-4)


@pytest.mark.parametrize("width", [360, 1180])
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_clipped_and_colors_contrast(browser, page, width, dark):
    open_page(browser, page[0], width, dark)
    type_text(browser, "a text with a few words")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    clipped = browser.execute_script(
        "return [...document.querySelectorAll('main *')].filter((part) => {"
        " const box = part.getBoundingClientRect();"
        " return !part.closest('.hidden') && box.width && (box.right > innerWidth + 1 || box.left < -1);"
        "}).map((part) => part.outerHTML.slice(0, 80))"
    )
    assert clipped == []
    colors = "const style = getComputedStyle(document.body); return [style.color, style.backgroundColor]"
    ink, paper = (sum(map(int, color[4:-1].split(","))) for color in browser.execute_script(colors))
    assert (ink > paper + 400) if dark else (paper > ink + 400)


def test_keyboard_screen_reader_and_network(browser, page):
    open_page(browser, page[0])
    assert browser.execute_script("return document.querySelector('label').htmlFor") == "text"
    roles = {one.get_attribute("id") for one in browser.find_elements("css selector", "[role=status]")}
    assert roles == {"note", "spoken"}
    type_text(browser, "a text")
    wait = wait_for(browser)
    spoken = wait.until(lambda driver: driver.find_element("id", "spoken").get_attribute("textContent"))
    assert spoken.split(", ")[0] in " ".join(CLASSES)
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert "default-src 'none'" in page[0].read_text("utf-8")
    severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert severe == []


def test_a_megabyte_of_pasted_text_and_markup_in_it_do_no_harm(browser, page):
    open_page(browser, page[0])
    paste = (
        "const box = document.getElementById('text'); box.value = arguments[0];"
        "box.dispatchEvent(new Event('input')); return document.getElementById('note').textContent"
    )
    attack = '<img src=x onerror="window.broken = 1"> </script><script>window.broken = 1</script> '
    assert browser.execute_script(paste, attack * 12_000) == "Only the first 20,000 characters are classified."
    browser.execute_script(paste, attack)
    wait = wait_for(browser)
    wait.until(lambda driver: "onerror" in driver.find_element("id", "words").text)
    assert browser.execute_script("return window.broken") is None
    assert not browser.find_elements("css selector", "#words img, #words script")


def test_many_labels_and_a_wide_circuit(browser, tmp_path):
    import torch

    from qkd.simulation.factory import make_engine
    from qkd.student.bundle import Student
    from qkd.student.cores import QuantumCore
    from qkd.student.model import StudentModel

    circuit, encoder = library.load_circuit("hardware", qubits=16, layers=1), make_encoder("hashing:32")
    torch.manual_seed(1)
    model = StudentModel(QuantumCore(circuit, make_engine(CPU, circuit)), 32, [f"label {i}" for i in range(40)])
    folder = Student(model, encoder).export(tmp_path / "out", "page", check=False).folder
    for width in (360, 1180):
        open_page(browser, folder / "index.html", width)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    shown = [row for row in browser.find_elements("css selector", "#bars li") if row.is_displayed()]
    assert len(shown) == 12 and len(browser.find_elements("css selector", "svg .value")) == 16


def test_a_control_of_another_kind_and_other_encoders_are_refused(hashing_student, static_student, tmp_path):
    with pytest.raises(ModelError, match="has the student's labels and encoder"):
        hashing_student.export(tmp_path / "out", "page", control=static_student)


def test_label_names_are_data(page):
    text = page[0].read_text("utf-8")
    model = text.split('id="model">')[1].split("</script>")[0]
    assert json.loads(model)["classes"] == list(CLASSES) and "<b>go" not in text
