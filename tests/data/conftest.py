"""A grammar of tables: random texts and labels, written by the writers that people use."""

import csv
import io
import json
import random

import pandas as pd

from qkd.core.errors import QkdError
from qkd.data import loading

PIECES = [
    *"abcxyzAB 019,;|'",
    "  ",
    "word",
    '"',
    '""',
    '", "',
    "\n",
    "\r\n",
    "\r",
    "\t",
    "\u2028",
    "\u0085",
    "é",
    "e\u0301",
]
PIECES += ["日本", "🙂", "NA", "null", "\\", "\\n", "#", "=1+1", "$$", "<b>", "\ufeff", "\xa0", "\x00", "\x1b[31m"]
LABELS = ["pos", "neg", "NA", "None", "nan", "null", "true", "1", "01", "1.0", "a, b", "$$", 'q"q', "日本", "x;y"]


def make_rows(rng):
    """Return rows of a text, a label and a number. Texts and labels are distinct, or missing (None)."""
    calm = rng.random() < 0.5  # half of the tables have only letters and quotation marks
    pieces = ["word", "tall", "a", " ", " ", '"', '"', "'", "7"] if calm else PIECES
    labels = rng.sample(LABELS, rng.randint(2, 4))
    rows = []
    for number in range(rng.randint(4, 30)):
        text = "".join(rng.choice(pieces) for _ in range(rng.randint(0, 12)))
        if rng.random() < 0.15:
            text = f'"{text}"'
        tail = str(number)
        text = rng.choice([f"{tail} {text}", f"{text} {tail}", f'"{tail}{text}', f'{text}{tail}"'])
        rows.append(
            (None if rng.random() < 0.03 else text, None if rng.random() < 0.03 else rng.choice(labels), number)
        )
    return rows


def write_table(rng, path_of, rows):
    """Write rows in one of many dialects and return the file; ``path_of`` turns a suffix into a path."""
    kind = rng.choice(["csv", "csv", "pandas", "tsv", "tsv", "raw", "raw", "jsonl", "parquet"])
    order = rng.sample(["t", "y", "n"], 3)
    cells = [{"t": text, "y": label, "n": number} for text, label, number in rows]
    if kind == "parquet":
        path = path_of(".parquet")
        pd.DataFrame(cells)[order].to_parquet(path, index=False, compression=rng.choice(["snappy", "zstd", None]))
        return path
    end = rng.choice(["\n", "\r\n"])
    if kind == "jsonl":
        ascii_only = rng.random() < 0.5
        lines = [json.dumps({key: row[key] for key in order}, ensure_ascii=ascii_only) for row in cells]
        return _written(rng, path_of(".jsonl"), end.join(lines) + end)
    if kind == "pandas":
        path = path_of(".csv")
        quoting = rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
        pd.DataFrame(cells)[order].to_csv(path, index=False, sep=rng.choice(",;|"), quoting=quoting, lineterminator=end)
        return path
    if kind == "raw":  # no quoting at all: such a writer has to remove delimiters and line ends
        lines = [["" if row[key] is None else _flat(str(row[key])) for key in order] for row in cells]
        for row, line in zip(cells, lines, strict=True):
            row |= {key: line[order.index(key)] or None for key in "ty"}
        rows[:] = [(row["t"], row["y"], row["n"]) for row in cells]
        return _written(rng, path_of(".tsv"), end.join("\t".join(line) for line in [order, *lines]) + end)
    stream = io.StringIO(newline="")
    quoting = rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    delimiter = "\t" if kind == "tsv" else rng.choice([",", ",", ";", "|"])
    writer = csv.writer(stream, delimiter=delimiter, quoting=quoting, lineterminator=end)
    writer.writerows([order, *([row[key] for key in order] for row in cells)])
    return _written(rng, path_of(".tsv" if kind == "tsv" else ".csv"), stream.getvalue())


def _flat(cell):
    return cell.replace("\t", " ").replace("\r", " ").replace("\n", " ")


def _written(rng, path, text):
    encoding = rng.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252"])
    try:
        data = text.encode(encoding)
    except UnicodeEncodeError:
        data = text.encode()
    path.write_bytes(data)
    return path


def check_tables(folder, seeds):
    """Write and read one table for each seed; return how many were refused, and how many readings came with a warning.

    A reading that differs from what was written must be refused or carry a sentence about quotation marks.
    """
    refused = warned = 0
    for seed in seeds:
        rng = random.Random(seed)
        rows = make_rows(rng)
        path = write_table(rng, lambda suffix: folder / f"t{suffix}", rows)
        try:
            found = loading.load_dataset(str(path), "t", "y")
        except QkdError as error:
            assert "\n" not in str(error)
            refused += 1
            continue
        kept = {}
        for text, label, _ in rows:
            text = text and text.rstrip("\r")  # Python 3.11 does not quote it, so it becomes part of the line's end
            if text and text.strip() and label:
                kept.setdefault(loading.normalize_text(text), []).append((text, label))
        read = zip((text.rstrip("\r") for text in found.texts), found.labels, strict=True)
        expected = [pairs[0] for pairs in kept.values() if len({label for _, label in pairs}) == 1]
        if list(read) == expected and found.num_rows == len(rows):
            continue
        assert any("quotation marks" in note or "look like rows" in note for note in found.notes), (seed, found.notes)
        warned += 1
    return refused, warned
