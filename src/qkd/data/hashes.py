"""Hashes of texts, by which a student recognizes the texts of its splits without storing them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from qkd.core.arrays import read_arrays
from qkd.core.console import log
from qkd.core.errors import DataError
from qkd.core.runs import find_folder
from qkd.data.dataset import ORDER, TEST, TRAIN, VALID, Dataset, Splits
from qkd.data.loading import normalize_text

FILE = "texts.safetensors"
"""File of a bundle with the hashes of the texts of each split."""


def text_hashes(texts: Sequence[str]) -> np.ndarray:
    """Return the first 64 bits of the SHA-256 of each normalized text, int64 (N,)."""
    digests = [hashlib.sha256(normalize_text(text).encode("utf-8", "surrogatepass")).digest()[:8] for text in texts]
    return np.frombuffer(b"".join(digests), dtype="<i8").astype(np.int64)


def split_hashes(dataset: Dataset, splits: Splits, unlabeled: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the hashes of each split. Unlabeled texts are training texts."""
    hashes = text_hashes(dataset.texts)
    parts = {TRAIN: splits.train, VALID: splits.valid, TEST: splits.test}
    found = {name: hashes[rows] for name, rows in parts.items()}
    return found | {TRAIN: np.concatenate([found[TRAIN], text_hashes(unlabeled)])}


def read_hashes(where: Path) -> dict[str, np.ndarray]:
    """Return the hashes of the texts of a student in a run folder or bundle folder."""
    folder = find_folder(where)
    path = next((file for file in (folder / "student" / FILE, folder / FILE) if file.is_file()), None)
    hashes = {} if path is None else read_arrays(path)
    if set(hashes) != set(ORDER):
        raise DataError(f"{where}: there is no student whose training can continue; name a finished run")
    return hashes


def keep_apart(dataset: Dataset, splits: Splits, before: Mapping[str, np.ndarray]) -> Splits:
    """Return splits in which every text that an earlier student knows has the split that it had then.

    So the earlier student has learned from no test text, and the next one learns from none of the earlier test texts.
    """
    hashes = text_hashes(dataset.texts)
    assigned = np.empty(len(hashes), dtype=object)
    for name in ORDER:
        assigned[getattr(splits, name)] = name
    for name in ORDER:
        assigned[np.isin(hashes, before[name])] = name
    known = {name: int(np.isin(hashes, before[name]).sum()) for name in ORDER}
    log.info(
        f"{sum(known.values()):,} of {len(hashes):,} texts are those of the student before and keep their splits, "
        f"{known[TEST]:,} of them as test texts"
    )
    return replace(splits, **{name: np.flatnonzero(assigned == name).astype(np.int64) for name in ORDER})
