"""Features instead of texts: a row of numbers is written as a JSON list, which takes the place of a text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from qkd.core.errors import DataError
from qkd.core.records import MAX_DIMENSIONS


def to_texts(features: Any) -> list[str]:
    """Return each row of features (N,D) as text with all digits of float32."""
    return [f"[{', '.join(map(str, row))}]" for row in _checked(features)]


def to_array(texts: Sequence[str] | np.ndarray, dim: int) -> np.ndarray:
    """Return features (N,D) float32 of N rows as text, or of an array (N,D)."""
    rows: Any = texts
    if not len(rows):
        return np.empty((0, dim), np.float32)
    if isinstance(rows[0], str):
        rows = [_parsed(text, number) for number, text in enumerate(rows)]
    array = _checked(rows)
    if array.shape[1] != dim:
        raise DataError(f"the features have {array.shape[1]} columns, but the student reads {dim}")
    return array


def _parsed(text: str, number: int) -> list[float]:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, list):
        raise DataError(f"row {number} ({text!r:.40}) is no list of numbers, and this student reads features")
    return row


def _checked(features: Any) -> np.ndarray:
    try:
        array = np.asarray(features.toarray() if hasattr(features, "toarray") else features)
        array = array.astype(np.float32) if array.dtype.kind in "biufO" else array
    except (ValueError, TypeError, OverflowError):
        raise DataError("the features are no table of numbers; give an array (N,D)") from None
    if array.ndim != 2 or array.dtype.kind != "f" or not 1 <= array.shape[1] <= MAX_DIMENSIONS:
        raise DataError(f"the features have shape {array.shape} and type {array.dtype}; give numbers (N,D)")
    wrong = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(wrong):
        raise DataError(f"the features of {len(wrong)} rows are not finite, the first is row {wrong[0]}; remove them")
    return array
