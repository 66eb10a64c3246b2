"""The command line: help, results for people and for scripts, mistakes as one sentence."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import qkd as qkd_package
from qkd.core.config import fields
from tests.processes import qkd


def test_help_loads_nothing_heavy():
    script = (
        "import sys; sys.argv = ['qkd', 'distill', '--help']\n"
        "from qkd.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'qiskit', 'transformers', 'sklearn', 'pandas', 'matplotlib', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("words", "code"), [(["circuits", "list"], 0), (["circuits", "show", "hardwar"], 1)])
def test_it_starts_as_a_module_and_as_a_script(words, code):
    script = Path(sys.executable).with_name("qkd")
    for command in ([sys.executable, "-m", "qkd"], [script]):
        done = subprocess.run([*command, *words], capture_output=True, text=True)
        assert done.returncode == code
        assert "hardware" in (done.stderr if code else done.stdout)


def test_the_version_is_the_installed_one():
    assert qkd("--version").stdout == f"qkd {qkd_package.__version__}\n"


def test_every_setting_is_an_option_with_its_sentence():
    shown = " ".join(qkd("distill", "--help-all").stdout.split())
    for _, option, field in fields():
        assert f"--{option.replace('_', '-')}" in shown
        assert field.description.split(":")[0].split(",")[0] in shown


def test_the_first_help_page_is_short_and_in_panels():
    shown = qkd("distill", "--help").stdout
    assert 10 <= shown.count("\n  -") <= 16
    for panel in ("Data", "Teacher", "Encoder", "Student", "Training", "Simulation", "Device", "Run"):
        assert f"\n{panel}:\n" in shown
    assert "exact|aer|aer-noisy" in shown and "Example:" in shown and "--help-all" in shown
    assert "list[" not in shown + qkd("distill", "--help-all").stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["circuits", "show", "hardwar"], "did you mean 'hardware'"),
        (["circuits", "check", "product", "--qubits", "0"], "--qubits"),
        (["evaluate", "nowhere"], "no run is there"),
        (["predict", "a text", "--run", "nowhere"], "no student lies there"),
        (["distill", "--resume", "--runs", "nowhere"], "there is no run to continue"),
        (["distill", "--epochs", "-1", "--runs", "nowhere"], "--epochs = -1 does not fit: input should be greater"),
        (["distill", "--sim", "aer-nosy", "--runs", "nowhere"], "--sim = 'aer-nosy' does not fit"),
        (["distill", "--epoch", "3"], "No such option"),
        (["distil"], "distill"),
        (["distill", "--teacher", "prob:x", "--runs", "nowhere", "--limit", "40"], "there is no kind 'prob'"),
    ],
)
def test_mistakes_are_one_sentence(words, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = qkd(*words)
    assert done.returncode != 0 and sentence in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.glob("nowhere/*"))


def test_circuits_list_show_check():
    listed = json.loads(qkd("circuits", "list", "--json").stdout)
    assert {"hardware", "qdllm", "reupload", "product"} <= {row["name"] for row in listed}
    assert "x3" in qkd("circuits", "show", "hardware", "--qubits", "4", "--layers", "1").stdout
    report = json.loads(qkd("circuits", "check", "qdllm", "--qubits", "4", "--json").stdout)
    assert report["num_weights"] == 2 * (3 * 3 + 2 + 3 * 4) and report["dead_weights"]
