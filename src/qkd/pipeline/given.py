"""Objects among the options of a Python caller: each becomes a value that a configuration file can hold.

========================  ==================================================================================
texts, features           a file below ``runs/.inputs``, in a folder whose name is the hash of its content
circuits                  the same, as OpenQASM 3
teacher, encoder, loss    the name ``object:NAME``; ``qkd.core.objects`` knows the object
========================  ==================================================================================
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qkd.core import objects
from qkd.core.config import Config
from qkd.core.console import log
from qkd.core.errors import ConfigError, DataError, nearest, require_extra
from qkd.core.files import write_text, write_with
from qkd.pipeline.settings import Options, by_section

if TYPE_CHECKING:
    import pandas as pd

    from qkd.circuits.student import StudentCircuit

FOLDER = ".inputs"
"""Folder beside the runs with the texts and circuits that Python objects held."""


@contextmanager
def storable(options: Options, config: Config, resumed: Config | None = None) -> Iterator[dict[str, Any]]:
    """Yield options whose values a configuration file can hold; teachers and losses are known in the block.

    Args:
        options: Single settings by their names, with objects among the values.
        config: The configuration below them: names of columns, and the folder of the runs.
        resumed: The configuration of the run that continues, whose names the objects get.

    Raises:
        QkdError: An option does not exist, or an object does not fit.
    """
    by_section(dict.fromkeys(options, ""))  # refuses unknown names before anything is stored
    values = dict(options)
    runs = values.get("runs", config.run.runs)
    if not isinstance(runs, str | Path):
        raise ConfigError(f"runs is a {type(runs).__name__}; give the folder of the runs")
    folder = Path(runs) / FOLDER
    with objects.released():
        if not isinstance(values.get("data"), str | Path | None):
            values |= stored_data(values, resumed or config, folder)
            if resumed is not None and values["data"] != resumed.data.data:
                raise DataError(f"{resumed.data.data}: the run was started with other texts; start a new run")
        if not isinstance(values.get("circuit"), str | Path | None):
            values["circuit"] = _stored_circuit(values.pop("circuit"), values.pop("inputs", None), folder)
        names = [*_register(values, resumed)]
        if names and resumed is None:
            log.info(
                f"{', '.join(names)} cannot be stored with the run: pass the same object again to resume it"
                + (", and to qkd.Student.load" if "encoder" in names[-1] else "")
            )
        yield {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}


def _register(values: dict[str, Any], resumed: Config | None) -> Iterator[str]:
    """Replace teachers, encoder and loss by their names, in place; yield a description of each object."""
    if (teacher := values.get("teacher")) is not None and not isinstance(teacher, str | Path):
        from qkd.teachers.given import check_teacher

        check_teacher(teacher)
        stored = resumed.teacher.teacher if resumed is not None and objects.is_object(resumed.teacher.teacher) else None
        values["teacher"] = objects.register("teacher", teacher, stored)
        yield f"teacher {values['teacher']}"
    if (loss := values.get("loss")) is not None and not isinstance(loss, str):
        from qkd.student.losses import check_loss

        stored = resumed.loss.loss if resumed is not None else objects.PREFIX + check_loss(loss)
        values["loss"] = objects.register("loss", loss, stored)
        if resumed is not None and stored != objects.PREFIX + check_loss(loss):
            raise ConfigError(f"loss is another function than '{stored}', with which the run was started; pass that")
        yield f"loss {values['loss']}"
    if (encoder := values.get("encoder")) is not None and not isinstance(encoder, str | Path):
        from qkd.encoders.given import embedding_function

        embedding_function(encoder)
        stored = resumed.encoder.encoder if resumed is not None else ""
        values["encoder"] = objects.register("encoder", encoder, stored if objects.is_object(stored) else None)
        yield f"encoder {values['encoder']}"


def _stored_circuit(circuit: Any, inputs: Any, folder: Path) -> str:
    """Write a circuit as OpenQASM 3 and return the file.

    Raises:
        QkdError: It is no circuit, or its inputs are missing or unknown.
    """
    from qiskit.circuit import QuantumCircuit

    from qkd.circuits.qasm import to_qasm
    from qkd.circuits.student import StudentCircuit
    from qkd.devices.compiled import from_quantum_circuit

    student: StudentCircuit
    if isinstance(circuit, StudentCircuit):
        if inputs is not None:
            raise ConfigError("inputs belongs to a QuantumCircuit; a StudentCircuit has its own")
        student = circuit
    elif isinstance(circuit, QuantumCircuit):
        if inputs is None:
            raise ConfigError("a QuantumCircuit needs inputs=[...], the parameters that hold the data")
        student = from_quantum_circuit(circuit, inputs)
    else:
        raise ConfigError(f"circuit is a {type(circuit).__name__}; give a name, a file or a QuantumCircuit")
    text = to_qasm(student)
    path = _place(folder, text.encode()) / "circuit.qasm"
    write_text(path, text)
    return str(path)


def stored_data(values: Mapping[str, Any], config: Config, folder: Path) -> dict[str, Any]:
    """Write texts or features and their labels into a file, and return the options that name it.

    Raises:
        QkdError: The object is no table of texts, or lacks a column.
    """
    data, spec = values["data"], config.data
    columns = [str(values.get(name, getattr(spec, name))) for name in ("text_column", "label_column")]
    splits = [values.get(name, getattr(spec, name)) for name in ("split_column", "group_column", "time_column")]
    if isinstance(data, tuple) and any(splits):
        raise ConfigError(f"(texts, labels) have no column '{next(filter(None, splits))}' for splits; give a table")
    columns += [str(column) for column in splits if column is not None]
    if isinstance(data, tuple) and len(data) in (2, 3) and _is_numeric(data[0]):
        return _stored_features(data, columns, values, folder)
    if isinstance(data, dict) and data and all(hasattr(part, "to_pandas") for part in data.values()):
        return {"data": f"hf:{_stored_splits(data, columns, folder)}"}
    return {"data": str(_stored_table(_table(data, columns), folder))}


def _is_numeric(rows: Any) -> bool:
    """Return whether rows are features instead of texts."""
    if hasattr(rows, "toarray") or getattr(rows, "ndim", 1) == 2:
        return True
    first = next(iter(rows), None) if isinstance(rows, Iterable) and getattr(rows, "ndim", 1) != 0 else None
    return isinstance(first, list | tuple | np.ndarray)


def _stored_features(data: tuple[Any, ...], columns: list[str], values: Mapping[str, Any], folder: Path) -> Any:
    import pandas as pd

    from qkd.data import features

    texts, labels = features.to_texts(data[0]), np.asarray(data[1])
    if labels.shape != (len(texts),):
        raise DataError(f"there are {len(texts)} rows of features but labels of shape {labels.shape}; give (N,)")
    width = texts[0].count(",") + 1 if texts else 1
    if values.get("encoder") not in (None, f"features:{width}"):
        raise ConfigError("features need no encoder; omit encoder=...")
    table = _table(pd.DataFrame(dict(zip(columns, (texts, labels.tolist()), strict=True))), columns)
    path = _stored_table(table, folder)
    found = {"data": str(path), "encoder": f"features:{width}"}
    if len(data) == 2:
        return {**found, "teacher": values.get("teacher") or "features:logreg"}
    if values.get("teacher") is not None:
        raise ConfigError("data has teacher logits, and teacher names another teacher; give one of them")
    return {**found, "teacher": f"logits:{_stored_logits(data[2], table[columns[1]], path.parent)}"}


def _stored_logits(logits: Any, labels: pd.Series, folder: Path) -> Path:
    """Write teacher logits (N,C) beside their features and return the file."""
    from qkd.data.features import to_texts

    to_texts(logits)  # refuses what is no table of finite numbers
    array, classes = np.asarray(logits, np.float64), sorted(set(labels.dropna()))
    if array.shape != (len(labels), len(classes)):
        raise DataError(
            f"the teacher logits have shape {array.shape}, but there are {len(labels)} rows and {len(classes)} labels "
            f"({', '.join(classes)})"
        )
    path = folder / f"logits-{hashlib.sha256(array.tobytes()).hexdigest()[:12]}.npz"
    write_with(path, lambda part: _savez(part, array, classes), private=True)
    return path


def _savez(part: Path, logits: np.ndarray, classes: list[str]) -> None:
    with part.open("wb") as file:
        np.savez(file, logits=logits, classes=np.array(classes))


def _stored_splits(splits: Mapping[str, Any], columns: list[str], folder: Path) -> Path:
    """Write the splits of a ``DatasetDict`` as a data set on disk and return its folder."""
    require_extra("a mapping from splits to tables", "hf", "datasets")
    import datasets

    tables = {name: _table(part, columns) for name, part in splits.items()}
    content = b"".join(name.encode() + _content(table) for name, table in tables.items())
    path = _place(folder, content) / "texts"
    if not path.is_dir():
        parts = {name: datasets.Dataset.from_pandas(table, preserve_index=False) for name, table in tables.items()}
        part = path.with_name(f".{path.name}.part")
        part.parent.mkdir(parents=True, exist_ok=True)
        hidden = datasets.are_progress_bars_disabled()
        datasets.disable_progress_bars()
        datasets.DatasetDict(parts).save_to_disk(part)
        if not hidden:
            datasets.enable_progress_bars()
        part.replace(path)
    return path


def _stored_table(table: pd.DataFrame, folder: Path) -> Path:
    path = _place(folder, _content(table)) / "texts.parquet"
    if not path.is_file():
        write_with(path, lambda part: table.to_parquet(part, index=False), private=True)
    return path


def _content(table: pd.DataFrame) -> bytes:
    return str(table.to_json(orient="split", index=False)).encode("utf-8", "surrogatepass")


def _place(folder: Path, content: bytes) -> Path:
    """Return the folder of an object with this content."""
    return folder.absolute() / hashlib.sha256(content).hexdigest()[:12]


def _table(data: Any, columns: list[str]) -> pd.DataFrame:
    """Return a table of texts and labels from an object.

    Raises:
        QkdError: The object is no table, or lacks a column.
    """
    import pandas as pd

    if columns[0] == columns[1]:
        raise DataError(f"texts and labels cannot both be the column '{columns[0]}'")
    feature = (getattr(data, "features", None) or {}).get(columns[1])  # a datasets.Dataset has its labels as numbers
    try:
        if isinstance(data, tuple) and len(data) == 2:
            data = dict(zip(columns, map(list, data), strict=True))
        if isinstance(data, dict) or (isinstance(data, list) and data and isinstance(data[0], dict)):
            data = pd.DataFrame(data)
        table = data.to_pandas() if hasattr(data, "to_pandas") else data
    except (ValueError, TypeError) as error:
        raise DataError(f"data cannot be read as a table of texts and labels ({error})") from None
    if not isinstance(table, pd.DataFrame):
        raise ConfigError(
            f"data is a {type(data).__name__}; give a name, a file, a table, (texts, labels) or (features, labels)"
        )
    for column in columns:
        if column not in table.columns:
            raise ConfigError(f"data has no column '{column}'{nearest(column, map(str, table.columns))}")
        if list(table.columns).count(column) > 1:
            raise DataError(f"data has several columns '{column}'; rename all but one")
    if feature is not None and hasattr(feature, "int2str"):
        known = table[columns[1]].map(lambda number: None if number is None or number < 0 else feature.int2str(number))
        table = table.assign(**{columns[1]: known})
    kept = table[[*dict.fromkeys(columns)]]
    return kept.astype(str).where(kept.notna()).reset_index(drop=True)
