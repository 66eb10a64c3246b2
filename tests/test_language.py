"""README, documentation, docstrings, comments and messages use the field's terms and plain sentences.

`make lint` checks single words with codespell (`docs/avoided_words.txt`). This test checks phrases
(`docs/avoided_phrases.txt`, regular expressions) and sentences.
"""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GENERATED = {ROOT / "docs" / "reference" / "cli.md", ROOT / "docs" / "reference" / "configuration.md"}
MAX_WORDS = 30
MAX_FINDINGS_PER_1000_WORDS = 1.0

PHRASES = re.compile(
    rf"\b(?:{'|'.join((ROOT / 'docs' / 'avoided_phrases.txt').read_text('utf8').split(chr(10))[:-1])})\b", re.IGNORECASE
)
# a clause that begins with "what" where a noun would do: "what a circuit becomes is compared"
INVERTED = re.compile(
    r"(?:^|[;:(] ?)What\b(?![^.!?]*\?)|\b(?:of|from|in|by|than|says|tells|knows|is|are) what\b(?! (?:if|to)\b)",
    re.IGNORECASE,
)
# a docstring that begins like this is a genitive fragment and no sentence: "Of the learning rate: ..."
FRAGMENT = re.compile(r"(?:Of|What|By|With|How|Whether|Where|From|To|In|Those|That|Likewise|Beyond) ")


def findings(text, docstring=False):
    """Yield ``(kind, sentence)`` for every sentence of a prose text that breaks a rule."""
    text = re.sub(r"`+[^`]*`+", "CODE", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    for number, sentence in enumerate(re.split(r"(?<=[.!?])\s+(?=[A-Z(\"'])|\n\s*\n|\n\s*[-*] ", text)):
        sentence = " ".join(sentence.split())
        if docstring and number == 0 and FRAGMENT.match(sentence):
            yield "fragment", sentence
        if len(re.findall(r"[A-Za-z][A-Za-z'-]*", sentence)) > MAX_WORDS:
            yield "long", sentence
        if PHRASES.search(sentence):
            yield "phrase", sentence
        if INVERTED.search(sentence):
            yield "inverted", sentence


def paragraphs(path):
    """Yield the prose of a Markdown file, without code, tables, formulas and headings."""
    text = re.sub(r"```.*?```|\$\$.*?\$\$", "", path.read_text("utf8"), flags=re.DOTALL)
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-*+]|\d+\.) )", text):
        if not re.match(r"\s*(?:\||#|<)| {4}|\t", block):
            yield block, False


def prose(path):
    """Yield ``(text, is_docstring)`` for the docstrings, comments and messages of a module."""
    source = path.read_text("utf8")
    docstrings = set()
    nodes = list(ast.walk(ast.parse(source)))
    for node in nodes:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            docstrings.add(node.value)
            yield re.sub(r"(?m)^(?: {4}.*|[|=].*)$", "", node.value.value), True
    for node in nodes:
        text = node.value if isinstance(node, ast.Constant) and node not in docstrings else None
        if isinstance(text, str) and text.count(" ") > 4:
            yield text, False
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not token.string.startswith(("#!", "# noqa", "# type")):
            yield token.string.lstrip("# "), False


@pytest.mark.parametrize(
    ("sentence", "kind"),
    [
        ("How many times the predicted error of the best region found anew that of the pinned one may be.", "fragment"),
        ("Of the learning rate: with so much a trained student goes on.", "fragment"),
        ("What a calibration does not tell, coherent errors, `devices learn` fits to 256 circuits.", "inverted"),
        ("What is there twice all the same is cancelled down to the oldest, counted and told.", "phrase"),
        ("It says what of the values the fit leaves unexplained, and " + "so on " * 15 + "at the end.", "long"),
    ],
)
def test_sentences_that_readers_stumbled_over_are_found(sentence, kind):
    assert kind in {found for found, _ in findings(sentence, docstring=True)}


def test_plain_sentences_pass():
    assert not list(
        findings("Return the logits (N,C) of N texts. qkd keeps the oldest duplicate and cancels the others.")
    )


@pytest.mark.parametrize("folder", ["docs", "src"])
def test_texts_are_plain(folder):
    documents = [path for path in (ROOT / "docs").rglob("*.md") if path not in GENERATED and "_build" not in path.parts]
    files = {
        "docs": [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *documents],
        "src": sorted((ROOT / "src").rglob("*.py")),
    }[folder]
    words, found = 0, []
    for path in files:
        for text, is_docstring in paragraphs(path) if path.suffix == ".md" else prose(path):
            words += len(text.split())
            found += [(kind, f"{path.name}: {sentence}") for kind, sentence in findings(text, is_docstring)]
    for kind in ("fragment", "long", "phrase", "inverted"):
        places = [place for one, place in found if one == kind]
        assert len(places) <= MAX_FINDINGS_PER_1000_WORDS * words / 1000, "\n".join([kind, *places])
