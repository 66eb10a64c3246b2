"""Files of texts and labels, as found: CSV, TSV, JSONL, Parquet."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from qkd.core.errors import DataError, QkdError, nearest
from qkd.core.files import Row, json_lines

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Table:
    """Columns of one source, before anything is dropped.

    Args:
        columns: the asked columns; a cell is a string, or None where the source has none.
        places: where each row is ("line 17", "row 3", "train_joy.txt line 2").
        parts: the part of the source that each row is in, as the source calls it; None where it has no parts.
    """

    columns: dict[str, list[str | None]]
    places: Sequence[str]
    parts: Sequence[str] | None = None


SUFFIXES = (".csv", ".jsonl", ".ndjson", ".parquet", ".pq", ".tab", ".tsv")


def read_table(path: Path, names: Sequence[str]) -> Table:
    """Return the columns ``names`` of a table file; its suffix says what it is.

    Raises:
        QkdError: the file is missing, empty, of an unknown kind, not UTF-8 (line and byte are named) or malformed, or
            lacks a column (those that exist are named).
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        if path.is_dir():
            raise DataError(f"{path} is a folder; write qdllm:{path} or hf:{path}, or name a file in it")
        raise DataError(f"{path}: '{suffix}' is no known kind of table; use one of {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise DataError(f"{path}: no such file{files_beside(path)}")
    if suffix in (".parquet", ".pq"):
        return _parquet(path, names)
    text = read_utf8(path)
    if not text.strip():
        raise DataError(f"{path}: the file is empty")
    if suffix in (".jsonl", ".ndjson"):
        return _jsonl(path, text, names)
    return _delimited(path, text, names, tabs=suffix in (".tsv", ".tab"))


def read_utf8(path: Path) -> str:
    """Return a file's text, which must be UTF-8 (a byte order mark is allowed).

    Raises:
        QkdError: the file cannot be read, or a byte is not UTF-8; line and byte are named.
    """
    try:
        with unchanged(path):
            data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise DataError(f"{path}: the file is UTF-16, not UTF-8; save it as UTF-8") from None
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise DataError(
            f"{path}: line {line}, byte {column} (0x{data[error.start]:02x}) is not UTF-8; save the file as UTF-8"
        ) from None


@contextmanager
def unchanged(path: Path) -> Iterator[None]:
    """Make sure that a file stays the same while it is read.

    Raises:
        QkdError: it does not.
    """
    before = path.stat()
    yield
    after = path.stat()
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        grew = after.st_size - before.st_size
        raise DataError(
            f"{path}: the file changed while it was read ({grew:+,} bytes); wait until whoever writes it is done, and "
            "run the same command again"
        )


def _delimited(path: Path, text: str, names: Sequence[str], tabs: bool) -> Table:
    delimiter = "\t" if tabs else _delimiter(text, names)
    try:
        records = _records(text, delimiter, csv.QUOTE_MINIMAL)
    except csv.Error as error:
        if not tabs:
            line, what = error.args
            raise DataError(f"{path}: line {line}: {what}; a quote inside a quoted field is written twice") from None
        records = _records(text, delimiter, csv.QUOTE_NONE)  # tab-separated files often know no quoting at all
    header, body = records[0][1], records[1:]
    if not body:
        raise DataError(f"{path}: the file has a header but no rows")
    positions = [_position(path, header, name) for name in names]
    for line, fields in body:
        if len(fields) > len(header):
            raise DataError(
                f"{path}: line {line} has {len(fields)} fields but the header has {len(header)}; put quotes around "
                f"fields that contain {delimiter!r}"
            )
    columns = {
        name: [fields[position] if position < len(fields) else None for _, fields in body]
        for name, position in zip(names, positions, strict=True)
    }
    return Table(columns, [f"line {line}" for line, _ in body])


def _records(text: str, delimiter: str, quoting: Literal[0, 3]) -> list[tuple[int, list[str]]]:
    """Return ``(first line number, fields)`` of every record that is not blank; errors carry their line number."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
    records, line = [], 1
    with _any_field_size():
        try:
            for fields in reader:
                if fields:
                    records.append((line, fields))
                line = reader.line_num + 1
        except csv.Error as error:
            raise csv.Error(line, str(error)) from None
    return records


@contextmanager
def _any_field_size() -> Iterator[None]:
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _delimiter(text: str, names: Sequence[str]) -> str:
    """Return what separates a ``.csv`` file's fields: a comma, unless only another one gives the wanted columns."""
    first = text.lstrip("\r\n").splitlines()[0]
    for delimiter in ",;\t|":
        with _any_field_size():
            header = next(csv.reader([first], delimiter=delimiter))
        if all(name in header for name in names):
            return delimiter
    return ","


def _position(path: Path, header: Sequence[str], name: str) -> int:
    """Return where the column ``name`` is."""
    if header.count(name) == 1:
        return header.index(name)
    if name in header:
        raise DataError(f"{path}: the header has {header.count(name)} columns called '{name}'; rename all but one")
    raise no_column(str(path), name, header)


def no_column(where: str, name: str, existing: Sequence[str]) -> QkdError:
    """Return the error for a column that is missing, with those that exist."""
    return QkdError(
        f"{where}: there is no column '{name}', only {', '.join(repr(column) for column in existing)}; "
        "say which to use with --text-column and --label-column"
    )


def _jsonl(path: Path, text: str, names: Sequence[str]) -> Table:
    rows: list[Row] = []
    places: list[str] = []
    for number, row in json_lines(text):
        if isinstance(row, ValueError):
            raise DataError(f"{path}: line {number} {row}; each line must be one JSON object")
        rows.append(row)
        places.append(f"line {number}")
    existing = list(dict.fromkeys(key for row in rows for key in row))
    for name in names:
        if name not in existing:
            raise no_column(str(path), name, existing)
    columns = {
        name: [cell_text(row.get(name), path, place, name) for row, place in zip(rows, places, strict=True)]
        for name in names
    }
    return Table(columns, places)


def _parquet(path: Path, names: Sequence[str]) -> Table:
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        existing = parquet.read_schema(path).names
        for name in names:
            if name not in existing:
                raise no_column(str(path), name, existing)
        with unchanged(path):
            table = parquet.read_table(path, columns=list(names))
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({str(error).splitlines()[0]})") from None
    if not table.num_rows:
        raise DataError(f"{path}: the file has no rows")
    places = [f"row {number}" for number in range(1, table.num_rows + 1)]
    columns = {
        name: [
            cell_text(value, path, place, name) for value, place in zip(table[name].to_pylist(), places, strict=True)
        ]
        for name in names
    }
    return Table(columns, places)


def cell_text(value: Any, where: Path | str, place: str, column: str) -> str | None:
    """Return a cell as a string: numbers as written, true and false in lower case, whole floats without '.0'."""
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"{where}: {place}, column '{column}' holds half of a character ({value[error.start]!r}), which is no "
                "Unicode text; write the file anew from its source"
            ) from None
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return None if math.isnan(value) else str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, int):
        return str(value)
    raise DataError(f"{where}: {place}, column '{column}' holds a {type(value).__name__}, not a text, number or label")


def files_beside(path: Path) -> str:
    """Return what lies beside a missing path, for the end of an error sentence."""
    names = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    return nearest(path.name, names) if 0 < len(names) <= 20 else ""
