"""Thousands of damaged files for every reader, and for the commands of a run: an answer or one sentence, never exit 70.

Three kinds of damage: bytes at random places, values of JSON files by their structure, and whole files by others.
"""

import json
import os
import random
import resource
import shutil
import sys
import time

import pytest

from qkd.cli import main
from qkd.core import console
from tests.test_fuzz import READERS, damaged, files, rounds
from tests.test_records import WRONG

__all__ = ["files"]
pytestmark = pytest.mark.faults
FACTOR = float(os.environ.get("QKD_FAULTS", "1"))
SECONDS, MEMORY_KIB = 10, 1 << 20
"""Limits of one input on a busy machine: processor seconds, and growth of the largest memory of the process."""


def changed_value(value, rng):
    """A JSON value with one of its entries removed, doubled, replaced or exchanged with another."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.1:
        return rng.choice(
            [*WRONG, 10**400, -(10**30), 2**63, 1e308, "\ud800", "a\nb\x1b[2J", "x" * 100_000, [[[]]] * 99]
        )
    key = rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
    copy = dict(value) if isinstance(value, dict) else list(value)
    if rng.random() < 0.1:
        del copy[key]
    elif rng.random() < 0.1:
        copy[key] = copy[rng.choice(list(copy) if isinstance(copy, dict) else range(len(copy)))]
    else:
        copy[key] = changed_value(copy[key], rng)
    return copy


def damage(path, rng):
    """Change a file of a run."""
    kind = rng.choice(["bytes", "structure", "structure", "structure", "other"])
    if kind == "structure" and path.suffix == ".json":
        path.write_text(json.dumps(changed_value(json.loads(path.read_text()), rng)))
    elif kind == "structure" and path.suffix == ".jsonl" and path.stat().st_size:
        lines = path.read_text().split("\n")[:-1]
        place = rng.randrange(len(lines))
        lines[place] = json.dumps(changed_value(json.loads(lines[place]), rng))
        path.write_text("\n".join(lines) + "\n")
    elif kind == "other":
        other = rng.choice(["nothing", "folder", "device", "pipe", "sibling"])
        siblings = [sibling for sibling in path.parent.iterdir() if sibling.is_file()]
        content = rng.choice(siblings).read_bytes() if other == "sibling" else b""
        path.unlink()
        if other == "folder":
            path.mkdir()
        elif other == "device":
            path.symlink_to("/dev/zero")
        elif other == "pipe":
            os.mkfifo(path)
        elif other == "sibling":
            path.write_bytes(content)
    else:
        path.write_bytes(damaged(path.read_bytes(), str(rng.random())))


@pytest.mark.parametrize("name", READERS)
def test_bytes_for_every_reader(files, name, tmp_path):
    shutil.copytree(files, tmp_path / "whole")
    rounds(tmp_path / "whole", name, range(1000, 1000 + int(400 * FACTOR)))


COMMANDS = [
    ("distill --resume --runs {runs} --name run --epochs 1", 1),
    ("distill --resume --runs {runs} --name run --epochs 2", 1),
    ("evaluate {run}", 2),
    ("predict text --run {run}", 3),
    ("predict text --run {run}/student --json", 3),
    ("jobs list --run {run}", 3),
    ("jobs show hw-1 --run {run}", 3),
    ("jobs show hw-1 --run {run} --json", 3),
    ("jobs collect hw-1 --run {run}", 3),
    ("jobs cancel hw-1 --run {run}", 2),
    ("run-hardware --local --run {run} --device fake_manila --mitigation none --samples 2 --shots 64", 1),
    ("run-hardware --local --run {run} --dry-run --samples 2", 1),
    ("devices compare {run} --devices fake_manila", 1),
    ("transpile {run} --device fake_manila", 1),
    ("compare {run} --students linear,logreg --seeds 1 --epochs 1 --runs {runs} --name c", 1),
]


def outcome(words, capsys):
    """Run ``qkd WORDS`` in this process; return its exit code and what it said."""
    sys.argv = ["qkd", *words]
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0), "".join(capsys.readouterr())
    finally:
        console.set_quiet(False)
    raise AssertionError("main returned")


def test_commands_on_damaged_runs(files, tmp_path, capsys):
    rng = random.Random(int(os.environ.get("QKD_FAULTS_SEED", "0")))
    targets = [
        path
        for path in sorted((files / "run").rglob("*"))
        if path.is_file() and path.suffix in (".json", ".jsonl", ".toml", ".safetensors", ".qasm")
    ]
    names, weights = zip(*COMMANDS, strict=True)
    counts, failed = {"refused": 0, "done": 0}, []
    for number in range(int(400 * FACTOR)):
        runs = tmp_path / str(number)
        shutil.copytree(files / "run", runs / "run")
        path = runs / "run" / rng.choice(targets).relative_to(files / "run")
        damage(path, rng)
        words = rng.choices(names, weights)[0].format(run=runs / "run", runs=runs).split()
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        code, said = outcome(words, capsys)
        used = time.process_time() - start
        more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        about = (number, path.relative_to(runs), words, code, said[-600:])
        faults = {
            "exit": code not in (0, 1, 2) or "unforeseen" in said or "Traceback" in said,
            "escapes": "\x1b[2J" in said,
            "no sentence": code == 1 and not said.rstrip().split("\n")[-1].startswith("error: "),
            "slow or large": used > SECONDS or more > MEMORY_KIB,
            "leftovers": bool(list(runs.rglob("*.part"))),
        }
        failed += [(name, used, more, about) for name, found in faults.items() if found]
        counts["done" if code == 0 else "refused"] += 1
        shutil.rmtree(runs)
    assert not failed, "\n".join(map(str, failed))
    assert min(counts.values()) > 0


WORDS = ["", "-1", "0", "nan", "inf", "1e999", "9" * 400, "\x1b[31m", "a\nb", "../..", "/dev/zero", "/dev/null", "~",
         "latest", "--", "-", "*", "hf:", "hf:x/y", "probe:", "logits:", "qdllm:", "static:", "hashing:0",
         "minilm?layers=99", "a" * 5000, "\udcff", "ibm_fez", "none", "True", "[]", "é", "nul"]  # fmt: skip


def test_values_of_options(corpus, tmp_path, capsys, monkeypatch):
    import typer.main

    from qkd.cli import app

    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.parent.iterdir())
    rng = random.Random(int(os.environ.get("QKD_FAULTS_SEED", "0")))
    cheap = (
        f"--data {corpus}/texts.csv --text-column t --label-column y --teacher logits:{corpus}/logits.csv --encoder "
    )
    cheap = [*cheap.split(), "hashing:16", "--qubits", "2", "--epochs", "1", "--limit", "60", "--runs", "runs"]
    root = typer.main.get_command(app)
    commands = {("distill",): cheap, ("teach",): [*cheap[:10], "--out", "o.parquet"], ("compare",): cheap}
    commands |= {("evaluate",): [], ("predict",): ["text"], ("transpile",): ["hardware", "--device", "fake_manila"]}
    commands |= {
        ("sweep",): [*cheap, "--over", "lr=0.01,0.02", "--trials", "1", "--seeds", "1"],
        ("export",): [],
        ("jobs", "list"): [],
        ("jobs", "collect"): [],
        ("devices", "compare"): [],
        ("circuits", "check"): ["hardware"],
        ("run-hardware",): ["--local"],
        ("circuits", "show"): ["hardware"],
        ("devices", "show"): ["fake_manila"],
    }
    failed = []
    for number in range(int(300 * FACTOR)):
        name = rng.choice(list(commands))
        command = root
        for part in name:
            command = command.commands[part]
        flags = [option.opts[-1] for option in command.params if option.opts[-1].startswith("--")]
        flags = [flag for flag in flags if flag not in ("--debug", "--help", "--ray", "--help-all", "--png", "--out")]
        words = [*name, *commands[name], rng.choice(flags), rng.choice(WORDS)]
        code, said = outcome(words, capsys)
        about = (number, words, code, said[-600:])
        if code not in (0, 1, 2) or "unforeseen" in said or "Traceback" in said:
            failed.append(about)
        assert set(tmp_path.parent.iterdir()) == before, about
    assert not failed, "\n".join(map(str, failed))
