"""The reader of CSV and TSV files, which decides whether quotation marks are quoting or text."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qkd.core.errors import DataError
from qkd.core.files import refuse_above
from qkd.data.tables import MAX_ROWS, Table, no_column

MAX_SUSPICIOUS_LINES = 10
"""More lines than these, and than a twentieth of the file, that look like rows inside quoted texts stop the reading."""
RETURN = "\ue00d"
"""Private-use character that replaces a lone carriage return inside a text, at which the csv module would end a row."""


@dataclass(frozen=True)
class _Reading:
    """The records of a file under one rule of quoting.

    Attributes:
        lines: The number of each record's first line, from 1.
        ends: The number of each record's last line.
        records: The fields of each record, the header first.
        blank: The number of blank lines before the last record.
    """

    lines: list[int]
    ends: list[int]
    records: list[list[str]]
    blank: int

    @property
    def mismatched(self) -> int:
        """The number of records that do not have one field for each column."""
        width = len(self.records[0])
        return sum(len(fields) != width for fields in self.records)


def read_delimited(path: Path, text: str, names: Sequence[str], tabs: bool) -> Table:
    """Return the columns ``names`` of a file's text.

    A CSV file follows RFC 4180. TSV files come with and without quoting, so both readings are compared.
    """
    text, marked = _mark_returns(text)
    delimiter = "\t" if tabs else _delimiter(text, names)
    notes: tuple[str, ...] = ()
    plain = _records(path, text, delimiter, csv.QUOTE_NONE) if '"' in text else None
    try:
        quoted = _records(path, text, delimiter, csv.QUOTE_MINIMAL)
    except csv.Error as error:
        line, reason = error.args
        if not tabs or plain is None:
            raise DataError(f"{path}: line {line}: {reason}; write a quote inside a quoted field twice") from None
        reading = plain
        if plain.mismatched:
            notes = (f"{path.name}: quotation marks are read as text, because line {line} breaks the rules of quoting",)
    else:
        reading = quoted
        if plain is not None and plain.records != quoted.records:
            reading, notes = _choose(path, plain, quoted, delimiter, names, tabs)
    if marked:
        reading.records[:] = [[field.replace(RETURN, "\r") for field in fields] for fields in reading.records]
    if reading.blank:
        notes += (f"{path.name}: skipped {reading.blank:,} blank lines between rows",)
    return _table(path, reading, names, delimiter, notes)


def _table(path: Path, reading: _Reading, names: Sequence[str], delimiter: str, notes: tuple[str, ...]) -> Table:
    header, body, lines = reading.records[0], reading.records[1:], reading.lines[1:]
    if not body:
        raise DataError(f"{path}: the file has a header but no rows")
    positions = [_position(path, header, name) for name in names]
    for line, fields in zip(lines, body, strict=True):
        if len(fields) > len(header):
            raise DataError(
                f"{path}: line {line} has {len(fields)} fields but the header has {len(header)}; put quotes around "
                f"fields that contain {delimiter!r}"
            )
    columns: dict[str, list[str | None]] = {
        name: [fields[position] if position < len(fields) else None for fields in body]
        for name, position in zip(names, positions, strict=True)
    }
    return Table(columns, [f"line {line}" for line in lines], notes=notes)


def _mark_returns(text: str) -> tuple[str, bool]:
    """Replace lone carriage returns unless the file's lines end with them."""
    if not re.search(r"\r(?!\n)", text) or RETURN in text or re.match(r"[^\r\n]*\r(?!\n)", text):
        return text, False
    return re.sub(r"\r(?!\n)", RETURN, text), True


def _choose(
    path: Path, plain: _Reading, quoted: _Reading, delimiter: str, names: Sequence[str], tabs: bool
) -> tuple[_Reading, tuple[str, ...]]:
    """Return the likelier of two different readings of a file, and a sentence about the choice."""
    swallowed = _swallowed(plain, quoted, names)
    if not tabs:
        if not swallowed:
            return quoted, ()
        where = f"the first from line {swallowed[0]}"
        if len(swallowed) > max(MAX_SUSPICIOUS_LINES, len(plain.records) / 20):
            raise DataError(
                f"{path}: quoted texts contain {len(swallowed):,} lines that look like rows ({where}), so a quotation "
                "mark is probably not closed; write a quote inside a quoted field twice, or save the file as JSONL"
            )
        return quoted, (f"{path.name}: quoted texts contain {len(swallowed):,} lines that look like rows ({where})",)
    known = [all(name in reading.records[0] for name in names) for reading in (plain, quoted)]
    if known[0] != known[1]:
        return (plain, ()) if known[0] else (quoted, ())
    scores = plain.mismatched, quoted.mismatched + len(swallowed)
    count = sum(field[:1] == '"' for fields in plain.records for field in fields)
    as_text = f"{path.name}: quotation marks are read as text in {count:,} fields that begin with one"
    if scores[0] != scores[1]:
        return (plain, (as_text,)) if scores[0] < scores[1] else (quoted, ())
    if len(plain.records) == len(quoted.records) and 2 * _needed(plain, quoted, delimiter) >= count:
        return quoted, (f"{path.name}: quotation marks around {count:,} fields are read as quoting, not as text",)
    return plain, (as_text,)


def _swallowed(plain: _Reading, quoted: _Reading, names: Sequence[str]) -> list[int]:
    """Return the lines inside multi-line records that are complete rows without quoting.

    All lines of a record count if nearly all of them are complete, otherwise those that have a known label.
    """
    header = plain.records[0]
    label = header.index(names[1]) if len(names) > 1 and names[1] in header else None
    single = {line for line, end in zip(quoted.lines, quoted.ends, strict=True) if line == end}
    complete = {
        line: fields[label] if label is not None else ""
        for line, fields in zip(plain.lines, plain.records, strict=True)
        if len(fields) == len(header)
    }
    known = {cell for line, cell in complete.items() if line in single and line > 1} - {""}
    lines: list[int] = []
    for start, end in zip(quoted.lines, quoted.ends, strict=True):
        inside = [line for line in range(start, end + 1) if line in complete] if end > start else []
        nearly_all = len(inside) > 0.8 * (end - start + 1)
        lines += inside if nearly_all else [line for line in inside if start < line < end and complete[line] in known]
    return lines


def _needed(plain: _Reading, quoted: _Reading, delimiter: str) -> int:
    """Return the number of fields that a writer had to quote, or quoted as it did the column's whole content.

    Both readings have one record a line here.
    """
    special = re.compile(f'["\r\n{RETURN}{re.escape(delimiter)}]|^\\s|\\s$')
    needed = 0
    for raw, fields in zip(zip(*plain.records, strict=False), zip(*quoted.records, strict=False), strict=False):
        marked = [field[:1] == '"' for field in raw]
        if all(marked[1:]):
            needed += sum(marked)
        else:
            needed += sum(mark and bool(special.search(field)) for mark, field in zip(marked, fields, strict=True))
    return needed


def _records(path: Path, text: str, delimiter: str, quoting: Literal[0, 3]) -> _Reading:
    """Return all records that are not blank. A `csv.Error` carries its line number and reason."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
    lines: list[int] = []
    ends: list[int] = []
    records: list[list[str]] = []
    line, blank, waiting = 1, 0, 0
    with _any_field_size():
        try:
            for fields in reader:
                if fields:
                    lines.append(line)
                    ends.append(reader.line_num)
                    records.append(fields)
                    blank, waiting = blank + waiting, 0
                    refuse_above(path, len(records), MAX_ROWS, "rows")
                elif records:
                    waiting += 1
                line = reader.line_num + 1
        except csv.Error as error:
            raise csv.Error(line, str(error)) from None
    return _Reading(lines, ends, records, blank)


@contextmanager
def _any_field_size() -> Iterator[None]:
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _delimiter(text: str, names: Sequence[str]) -> str:
    """Return the delimiter of a CSV file: a comma, unless only another one yields the requested columns."""
    first = re.match(r"[\r\n]*([^\r\n]*)", text)
    line = first[1] if first else ""
    for delimiter in ",;\t|":
        with _any_field_size():
            header = next(csv.reader([line], delimiter=delimiter), [])
        if all(name in header for name in names):
            return delimiter
    return ","


def _position(path: Path, header: Sequence[str], name: str) -> int:
    """Return the index of the column ``name``."""
    if header.count(name) == 1:
        return header.index(name)
    if name in header:
        raise DataError(f"{path}: the header has {header.count(name)} columns called '{name}'; rename all but one")
    raise no_column(str(path), name, header)
