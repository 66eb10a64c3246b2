"""Every command and every Python snippet of README and documentation runs, page by page, in order.

A block marked ``bash`` or ``python`` runs. Indented blocks are examples that need an account, a network or hours.
"""

import re
import shlex
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.processes import qkd

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = re.compile(r"^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OWN_DATA = ("--data", "reviews.csv", "--text-column", "review", "--label-column", "stars")
SMALL = ("--encoder", "hashing:64", "--epochs", "1", "--limit", "80")
"""Options that keep a run short; other tests use the default models."""


@pytest.fixture(scope="module")
def workplace(corpus, tmp_path_factory):
    """A folder with the files that the pages assume: a table, a teacher's logits and a finished run."""
    folder = tmp_path_factory.mktemp("workplace")
    table = pd.read_csv(corpus / "texts.csv").rename(columns={"t": "review", "y": "stars"})
    table.to_csv(folder / "reviews.csv", index=False)
    shutil.copy(corpus / "logits.csv", folder)
    qkd("distill", *OWN_DATA, "--teacher", "logits:logits.csv", *SMALL, "--qubits=4", cwd=folder, check=True)
    return folder


def small(words, folder):
    """Add options to a command so that it takes seconds, where it does not set them itself."""
    if words[0] in ("distill", "compare", "sweep", "teach"):
        words = [*words, *([] if {"--data", "--config"} & {*words} else OWN_DATA)]
        words += [] if "--teacher" in words or "--config" in words else ["--teacher", f"logits:{folder / 'logits.csv'}"]
        words += [] if words[0] == "teach" or "--config" in words else SMALL
        words += [] if words[0] == "teach" or {"--config", "--circuit", "--qubits"} & {*words} else ["--qubits", "4"]
    return words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_snippets_of_a_page_run(page, workplace, tmp_path, monkeypatch):
    blocks = BLOCKS.findall(page.read_text("utf8"))
    if not blocks:
        return
    folder = tmp_path / "workplace"
    shutil.copytree(workplace, folder, symlinks=True)
    monkeypatch.chdir(folder)
    names = {}
    for language, block in blocks:
        if language == "python":
            exec(block, names)
            continue
        for line in block.splitlines():
            command, *words = shlex.split(line, comments=True)
            assert command == "qkd", line
            assert qkd(*small(words, folder), cwd=folder, check=True).stdout.strip(), line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files(page):
    text = re.sub(r"```.*?```", "", page.read_text("utf8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([\w./-]+)\)", text):
        assert (page.parent / target).exists(), target
