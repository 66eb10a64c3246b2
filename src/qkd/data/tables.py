"""Readers of table files: CSV, TSV, JSON lines and Parquet."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qkd.core.errors import DataError, QkdError, nearest
from qkd.core.files import MIB, check_regular, read_bytes, refuse_above

if TYPE_CHECKING:
    import pyarrow


@dataclass(frozen=True)
class Table:
    """The requested columns of one source, before any row is dropped.

    Attributes:
        columns: The cells by column name. A cell is a string, or None where the source has no value.
        places: The place of each row, such as "line 17", "row 3" or "train_joy.txt line 2".
        parts: The source's name for the split of each row, or None where the source has no splits.
        notes: Facts about the reading that a user should know, one sentence each.
    """

    columns: dict[str, list[str | None]]
    places: Sequence[str]
    parts: Sequence[str] | None = None
    notes: tuple[str, ...] = ()


SUFFIXES = (".csv", ".jsonl", ".ndjson", ".parquet", ".pq", ".tab", ".tsv")
MAX_ROWS = 5_000_000
MAX_DATA_BYTES = 256 * MIB
"""Limits of a table, in rows and in bytes after decompression. ``QKD_LIMITS`` multiplies them."""
MAX_ZEROS = 4
"""A file is no text if more than one byte in this number is zero."""
PARQUET_BATCH_ROWS = 128
"""Rows that are decoded before the size is checked again."""


def read_table(path: Path, names: Sequence[str]) -> Table:
    """Return the columns ``names`` of a table file. The suffix decides the format."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        if path.is_dir():
            raise DataError(f"{path} is a folder; write qdllm:{path} or hf:{path}, or name a file in it")
        raise DataError(f"{path}: '{suffix}' is not a supported table format; use one of {', '.join(SUFFIXES)}")
    if suffix in (".parquet", ".pq"):
        return _parquet(path, names)
    text = read_utf8(path)
    if not text.strip():
        raise DataError(f"{path}: the file is empty")
    if suffix in (".jsonl", ".ndjson"):
        return _jsonl(path, text, names)
    from qkd.data.delimited import read_delimited

    return read_delimited(path, text, names, tabs=suffix in (".tsv", ".tab"))


def read_utf8(path: Path) -> str:
    """Return the text of a regular UTF-8 file without its byte order mark."""
    check_exists(path)
    with unchanged(path):
        data = read_bytes(path, MAX_DATA_BYTES)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or data.count(0) > len(data) / MAX_ZEROS:
        raise DataError(f"{path}: the file is UTF-16 or binary, not UTF-8; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise DataError(
            f"{path}: line {line}, byte {column} (0x{data[error.start]:02x}) is not UTF-8; save the file as UTF-8"
        ) from None


def read_lines(path: Path) -> list[str]:
    """Return the lines of a regular UTF-8 file. Lone carriage returns end them only where no line feed does.

    Raises:
        QkdError: As `read_utf8`.
    """
    text = read_utf8(path).replace("\r\n", "\n")
    end = "\n" if "\n" in text else "\r"
    return text.removesuffix(end).split(end)


def check_exists(path: Path) -> None:
    """Raise a `DataError` if there is no file at ``path``, with the name of a similar file there."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path}: no such file{files_beside(path)}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


@contextmanager
def unchanged(path: Path) -> Iterator[None]:
    """Raise a `DataError` if a file changes while the block reads it."""
    before = path.stat()
    yield
    after = path.stat()
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        grew = after.st_size - before.st_size
        raise DataError(
            f"{path}: the file changed while qkd read it ({grew:+,} bytes); wait until its writer has finished, then "
            "run the same command again"
        )


def no_column(where: str, name: str, existing: Sequence[str]) -> QkdError:
    """Return the error for a missing column. It names the columns that exist."""
    shown = [repr(column[:60]) for column in existing[:40]] + ["..."] * (len(existing) > 40)
    return DataError(
        f"{where}: there is no column '{name}', only {', '.join(shown) or 'none'}; select columns with --text-column "
        "and --label-column"
    )


def _jsonl(path: Path, text: str, names: Sequence[str]) -> Table:
    """Read JSON lines. A line ends at a line feed alone, because JSON strings may contain other separators."""
    columns: dict[str, list[str | None]] = {name: [] for name in names}
    places: list[str] = []
    existing: dict[str, None] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_unique_keys)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{path}: line {number} is not JSON ({error!s:.200}); each line must be one JSON object"
            ) from None
        if not isinstance(row, dict):
            raise DataError(f"{path}: line {number} is not a JSON object; each line must be one JSON object")
        places.append(f"line {number}")
        refuse_above(path, len(places), MAX_ROWS, "rows")
        existing.update(dict.fromkeys(row))
        for name in names:
            columns[name].append(cell_text(row.get(name), path, places[-1], name))
    for name in names:
        if name not in existing:
            raise no_column(str(path), name, list(existing))
    return Table(columns, places)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in row if keys.count(key) > 1)!r} occurs twice")
    return row


def _parquet(path: Path, names: Sequence[str]) -> Table:
    """Read a Parquet file in small batches: a small file may hold one long text for many rows."""
    import pyarrow
    import pyarrow.parquet as parquet

    check_exists(path)
    check_regular(path)
    columns: dict[str, list[str | None]] = {name: [] for name in names}
    try:
        schema = parquet.read_schema(path)
        for name in names:
            if name not in schema.names:
                raise no_column(str(path), name, schema.names)
            if schema.names.count(name) > 1:
                raise DataError(f"{path}: {schema.names.count(name)} columns are called '{name}'; rename all but one")
            if not _is_scalar(schema.field(name).type):
                raise DataError(
                    f"{path}: column '{name}' holds {schema.field(name).type}, not texts, numbers or labels"
                )
        with unchanged(path), parquet.ParquetFile(path) as file:
            refuse_above(path, file.metadata.num_rows, MAX_ROWS, "rows")
            size = 0
            for batch in file.iter_batches(PARQUET_BATCH_ROWS, columns=list(names)):
                batch = batch.select(list(names))  # the name "a.b" also selects the field b of a column a
                decoded = [_decoded(column) for column in batch.columns]
                size += sum(column.nbytes for column in decoded)
                refuse_above(path, size, MAX_DATA_BYTES)
                for name, column in zip(batch.schema.names, decoded, strict=True):
                    for value in column.to_pylist():
                        columns[name].append(cell_text(value, path, f"row {len(columns[name]) + 1}", name))
                refuse_above(path, len(columns[names[0]]), MAX_ROWS, "rows")
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = (str(error).strip() or type(error).__name__).split("\n")[0]
        raise DataError(f"{path}: cannot be read as Parquet ({reason:.200})") from None
    count = len(columns[names[0]])
    if not count:
        raise DataError(f"{path}: the file has no rows")
    return Table(columns, [f"row {number}" for number in range(1, count + 1)])


def _is_scalar(kind: pyarrow.DataType) -> bool:
    """Return whether cells of an Arrow type are texts, numbers, truth values or missing."""
    from pyarrow import types

    if types.is_dictionary(kind):
        return _is_scalar(kind.value_type)
    tests = (types.is_string, types.is_large_string, types.is_string_view, types.is_integer, types.is_floating)
    return any(test(kind) for test in (*tests, types.is_boolean, types.is_null))


def _decoded(column: pyarrow.Array) -> pyarrow.Array:
    from pyarrow import types

    return column.dictionary_decode() if types.is_dictionary(column.type) else column


def cell_text(value: Any, where: Path | str, place: str, column: str) -> str | None:
    """Return a cell as a string: numbers as written, truth values in lower case, whole floats without '.0'."""
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"{where}: {place}, column '{column}' holds half of a character ({value[error.start]!r}), which is no "
                "Unicode text; export the file again from its source"
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
    """Return the names of files beside a missing path, as the end of an error sentence."""
    try:
        names = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    except OSError:
        names = []
    return nearest(path.name, names) if 0 < len(names) <= 20 else ""
