"""Which part of its data set a text is in, where the source says so: published scores are of a published test split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from qkd.data.splits import TEST, TRAIN, VALID
from qkd.data.tables import Table

ORDER = (TRAIN, VALID, TEST)
"""A text that is in several parts stays in the last of them."""
REPLACED = "replaced"
"""The part of rows in whose place other test texts were given."""
BEGINNINGS = {"train": TRAIN, "val": VALID, "dev": VALID, "test": TEST}
"""What a split's name begins with, and what it is."""


def kind(name: str) -> str:
    """Return the part that a split called ``name`` is; a name that says nothing is one more training split."""
    return next((part for start, part in BEGINNINGS.items() if name.lower().startswith(start)), TRAIN)


def kinds(names: Sequence[str] | None, usable: Sequence[int]) -> list[str] | None:
    """Return every row's part, or None where the source leaves the splitting to us.

    A source whose test labels are kept secret has its validation split for the test, as is usual with such data; one
    that has neither, or no training split, is split as any other.

    Args:
        names: the split that each row is in, or None.
        usable: the rows that have a text and a label.

    Returns:
        For each row one of ``ORDER``, or ``REPLACED``.
    """
    if names is None:
        return None
    parts = [REPLACED if name == REPLACED else kind(name) for name in names]
    present = {parts[row] for row in usable}
    if TEST not in present:
        parts = [TEST if part == VALID else part for part in parts]
    if TRAIN not in present or not present & {VALID, TEST}:
        return None
    return parts


def with_test_table(table: Table, test: Table, name: str) -> Table:
    """Return the rows of ``table`` with those of ``test`` for the test split, in the place of its own.

    Args:
        table: training texts, perhaps with splits.
        test: test texts, with the same columns.
        name: of the test file, for the places of its rows.
    """
    own = [TRAIN] * len(table.places) if table.parts is None else [kind(part) for part in table.parts]
    if TRAIN not in own:
        own = [TRAIN] * len(own)
    return replace(
        table,
        columns={column: [*cells, *test.columns[column]] for column, cells in table.columns.items()},
        places=[*table.places, *(f"{name} {place}" for place in test.places)],
        notes=table.notes + test.notes,
        parts=[*(REPLACED if part == TEST else part for part in own), *([TEST] * len(test.places))],
    )
