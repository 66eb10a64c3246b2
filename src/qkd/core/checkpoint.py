"""Checkpoints of training: a file of tensors, and the JSON that names it and is replaced last."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from qkd.core import records
from qkd.core.arrays import read_tensors, write_tensors
from qkd.core.errors import FolderError
from qkd.core.files import write_json

if TYPE_CHECKING:
    import torch

P = TypeVar("P")
Tensors = dict[str, "torch.Tensor"]

FORMAT = 1
REMEDY = "start again with another --name"


class _Table(records.Record):
    """The content of ``state.json``."""

    format: int
    tensors: str
    progress: Mapping[str, object]


def write_checkpoint(folder: Path, label: str, progress: Any, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write a checkpoint: tensors first, then the JSON that names them, each atomically; older tensors are removed.

    Torch's random streams are kept with it.

    Args:
        label: sets its tensors apart from those of the checkpoint before.
        progress: a dataclass of JSON values.
    """
    import torch

    streams = {"rng.torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        streams["rng.cuda"] = torch.cuda.get_rng_state()
    name = f"state-{label}.safetensors"
    write_tensors(folder / name, {**tensors, **streams})
    write_json(folder / "state.json", {"format": FORMAT, "tensors": name, "progress": asdict(progress)})
    _remove_others(folder, name)


def _remove_others(folder: Path, name: str) -> None:
    for old in folder.glob("state-*.safetensors"):
        if old.name != name:
            old.unlink(missing_ok=True)


def read_checkpoint(folder: Path, kind: type[P]) -> tuple[P, Tensors] | None:
    """Return the progress and the tensors of a folder's checkpoint, or None where it has none.

    Tensors of other checkpoints, which a kill between the two files of one leaves, are removed.

    Raises:
        FolderError: it is damaged, or of another format.
    """
    path = folder / "state.json"
    if not path.exists():
        return None
    table = records.read_record(path, _Table, REMEDY, (FORMAT,))
    progress = records.checked(table.progress, kind, path, REMEDY)
    try:
        if not re.fullmatch(r"[\w-]+\.safetensors", table.tensors):
            raise ValueError("the name of its tensors is no file name")
        tensors = read_tensors(folder / table.tensors)
    except ValueError as error:
        raise damaged(folder, error) from None
    _remove_others(folder, table.tensors)
    return progress, tensors


def damaged(folder: Path, error: Exception) -> FolderError:
    """Return the error of a checkpoint whose tensors do not fit."""
    if isinstance(error, FolderError):
        return error
    why = (str(error).splitlines() or [type(error).__name__])[0]
    return FolderError(f"{folder}: the checkpoint is damaged or belongs to another student ({why}); {REMEDY}")


def under(tensors: Mapping[str, torch.Tensor], group: str) -> Tensors:
    """Return the tensors whose names start with ``group.``, without it."""
    return {name.removeprefix(f"{group}."): value for name, value in tensors.items() if name.startswith(f"{group}.")}


def grouped(**groups: Mapping[str, torch.Tensor]) -> Tensors:
    """Return the tensors of several groups by ``GROUP.NAME``."""
    return {f"{group}.{name}": value for group, tensors in groups.items() for name, value in tensors.items()}


def of_optimizer(optimizer: torch.optim.Optimizer) -> Tensors:
    """Return an optimizer's tensors by ``INDEX.SLOT``."""
    import torch

    states = optimizer.state_dict()["state"]
    return {
        f"{index}.{slot}": torch.as_tensor(value) for index, slots in states.items() for slot, value in slots.items()
    }


def to_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Give an optimizer the tensors that ``of_optimizer`` returned.

    Raises:
        ValueError: a name is malformed.
    """
    slots: dict[int, Tensors] = {}
    for name, value in tensors.items():
        index, _, slot = name.partition(".")
        slots.setdefault(int(index), {})[slot] = value
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})


def to_streams(tensors: Mapping[str, torch.Tensor]) -> None:
    """Set torch's random streams to where a checkpoint's were.

    Raises:
        KeyError: it has none.
        RuntimeError: they are not those of a random stream.
    """
    import torch

    torch.set_rng_state(tensors["rng.torch"])
    if "rng.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["rng.cuda"])
