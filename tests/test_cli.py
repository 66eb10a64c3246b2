"""The command line: help, results for people and for scripts, mistakes as one sentence."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import typer.main

import qkd as qkd_package
from qkd.cli import app
from qkd.core import cache
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


def commands(command, name=()):
    """Yield every command with its words."""
    if hasattr(command, "commands"):
        for word, inner in command.commands.items():
            yield from commands(inner, (*name, word))
    else:
        yield name, command


def test_every_command_has_an_example_that_parses():
    for name, command in commands(typer.main.get_command(app)):
        [example] = re.findall(r"Example: (qkd .*)", command.help)
        words = shlex.split(example)
        assert words[1 : 1 + len(name)] == list(name)
        command.make_context("qkd", words[1 + len(name) :], resilient_parsing=False).close()


def test_help_names_kinds_of_values_as_people_do_and_cuts_no_sentence():
    application = typer.main.get_command(app)
    for _, command in (((), application), *commands(application)):
        shown = command.get_help(command.make_context("qkd", [], resilient_parsing=True))
        assert not re.search(r"<(str|int|float|path|list)|\w\.\.\.\n", shown)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["circuits", "show", "hardwar"], "did you mean 'hardware'"),
        (["circuits", "check", "product", "--qubits", "0"], "--qubits"),
        (["evaluate", "nowhere"], "no run in this folder"),
        (["predict", "a text", "--run", "nowhere"], "no run in this folder"),
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


@pytest.fixture(scope="module")
def bundle(corpus, tmp_path_factory):
    """The folder of a trained student."""
    from qkd import api
    from tests.test_distill import options

    return api.distill(**options(corpus, tmp_path_factory.mktemp("runs"), epochs=1, qubits=2)).folder.student


@pytest.mark.parametrize("words", [["-"], []])
def test_texts_come_from_a_pipe_and_blank_lines_are_told(bundle, words):
    command = [sys.executable, "-m", "qkd", "predict", *words, "--run", str(bundle), "--json"]
    done = subprocess.run(command, input="one text\n\n  \nanother \u2028 text\r\n", capture_output=True, text=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["text"] for row in rows] == [
        "one text",
        "another \u2028 text",
    ] and "skipped 2 blank lines" in done.stderr


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_predictions_are_written_to_a_file(bundle, tmp_path, suffix):
    (tmp_path / "texts.txt").write_text('a text\n\n=1+1, "quoted"\n')
    out = tmp_path / f"out.{suffix}"
    done = qkd("predict", "--file", str(tmp_path / "texts.txt"), "--run", str(bundle), "--output", str(out), check=True)
    assert done.stdout == "" and "skipped 1 blank lines" in done.stderr
    if suffix == "jsonl":
        table = pd.DataFrame([json.loads(line) for line in out.read_text().splitlines()])
    else:
        table = pd.read_csv(out) if suffix == "csv" else pd.read_parquet(out)
        columns = [column for column in table if column.startswith("probability of ")]
        assert len(columns) == 4 and table[columns].sum(axis=1).to_numpy() == pytest.approx([1, 1])
    assert list(table["text"]) == ["a text", '=1+1, "quoted"']
    assert qkd("predict", "x", "--run", str(bundle), "--output", str(tmp_path / "x.xls")).returncode == 1


def test_empty_texts_are_counted(bundle):
    said = qkd("predict", "", "x", "--run", str(bundle), check=True).stderr
    assert "1 of 2 texts are empty" in said


def test_a_text_can_forge_no_line_and_a_dash_is_explained(bundle):
    done = qkd("predict", "good\nforged\t0.999\t\x1b[1A", "--run", str(bundle), check=True)
    assert done.stdout.count("\n") == 1 and r"good\nforged\t0.999\t\x1b[1A" in done.stdout
    assert "qkd predict -- TEXT" in qkd("predict", "-bad movie", "--run", str(bundle)).stderr
    assert "-- TEXT" not in qkd("predict", "a", "--run", str(bundle), "--defer").stderr
    assert qkd("predict", "--run", str(bundle), "--", "-bad movie", check=True).stdout.endswith("\t-bad movie\n")


def test_the_doctor_names_versions_and_a_foreign_distribution(tmp_path, monkeypatch):
    rows = {row["what"]: row for row in json.loads(qkd("doctor", "--json", check=True).stdout)}
    assert rows["qkd"]["value"].startswith(qkd_package.__version__) and "other qkd" not in rows
    assert {"qiskit", "torch", "free disk", "cache", "GPU", "model minilm", "IBM Quantum account"} <= set(rows)
    (tmp_path / "qkd-0.2.0.dist-info").mkdir()
    (tmp_path / "qkd-0.2.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: qkd\nVersion: 0.2.0\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    done = subprocess.run([sys.executable, "-m", "qkd", "doctor"], capture_output=True, text=True)
    assert "0.2.0 is another project" in done.stdout and "pip uninstall qkd" in done.stdout


def test_the_cache_is_shown_and_cleaned(tmp_path):
    rows = cache.root() / "rows" / "x"
    rows.mkdir(parents=True)
    (rows / "a").write_bytes(b"x" * 2000)
    (cache.root() / "models").symlink_to(tmp_path)
    (tmp_path / "mine").write_text("keep me")
    assert json.loads(qkd("cache", "show", "--json").stdout)["kinds"]["rows"] == {"files": 1, "bytes": 2000}
    assert "did you mean 'rows'" in qkd("cache", "clean", "row", "--yes").stderr
    assert qkd("cache", "clean", "rows").returncode != 0 and rows.exists()
    assert "2.0 kB" in qkd("cache", "clean", "rows", "--yes").stdout and not rows.exists()
    qkd("cache", "clean", "--yes", check=True)
    assert (tmp_path / "mine").read_text() == "keep me"


def test_the_shell_completes_commands_and_options():
    env = os.environ | {"_QKD_COMPLETE": "complete_bash", "COMP_WORDS": "qkd dis", "COMP_CWORD": "1"}
    script = Path(sys.executable).with_name("qkd")
    assert subprocess.run([script], env=env, capture_output=True, text=True).stdout.split() == ["distill"]
    env["COMP_WORDS"], env["COMP_CWORD"] = "qkd distill --qub", "2"
    assert subprocess.run([script], env=env, capture_output=True, text=True).stdout.split() == ["--qubits"]
