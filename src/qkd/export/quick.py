"""The part of a bundle that classifies with numpy alone, so that one text needs neither torch nor Qiskit.

``quick.safetensors`` contains the classical form of a student whose encoder needs no transformer, and ``quick.json``
its description as in the numpy format, with a checksum of the bundle's other files.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qkd.core.arrays import read_arrays, write_arrays
from qkd.core.errors import FolderError, ModelError
from qkd.core.files import MAX_ARRAY_BYTES, read_bytes, read_json, write_json
from qkd.core.runs import find_folder
from qkd.export import classify

if TYPE_CHECKING:
    from qkd.encoders.protocol import Encoder
    from qkd.student.model import StudentModel

ARRAYS, DESCRIPTION, ENCODER = "quick.safetensors", "quick.json", "encoder.safetensors"
# Coefficients of one expectation value, at most; more take minutes to compute.
MAX_COEFFICIENTS = 3**8
# The files from which a bundle's student follows.
SOURCES = ("config.json", "student.safetensors", "circuit.qasm", ENCODER)


def quick_folder(where: Path) -> Path | None:
    """Return the bundle folder of a run or bundle folder, or None where it has no such part."""
    folder = find_folder(where)
    folder = folder if (folder / "config.json").is_file() else folder / "student"
    return folder if (folder / DESCRIPTION).is_file() else None


def find_quick(where: Path) -> classify.Classifier | None:
    """Return the classifier of a run or bundle folder, or None where the student itself must be loaded."""
    folder = quick_folder(where)
    if folder is None:
        return None
    try:
        config = read_json(folder / DESCRIPTION)
        if config["format"] != classify.FORMAT or config["checksum"] != _checksum(folder):
            return None
        tables = read_arrays(folder / ENCODER) if (folder / ENCODER).is_file() else {}
        return classify.Classifier(config, read_arrays(folder / ARRAYS) | tables)
    except (FolderError, OSError, ValueError, LookupError, TypeError, AttributeError):
        return None  # damaged, or older than the student


def write_quick(model: StudentModel, encoder: Encoder, folder: Path) -> None:
    """Add the two files to a bundle, if the student has a small classical form and its encoder needs no transformer."""
    from qkd.circuits.cone import input_uses
    from qkd.export.numpy_format import describe_core, describe_encoder, form_arrays
    from qkd.student.classical import classical_form

    circuit = model.circuit
    uses = [np.array(input_uses(circuit, k)) for k in range(len(circuit.observables))]
    if max(np.prod(2.0 * own + 1) for own in uses) > MAX_COEFFICIENTS:
        return
    try:
        description, _ = describe_encoder(encoder)
        form = classical_form(model)
        core, arrays = describe_core(form)
    except ModelError:
        return
    write_arrays(folder / ARRAYS, arrays | form_arrays(form))
    about = {"format": classify.FORMAT, "classes": list(form.classes), "encoder": description, "core": core}
    write_json(folder / DESCRIPTION, {**about, "angle_map": form.angle_map, "checksum": _checksum(folder)})


def _checksum(folder: Path) -> int:
    value = 0
    for name in SOURCES:
        if (folder / name).is_file():
            value = zlib.crc32(read_bytes(folder / name, MAX_ARRAY_BYTES), value)
    return value
