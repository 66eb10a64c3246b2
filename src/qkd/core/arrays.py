"""Arrays in safetensors and npz files: declared types and sizes are checked before data are read."""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from qkd.core.errors import FolderError
from qkd.core.files import MAX_ARRAY_BYTES, MAX_JSON_BYTES, read_bytes, refuse_above, write_bytes

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
Shapes = dict[str, tuple[int, ...]]
ITEM_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64"), 8),
}
"""Bytes of one number by its type in a safetensors file; 8-bit and smaller floats are not read."""


def array_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return the content of a safetensors file of arrays."""
    from safetensors.numpy import save

    return save({name: np.array(array, order="C") for name, array in arrays.items()})


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> bytes:
    """Write arrays as safetensors, atomically, and return the file's content."""
    data = array_bytes(arrays)
    write_bytes(path, data)
    return data


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays in a safetensors file.

    Raises:
        FolderError: The file is missing, damaged, too large or not regular.
    """
    return parse_arrays(read_bytes(path, MAX_ARRAY_BYTES), path)


def parse_arrays(data: bytes, path: Path) -> dict[str, np.ndarray]:
    """Return the arrays in the content of a safetensors file.

    Raises:
        FolderError: The content is damaged.
    """
    from safetensors.numpy import load

    return _parsed(load, data, path)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors in a safetensors file.

    Raises:
        FolderError: The file is missing, damaged, too large or not regular.
    """
    from safetensors.torch import load

    return _parsed(load, read_bytes(path, MAX_ARRAY_BYTES), path)


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors as safetensors, atomically."""
    from safetensors.torch import save

    ready = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    write_bytes(path, save(ready))


def read_shapes(path: Path) -> Shapes:
    """Return the shape of every array in a safetensors file, from its header.

    Raises:
        FolderError: The file is missing or damaged.
    """
    return _shapes(read_bytes(path, MAX_ARRAY_BYTES), path)


def _parsed(load: Callable[[bytes], dict[str, T]], data: bytes, path: Path) -> dict[str, T]:
    from safetensors import SafetensorError

    _shapes(data, path)
    try:
        return load(data)
    except (SafetensorError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise _damaged(path, error) from None


def _shapes(data: bytes, path: Path) -> Shapes:
    length = int.from_bytes(data[:8], "little")
    if not 2 <= length <= min(len(data) - 8, MAX_JSON_BYTES):
        raise _damaged(path, "its header has no length that fits")
    try:
        header = json.loads(data[8 : 8 + length])
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        return {name: _shape(name, entry) for name, entry in entries.items()}
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise _damaged(path, error) from None


def _shape(name: str, entry: dict[str, Any]) -> tuple[int, ...]:
    if entry["dtype"] not in ITEM_BYTES:
        raise ValueError(f"'{name}' has numbers of type {entry['dtype']}; float32 is read")
    shape = tuple(entry["shape"])
    if not all(type(size) is int and 0 <= size < 1 << 48 for size in shape) or len(shape) > 32:
        raise ValueError(f"'{name}' has an impossible shape")
    first, last = entry["data_offsets"]
    if last - first != math.prod(shape) * ITEM_BYTES[entry["dtype"]]:
        raise ValueError(f"the shape of '{name}' does not fit its bytes")
    return shape


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays in an npz file, after a check of the sizes that its members declare.

    Raises:
        FolderError: The file is missing, damaged, too large, not regular, or holds Python objects.
    """
    data = read_bytes(path, MAX_ARRAY_BYTES)
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            declared = sum(_declared_bytes(archive, member) for member in archive.infolist())
        refuse_above(path, declared, MAX_ARRAY_BYTES, "bytes of arrays")
        with np.load(BytesIO(data), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (
        *(zipfile.BadZipFile, zlib.error, OSError, EOFError),
        *(ArithmeticError, LookupError, RuntimeError, SyntaxError, TypeError, ValueError, MemoryError),
    ) as error:
        raise _damaged(path, error, "an npz file") from None


def _declared_bytes(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    if dtype.hasobject:
        raise ValueError(f"'{member.filename}' holds Python objects")
    return math.prod(shape) * dtype.itemsize


def _damaged(path: Path, error: Exception | str, kind: str = "safetensors") -> FolderError:
    why = (str(error).splitlines() or [type(error).__name__])[0]
    return FolderError(f"{path}: cannot be read as {kind} ({why:.200}); copy or make it again")
