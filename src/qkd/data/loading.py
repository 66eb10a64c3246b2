"""Loading of labeled texts, and the rules that drop rows."""

from __future__ import annotations

import contextlib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from pathlib import Path

from qkd.core.arguments import public
from qkd.core.config import SplitBy
from qkd.core.console import log
from qkd.core.errors import DataError
from qkd.core.files import limit
from qkd.data import corpora, tables
from qkd.data.dataset import (
    MIN_TEXTS_PER_CLASS,
    ORDER,
    PREFIXES,
    TEST,
    TRAIN,
    Dataset,
    Splits,
    assigned_splits,
    shuffled_by_content,
    split_dataset,
    split_of,
)
from qkd.data.tables import Table

__all__ = ["Dataset", "Splits", "load_dataset", "load_texts", "load_unlabeled", "normalize_text", "split_dataset"]

MAX_DROPPED_PERCENT = 50
"""Share of the rows that may be dropped for one reason. ``QKD_LIMITS=2`` allows all."""


@public
def load_dataset(
    source: str,
    text_column: str = "text",
    label_column: str = "label",
    limit: int | None = None,
    seed: int = 0,
    test: str | Path | None = None,
    split_by: SplitBy | None = None,
) -> Dataset:
    """Return the labeled texts of ``source``.

    qkd drops empty texts, texts without a label, repeated texts (up to case, white space and Unicode composition), and
    texts with different labels. ``Dataset.notes`` reports the numbers. Splits of the source are kept. A text that is in
    several splits stays in the last of them.

    Args:
        source: A CSV, TSV, JSONL or Parquet file, ``qdllm:FOLDER``, ``hf:NAME[:CONFIG]``, ``hf:FOLDER``, or
            ``docstrings``.
        text_column: The column of texts, where there are columns.
        label_column: The column of labels.
        limit: The maximum number of texts, stratified by label and split. A smaller limit keeps a subset.
        seed: The seed that selects the texts below the limit.
        test: A table file of test texts that replaces the source's test split.
        split_by: ``("split", column)`` for a column of a table with the names of splits, ``("group", column)`` for one
            with groups, of which `split_dataset` splits none, or ``("time", column)`` for one with dates or numbers.

    Raises:
        QkdError: The source is missing or malformed, lacks a column, or has mostly unusable rows.
    """
    if limit is not None and limit < 1:
        raise DataError(f"limit = {limit} keeps no texts; give at least 1")
    if split_by is not None and (not isinstance(split_by, tuple) or len(split_by) != 2):
        raise DataError("split_by is a pair, such as ('group', 'author')")
    table = _table(source, text_column, label_column, None if split_by is None else split_by[1])
    if split_by is not None and split_by[0] == "split":
        table = _with_named_splits(source, table, split_by[1])
        split_by = None
    if split_by is not None and split_by[0] == "time" and test is not None:
        raise DataError(f"{test}: the time column '{split_by[1]}' chooses the test texts; omit --test-data")
    if test is not None:
        table = _with_test_table(table, tables.read_table(Path(test), tuple(table.columns)), str(test))
    dataset = _clean(source, _with_clean_labels(table, label_column), text_column, label_column)
    if split_by is not None:
        assert dataset.rows is not None
        cells = [table.columns[split_by[1]][row] for row in dataset.rows]
        keys = tuple(
            _key(source, split_by[1], cell, table.places[row]) for cell, row in zip(cells, dataset.rows, strict=True)
        )
        dataset = replace(dataset, split_kind=split_by[0], split_keys=keys)
    return dataset if limit is None else _limited(dataset, limit, seed)


def _key(source: str, column: str, cell: str | None, place: str) -> str:
    """Return a cell of the column that decides the split."""
    if cell is None or not cell.strip():
        raise DataError(f"{source}: {place} has no value in the column '{column}', which decides the split; fill it")
    return cell.strip()


def _with_named_splits(source: str, table: Table, column: str) -> Table:
    """Return a table whose splits are the names in a column."""
    names = [cell.strip() if cell else "" for cell in table.columns[column]]
    for name, place in zip(names, table.places, strict=True):
        if not name.lower().startswith(tuple(PREFIXES)):
            raise DataError(f"{source}: {place}: '{name}' in '{column}' is no split; write train, valid or test")
    return replace(table, parts=names)


def _table(source: str, text_column: str, label_column: str, split_column: str | None = None) -> Table:
    """Return the columns of ``source`` before any row is dropped."""
    kind, colon, rest = source.partition(":")
    if text_column == label_column:
        raise DataError(f"{source}: texts and labels cannot both be the column '{text_column}'")
    if split_column is not None:
        if source == "docstrings" or (colon and kind in ("qdllm", "hf")):
            raise DataError(f"{source}: only a table file can have the column '{split_column}' for splits")
        return tables.read_table(Path(source), tuple(dict.fromkeys((text_column, label_column, split_column))))
    if source == "docstrings":
        return corpora.read_docstrings(text_column, label_column)
    if kind == "qdllm" and colon:
        return corpora.read_qdllm(Path(rest), text_column, label_column)
    if kind == "hf" and colon:
        return corpora.read_hf(rest, text_column, label_column)
    return tables.read_table(Path(source), (text_column, label_column))


def _with_test_table(table: Table, test: Table, name: str) -> Table:
    """Return the rows of ``table`` without a test split, and those of ``test`` as the test split."""
    splits = [TRAIN] * len(table.places) if table.parts is None else [split_of(part) for part in table.parts]
    if TRAIN not in splits:
        splits = [TRAIN] * len(splits)
    kept = [row for row, split in enumerate(splits) if split != TEST]
    notes = table.notes + test.notes
    if len(kept) < len(splits):
        notes += (f"ignored {len(splits) - len(kept):,} texts of the source's test split, which {name} replaces",)
    return Table(
        {column: [*(cells[row] for row in kept), *test.columns[column]] for column, cells in table.columns.items()},
        [*(table.places[row] for row in kept), *(f"{name} {place}" for place in test.places)],
        [*(splits[row] for row in kept), *([TEST] * len(test.places))],
        notes,
    )


def load_texts(file: str | Path, text_column: str = "text") -> list[str]:
    """Return the texts of a table file, or of a ``.txt`` file with one text on each nonblank line, in order."""
    path = Path(file)
    if path.suffix.lower() == ".txt":
        lines = tables.read_lines(path)
        texts: list[str | None] = [line for line in lines if line.strip()]
        places: Sequence[str] = [f"line {number}" for number, line in enumerate(lines, 1) if line.strip()]
        if len(texts) < len(lines):
            log.info(f"{path}: skipped {len(lines) - len(texts):,} blank lines")
    else:
        table = tables.read_table(path, (text_column,))
        texts, places = table.columns[text_column], table.places
    checked = [text for text in texts if text and text.strip()]
    if len(checked) < len(texts):
        empty = [place for text, place in zip(texts, places, strict=True) if not (text and text.strip())]
        raise DataError(f"{path}: no text at {_first(empty)}; remove these rows")
    return checked


def load_unlabeled(file: str | Path, dataset: Dataset, text_column: str = "text") -> tuple[str, ...]:
    """Return the distinct texts of a file that are not in ``dataset``, and log the number of ignored ones.

    The student must not learn from validation and test texts.
    """
    known, fresh = {normalize_text(text) for text in dataset.texts}, dict[str, str]()
    texts = load_texts(file, text_column)
    for text in texts:
        if normalize_text(text) not in known:
            fresh.setdefault(normalize_text(text), text)
    if not fresh:
        raise DataError(f"{file}: all of its {len(texts):,} texts are in {dataset.source} already; give others")
    if len(fresh) < len(texts):
        count = len(texts) - len(fresh)
        log.info(f"{file}: ignored {count:,} texts that occur twice or are in {dataset.source}")
    return tuple(fresh.values())


def normalize_text(text: str) -> str:
    """Return the form in which texts are compared: composed Unicode (NFC), folded case, single blanks."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def _with_clean_labels(table: Table, label_column: str) -> Table:
    """Return the table with labels without invisible characters at their ends, single blanks, and composed Unicode."""
    labels = table.columns[label_column]
    spelled = {label: clean_label(label) for label in set(labels) if label}
    changed = sorted(label for label, clean in spelled.items() if clean and clean != label)
    notes = table.notes
    if changed:
        rows = sum(label in set(changed) for label in labels)
        shown = ", ".join(repr(label[:40]) for label in changed[:5]) + (", ..." if len(changed) > 5 else "")
        notes += (f"cleaned blanks and Unicode composition in {rows:,} labels: {shown}",)
    keys: dict[str, Callable[[str], str | Decimal]] = {
        "differ in case only": str.casefold,
        "look alike or mean the same number": _look,
    }
    for reason, key in keys.items():
        similar = defaultdict(list)
        for label in sorted({clean for clean in spelled.values() if clean}):
            similar[key(label)].append(label)
        for group in similar.values():
            if len(group) > 1 and (key is str.casefold or len({label.casefold() for label in group}) > 1):
                notes += (f"the labels {', '.join(map(repr, group))} {reason} and stay separate classes",)
    clean = [spelled[label] if label else None for label in labels]
    return replace(table, columns=table.columns | {label_column: clean}, notes=notes)


def clean_label(label: str) -> str:
    """Return a label with composed Unicode, single blanks, and neither blanks nor marks of no width at its ends."""
    return " ".join(unicodedata.normalize("NFC", label).split()).strip(" \0\u00ad\u200b\u2060\ufeff")


def _look(label: str) -> str | Decimal:
    """Return a number, or what a label looks like: without invisible characters, width and case."""
    with contextlib.suppress(InvalidOperation):
        if (number := Decimal(label)).is_finite():
            return number
    return "".join(
        mark for mark in unicodedata.normalize("NFKC", label).casefold() if unicodedata.category(mark) != "Cf"
    )


def _clean(source: str, table: Table, text_column: str, label_column: str) -> Dataset:
    """Drop the rows that no student can learn from, and note how many there were."""
    texts, labels, places = table.columns[text_column], table.columns[label_column], table.places
    out = set(empty := [row for row, text in enumerate(texts) if not (text and text.strip())])
    unlabeled = [row for row, label in enumerate(labels) if row not in out and not label]
    out.update(unlabeled)
    parts = assigned_splits(table.parts, [row for row in range(len(texts)) if row not in out])
    groups: dict[str, list[int]] = defaultdict(list)
    for row, text in enumerate(texts):
        if row not in out and text is not None:
            groups[normalize_text(text)].append(row)
    conflicting, repeated, foreign = [], [], []
    for rows in groups.values():
        if parts is not None:  # a test text must not be learned from, so its last part is its only one
            last = max((parts[row] for row in rows), key=ORDER.index)
            foreign += [row for row in rows if parts[row] != last]
            rows = [row for row in rows if parts[row] == last]
        if len({labels[row] for row in rows}) > 1:
            conflicting += rows
        else:
            repeated += rows[1:]
    out.update(conflicting, repeated, foreign)
    reasons = (
        ("that are empty", empty),
        ("without a label", unlabeled),
        ("that occur under different labels", sorted(conflicting)),
        ("that occur more than once (the first was kept)", sorted(repeated)),
        ("that are in the validation or test split too (where they were kept)", sorted(foreign)),
    )
    dropped = tuple(_dropped(reasons, places))
    usable = [row for row in range(len(texts)) if row not in out]
    if not usable:
        raise DataError(f"{source}: none of {len(texts)} texts can be used ({'; '.join(dropped)})")
    secret = _secret_parts(table.parts, labels)
    for column, reason, rows in (
        ("text", "are empty", empty),
        ("label", "have no label", unlabeled),
        ("label", "occur under different labels", conflicting),
    ):
        rows = [row for row in rows if table.parts is None or table.parts[row] not in secret]
        if 100 * len(rows) > limit(MAX_DROPPED_PERCENT) * len(texts):
            raise DataError(
                f"{source}: {len(rows)} of {len(texts)} texts {reason} (the first at {places[min(rows)]}); is "
                f"--{column}-column the right one? If it is, QKD_LIMITS=2 allows that"
            )
    several = sum("\n" in text.strip() or "\r" in text.strip() for text in texts if text)
    count = f"read {len(texts):,} rows, {several:,} of them with line breaks in the text; kept {len(usable):,}"
    return Dataset(
        texts=tuple(str(texts[row]) for row in usable),
        labels=tuple(str(labels[row]) for row in usable),
        source=source,
        notes=(count, *table.notes, *dropped),
        rows=tuple(usable),
        num_rows=len(texts),
        parts=None if parts is None else tuple(parts[row] for row in usable),
    )


def _secret_parts(parts: Sequence[str] | None, labels: Sequence[str | None]) -> set[str]:
    """Return the splits in which no row has a label: the test splits of public benchmarks."""
    return set(parts or ()) - {part for part, label in zip(parts or (), labels, strict=False) if label}


def _first(places: Sequence[str], show: int = 5) -> str:
    """Return the first places, joined by commas."""
    return ", ".join(places[:show]) + (", ..." if len(places) > show else "")


def _dropped(reasons: Sequence[tuple[str, Sequence[int]]], places: Sequence[str]) -> list[str]:
    """Return one sentence for each reason that applies, with the first places."""
    lines = []
    for reason, rows in reasons:
        if rows:
            first = _first([places[row] for row in rows])
            lines.append(f"dropped {len(rows):,} texts {reason}: {first}")
    return lines


def _limited(dataset: Dataset, most: int, seed: int) -> Dataset:
    """Return at most ``most`` texts, stratified, with ``MIN_TEXTS_PER_CLASS`` of each class where it has so many."""
    if most >= len(dataset.texts):
        return dataset
    strata = list(zip(dataset.labels, dataset.parts or dataset.labels, strict=True))
    sizes, taken = Counter(strata), Counter[tuple[str, str]]()
    turns = []
    for row in shuffled_by_content(dataset.texts, seed):
        stratum = strata[row]
        turn = (
            taken[stratum] - MIN_TEXTS_PER_CLASS
            if taken[stratum] < MIN_TEXTS_PER_CLASS
            else taken[stratum] / sizes[stratum]
        )
        turns.append((turn, row))
        taken[stratum] += 1
    chosen = sorted(row for _, row in sorted(turns)[:most])
    keys = dataset.split_keys
    assert dataset.rows is not None
    return replace(
        dataset,
        texts=tuple(dataset.texts[row] for row in chosen),
        labels=tuple(dataset.labels[row] for row in chosen),
        rows=tuple(dataset.rows[row] for row in chosen),
        parts=None if dataset.parts is None else tuple(dataset.parts[row] for row in chosen),
        split_keys=None if keys is None else tuple(keys[row] for row in chosen),
        notes=(*dataset.notes, f"kept {most:,} of {len(dataset.texts):,} texts, because --limit is {most:,}"),
    )
