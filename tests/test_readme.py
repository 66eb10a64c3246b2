"""What the README tells people to type runs, in the order in which it is told."""

import re
import shlex
from pathlib import Path

import pandas as pd

from tests.processes import qkd

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_every_command_of_the_readme_runs(corpus, tmp_path):
    table = pd.read_csv(corpus / "texts.csv").rename(columns={"t": "review", "y": "stars"})
    table.to_csv(tmp_path / "reviews.csv", index=False)
    # small stand-ins for the two models, which other tests use for real; everything else is as written
    small = ["--teacher", f"logits:{corpus / 'logits.csv'}", "--encoder", "hashing:64", "--epochs", "1"]
    own = ["--data", "reviews.csv", "--text-column", "review", "--label-column", "stars"]
    commands = re.findall(r"^ {4}\.venv/bin/qkd (.+)$", README, re.MULTILINE)
    assert len(commands) >= 4
    for command in commands:
        words = shlex.split(command)
        if words[0] in ("distill", "compare"):
            words += small + ([] if "--data" in words else own)
        assert qkd(*words, cwd=tmp_path, check=True).stdout.strip()


def test_the_python_of_the_readme_runs(corpus, tmp_path, monkeypatch):
    from qkd import distill

    monkeypatch.chdir(tmp_path)
    distill(
        data=str(corpus / "texts.csv"),
        text_column="t",
        label_column="y",
        teacher=f"logits:{corpus / 'logits.csv'}",
        encoder="hashing:64",
        epochs=1,
        qubits=3,
    )
    (lines,) = re.findall(r"((?:^ {4}(?:from qkd|Student).*\n)+)", README, re.MULTILINE)
    exec("\n".join(line.strip() for line in lines.splitlines()), {})  # the README's own lines
    for path in re.findall(r"\]\(([\w./-]+)\)", README):
        assert (Path(__file__).parents[1] / path).exists(), path
