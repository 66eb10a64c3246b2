"""Whatever bytes lie where a file of qkd's or a user's should, reading ends as an answer or as one sentence.

Every kind of file that is read is damaged in a hundred ways that come from a fixed seed.
"""

import random
import re
import shutil
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from qkd import QkdError, Run, Student, api, run_hardware
from qkd.circuits import library
from qkd.core import checkpoint
from qkd.core.config import Config, read_config, to_toml
from qkd.core.files import write_lines
from qkd.data import loading as data
from qkd.devices import profiles, snapshot
from qkd.hardware import collect, list_jobs
from qkd.hardware.plan import Plan
from qkd.reports.run import summary
from qkd.student.trainer import Progress
from qkd.teachers.logits_file import LogitsTeacher
from tests.test_distill import options

ROUNDS = 100
SPLICES = [b"\x00", b"\xff\xfe", b"\xed\xa0\x80", b"\\ud800", "\u2028\x85\ufeff".encode(), b"\r", b"\r\n", b"'", b'"']
SPLICES += [b"[" * 3000, b"{" * 3000, b'{"a":' * 3000, b"9" * 5000, b"-1", b"1e999", b"NaN", b"-Infinity", b"null"]
SPLICES += [b"true", b"[]", b"{}", b'""', b"../" * 9, b"#", b";", b",", b"\n\n", b" " * 70000, b"pow(2,2)", b"gate "]
SPLICES += [b'include "/etc/passwd";']
"""Bytes that are inserted into a file."""


def damaged(whole, seed):
    """Bytes of a file cut, doubled, exchanged, turned, or with something among them, once to three times."""
    rng = random.Random(seed)
    content = bytearray(whole)
    for _ in range(rng.randint(1, 3)):
        first, second = sorted(rng.randrange(len(content) + 1) for _ in range(2))
        second = min(second, first + rng.choice([1, 8, 200]))
        kind = rng.choice(["cut", "end", "twice", "turn", "splice", "splice", "replace"])
        if kind == "cut":
            del content[first:second]
        elif kind == "end":
            del content[first:]
        elif kind == "twice":
            content[first:first] = content[first:second]
        elif kind == "turn" and first < len(content):
            content[first] ^= 1 << rng.randrange(8)
        else:
            content[first : second if kind == "replace" else first] = rng.choice(SPLICES)
    return bytes(content)


def labelled(path):
    return data.load_dataset(str(path), "text", "label")


def texts_with_logits(path):
    dataset = labelled(path.with_name("texts.csv"))
    teacher = LogitsTeacher(str(path))
    teacher.fit(dataset, data.split_dataset(dataset, 0.15, 0.2, 0))
    return teacher.logits(dataset.texts)


READERS = {
    "run/config.toml": lambda path: Run(path.parent).config,
    "run/metrics.json": lambda path: (Run(path.parent).table(), summary(Run(path.parent).metrics)),
    "run/predictions.jsonl": lambda path: Run(path.parent).predictions,
    "run/history.jsonl": lambda path: Run(path.parent).history,
    "run/student/config.json": lambda path: Student.load(path.parent),
    "run/student/student.safetensors": lambda path: Student.load(path.parent),
    "run/student/circuit.qasm": lambda path: Student.load(path.parent),
    "run/checkpoint/state.json": lambda path: checkpoint.read_checkpoint(path.parent, Progress),
    "run/checkpoint/state-000001.safetensors": lambda path: checkpoint.read_checkpoint(path.parent, Progress),
    "run/device/snapshot.json": lambda path: snapshot.read_snapshot(path).backend,
    "run/hardware/ledger.jsonl": lambda path: list_jobs(path.parents[1]),
    "run/hardware/hw-1/plan.json": lambda path: Plan.load(path.parent),
    "run/hardware/hw-1/texts.jsonl": lambda path: Plan.load(path.parent),
    "run/hardware/hw-1/values.safetensors": lambda path: Plan.load(path.parent),
    "run/hardware/hw-1/circuit.qasm": lambda path: Plan.load(path.parent),
    "run/hardware/hw-1/snapshot.json": lambda path: Plan.load(path.parent),
    "texts.csv": labelled,
    "texts.tsv": labelled,
    "texts.jsonl": labelled,
    "texts.parquet": labelled,
    "logits.csv": texts_with_logits,
    "logits.npz": texts_with_logits,
    "logits.safetensors": texts_with_logits,
    "settings.toml": read_config,
    "circuit.toml": lambda path: library.load_circuit(str(path)),
    "profile.toml": lambda path: profiles.load_profile(str(path)),
}


LEAST = {"run/hardware/ledger.jsonl": 0, "texts.csv": 10, "texts.tsv": 10, "texts.jsonl": 10}
"""Minimum of refused files; a damaged line of a ledger is reported beside the intact ones."""


@pytest.fixture(scope="session")
def files(corpus, tmp_path_factory):
    """One whole file of each kind: those of a run with a device run, tables, logits and settings."""
    folder = tmp_path_factory.mktemp("files") / "whole"
    noisy = {"sim": "aer-noisy", "device": "fake_manila", "shots": 64, "controls": False, "diagnose": False}
    api.distill(**options(corpus, folder, name="run", qubits=2, epochs=1, limit=60, **noisy))
    order = {"device": "fake_manila", "local": True, "mitigation": "readout", "samples": 4, "shots": 64}
    run_hardware(folder / "run", **order)
    (folder / "latest").unlink()
    dataset = data.load_dataset(str(corpus / "texts.csv"), "t", "y", limit=24)
    table = pd.DataFrame({"text": dataset.texts, "label": dataset.labels})
    table.to_csv(folder / "texts.csv", index=False)
    table.to_csv(folder / "texts.tsv", sep="\t", index=False)
    write_lines(folder / "texts.jsonl", table.to_dict("records"))
    table.to_parquet(folder / "texts.parquet")
    rows = np.random.default_rng(0).normal(size=(len(table), len(dataset.classes))).astype(np.float32)
    logits = pd.DataFrame(rows, columns=list(dataset.classes)).assign(text=dataset.texts)
    logits.to_csv(folder / "logits.csv", index=False)
    np.savez(folder / "logits.npz", logits=rows)
    save_file({"logits": rows}, folder / "logits.safetensors")
    (folder / "settings.toml").write_text(to_toml(Config()))
    bundled = Path(library.__file__).parents[3]
    shutil.copy(bundled / "circuits" / "reupload.toml", folder / "circuit.toml")
    shutil.copy(bundled / "transpile_profiles" / "heron.toml", folder / "profile.toml")
    return folder


def rounds(place, name, seeds):
    """Read a file damaged in many ways; return how often it was refused, always by one sentence."""
    path, read = place / name, READERS[name]
    whole = path.read_bytes()
    read(path)
    refused = 0
    for number in seeds:
        path.write_bytes(damaged(whole, f"{name} {number}"))
        try:
            read(path)
        except QkdError as error:
            refused += 1
            said = str(error)
            assert "\n" not in said and 20 < len(said) < 1200, (number, said)
        except Exception as error:
            raise AssertionError(f"{name}, round {number}: {type(error).__name__}: {error}") from error
    return refused


@pytest.mark.parametrize("name", READERS)
def test_damaged_bytes_end_as_an_answer_or_as_one_sentence(files, name, tmp_path, capfd):
    shutil.copytree(files, tmp_path / "whole")
    refused = rounds(tmp_path / "whole", name, range(ROUNDS))
    assert refused >= LEAST.get(name, 20)
    assert not re.search(r"Traceback|^line \d+:\d+ ", capfd.readouterr().err, re.MULTILINE)  # the latter is ANTLR


def test_a_device_run_of_damaged_files_is_gone_on_with_or_refused(files, tmp_path):
    for name in ("plan.json", "job-0.safetensors", "result.json", "texts.jsonl"):
        for number in range(6):
            run = tmp_path / f"{name}-{number}"
            shutil.copytree(files / "run", run)
            path = run / "hardware" / "hw-1" / name
            path.write_bytes(damaged(path.read_bytes(), f"{name} {number}"))
            try:
                collect(run, "hw-1")
            except QkdError as error:
                assert "\n" not in str(error)


def test_damage_is_the_same_wherever_the_test_runs():
    content = [damaged(b"some bytes of a file " * 20, f"a {number}") for number in range(50)]
    assert zlib.crc32(b"".join(content)) == 2056451562
