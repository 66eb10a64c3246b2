"""Texts and labels: readers of files and data sets, and splits.

::

    dataset = qkd.data.load("reviews.csv", text_column="review", label_column="stars")

================== ===================================================================================================
`Dataset`          N texts and labels
`load`             texts and labels of a file, a hub data set, or the built-in `docstrings`
`split`            rows for training, validation and test
================== ===================================================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qkd.core.lazy import exports

if TYPE_CHECKING:
    from qkd.data.dataset import Dataset
    from qkd.data.dataset import split_dataset as split
    from qkd.data.loading import load_dataset as load

__all__ = ["Dataset", "load", "split"]

__getattr__, __dir__ = exports(__name__)
