"""The sentences of a report follow from its numbers."""

import io
from xml.etree import ElementTree

import numpy as np
import pytest

from qkd.core.markup import markdown_text
from qkd.reports import plots
from qkd.reports.pages import Picture
from qkd.reports.run import majority_conclusion, teacher_conclusion
from qkd.reports.tables import Table
from qkd.results import Metrics, ModelResult, PairedDifference
from qkd.student.metrics import confusion_matrix, score
from qkd.student.verdicts import compare_accuracies


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        (40, 10, "The student is better than a linear student (+3.0 points, +1.6 to +4.4)."),
        (10, 40, "The student is worse than a linear student (-3.0 points, -4.4 to -1.6)."),
        (4, 3, "The student is equivalent to a linear student (+0.1 points, -0.5 to +0.7; margin 1)."),
        (22, 20, "The student and a linear student: undecided (+0.2 points, -1.1 to +1.5); about 2,600 texts"),
    ],
)
def test_a_verdict_follows_from_the_interval_and_the_margin(right, wrong, words):
    rows = np.repeat([1.0, -1.0, 0.0], [right, wrong, 1000 - right - wrong])[None]
    found = compare_accuracies("the student", rows, {"linear": 0 * rows}, 0.01, {"linear": "a linear student"})
    assert words in found["linear"].sentence


def test_the_teacher_is_questioned_only_where_the_student_learned_nothing_from_it():
    def gain(verdict):
        return PairedDifference(value=0, low=0, high=0, p=1, p_holm=1, verdict=verdict, sentence="A sentence.")

    def said(teacher, student, right=3):
        logits = np.eye(2)[[0, 0, 1, 1]]
        numbers = score(logits, np.array([0, 0, 1, 1][:right] + [0] * (4 - right)), logits)
        lines = {"teacher": ModelResult.model_construct(numbers=numbers)}
        controls = {"logreg": gain(student)}
        return teacher_conclusion(Metrics.model_construct(teacher_gain=gain(teacher), controls=controls, lines=lines))

    assert "stronger --teacher" in said("undecided", "undecided") and "stronger --teacher" in said(
        "worse", "equivalent"
    )
    assert said("better", "worse") == said("undecided", "better") == "A sentence."
    perfect = said("undecided", "undecided", right=4)
    assert "no wrong answer" in perfect and "--teacher" not in perfect


def test_a_picture_is_drawn_of_its_own_values_though_others_were_drawn_before():
    history = [{"epoch": n, "loss": 1 / n, "valid_loss": 1.1 / n, "valid_accuracy": 0.5} for n in (1, 2, 3)]
    first, second = (Picture("a", plots.learning, (history, best)).to_html() for best in (1, 3))
    assert first != second and first == Picture("a", plots.learning, (history, 1)).to_html()
    history[0]["loss"] = 2.0
    assert Picture("a", plots.learning, (history, 1)).to_html() != first


FOREIGN = ("$$", "$x_1", r"\$a$", "_hidden", "好评", "<b>&amp;", "a\nb", "\x1b[31mred", "x" * 200, "")


def test_any_label_can_be_drawn_and_is_shown_as_it_is(capfd):
    rng = np.random.default_rng(0)
    targets = rng.integers(0, len(FOREIGN), 60)
    image = plots.svg(
        plots.confusion(confusion_matrix(rng.permutation(targets), targets, len(FOREIGN)), FOREIGN),
        'counts <of> "texts"',
    )
    texts = [
        "".join(node.itertext()) for node in ElementTree.fromstring(image).iter("{http://www.w3.org/2000/svg}text")
    ]
    for shown in ("$$", "$x_1", r"\$a$", " _hidden", "好评", "<b>&amp;", "a b", r"\x1b[31mred", "x" * 15 + "…"):
        assert texts.count(shown) == 2
    assert "#2563eb" not in image and "var(--student)" in image
    rendered = io.BytesIO()
    plots.confusion(confusion_matrix(targets, targets, len(FOREIGN)), FOREIGN).savefig(rendered, format="png")
    assert "Glyph" not in capfd.readouterr().err


def test_letters_that_no_font_has_are_named_once(capfd):
    plots.shown("\U0001fbff\ue123")
    plots.shown("\U0001fbff\ue123")
    assert capfd.readouterr().err.count("no installed font has") == 1


def test_a_picture_that_fails_is_a_warning(capfd):
    def broken():
        raise ZeroDivisionError("no bins")

    made = Picture("How sure it is", broken).to_html()
    assert "<svg" not in made and "could not be drawn: How sure it is" in made
    assert "the picture 'How sure it is' cannot be drawn (ZeroDivisionError: no bins)" in capfd.readouterr().err


@pytest.mark.parametrize(
    "text", ["a|b", "<script>alert(1)</script>", "[x](y)", "`c`", "# h", "1. a", "*b* _c_", "a\nb", "$x$"]
)
def test_markdown_shows_foreign_text_as_it_is(text):
    from markdown_it import MarkdownIt

    table = Table(("name", "n"), [(text, "1")]).to_markdown()
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(f"{markdown_text(text)}\n\n{table}\n")
    root = ElementTree.fromstring(f"<r>{html}</r>")
    assert root.find("p").text == " ".join(text.split()) and len(root.find("p")) == 0
    assert root.find(".//td").text == " ".join(text.split()) and len(root.findall(".//td")) == 2


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ((0, 0, 0, 0), "gives every test text the most frequent class, which 75.0 % of them have"),
        ((0, 0, 0, 1), "25.0 points more accurate"),
        ((0, 0, 1, 1), "not more accurate than the most frequent class (+0.0 points)"),
        ((1, 1, 0, 0), "not more accurate than the most frequent class (-50.0 points)"),
    ],
)
def test_a_constant_answer_is_named(answers, words):
    targets = np.array([0, 0, 0, 1])
    numbers = {
        name: score(np.eye(2)[list(given)], targets) for name, given in (("student", answers), ("majority", [0] * 4))
    }
    lines = {name: ModelResult.model_construct(numbers=found) for name, found in numbers.items()}
    assert words in majority_conclusion(Metrics.model_construct(lines=lines))
