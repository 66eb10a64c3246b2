"""What earlier runs were charged, so that the next estimate is nearer to its bill."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qkd.core.errors import QkdError
from qkd.core.files import read_json
from qkd.hardware.ledger import Ledger
from qkd.hardware.plan import plans

PRIOR = 20.0
"""Seconds of the QPU that speak for the estimate itself: one short job does not turn it over."""


@dataclass(frozen=True)
class Bills:
    """What a device's runs were estimated to take and what they were charged, in seconds of the QPU.

    runs: how many were charged and are finished.
    """

    runs: int = 0
    estimated: float = 0.0
    charged: float = 0.0

    @property
    def correction(self) -> float:
        """By what the next estimate is multiplied."""
        return (PRIOR + self.charged) / (PRIOR + self.estimated)


def bills_of(device: str, folder: Path) -> Bills:
    """Return the bills of a device's runs in all run folders beside each other.

    A run counts once the service has said what each of its jobs was charged.

    Args:
        device: its name.
        folder: the folder of the run folders.
    """
    runs, estimated, charged = 0, 0.0, 0.0
    for place in sorted(folder.glob("*/hardware")):
        seconds = _charged(place)
        for plan in plans(place):
            try:
                record = read_json(plan / "plan.json")
                if record["local"] or record["device"] != device or record["version"] is None:
                    continue
                jobs, guess = sum(stage["jobs"] for stage in record["budget"]["stages"]), record["estimated"]
                guess /= record["budget"]["correction"]
            except (QkdError, KeyError, TypeError):  # damaged, or of a qkd that did not write its estimate
                continue
            paid = seconds.get(plan.name, {})
            if jobs and len(paid) == jobs:
                runs, estimated, charged = runs + 1, estimated + guess, charged + sum(paid.values())
    return Bills(runs, estimated, charged)


def _charged(place: Path) -> dict[str, dict[int, float]]:
    """Return for each plan what each of its jobs was charged."""
    charges: dict[str, dict[int, float]] = {}
    for row in Ledger(place / "ledger.jsonl").read()[0]:
        if row.get("event") == "saved" and row.get("seconds"):
            charges.setdefault(row["plan"], {})[row["job"]] = float(row["seconds"])
    return charges
