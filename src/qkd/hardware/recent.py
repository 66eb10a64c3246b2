"""What ``qkd devices learn`` found of a device lately, which the forecasts and error bars of its runs reckon with."""

from __future__ import annotations

import datetime
from pathlib import Path

from qkd.core.console import say, warn
from qkd.core.errors import ConfigError, QkdError
from qkd.devices import snapshot
from qkd.devices.hidden import with_learned
from qkd.devices.snapshot import Snapshot
from qkd.hardware.pinned import same_device

DAYS = 7
"""Learned errors that are older are not taken unless they are asked for: devices drift."""
NONE = "none"
"""The word that asks for none."""


def with_recent_errors(device: Snapshot, asked: str | None, now: datetime.datetime | None = None) -> Snapshot:
    """Return a device with errors that were learned of it beside today's calibration; what is taken is said.

    Args:
        device: as it is calibrated.
        asked: a file that ``qkd devices learn`` wrote, however old, or ``none``; the newest of the user's, if it is not
            older than ``DAYS``, when None.
        now: the day.

    Raises:
        QkdError: the file asked for cannot be read, holds nothing learned, or is of another device.
    """
    if asked == NONE:
        return device
    if asked is not None:
        return _with_errors_of(device, Path(asked))
    files = snapshot.learned_files(device.name)
    if not files:
        return device
    try:
        taught = _with_errors_of(device, files[-1])
    except QkdError as error:
        warn(f"what was learned of {device.name} is left out: {error}")
        return device
    learned = taught.calibration.learned
    assert learned is not None
    if learned.days_before(now or datetime.datetime.now(datetime.UTC)) > DAYS:
        say(
            f"errors of {device.name} were learned on {learned.date[:10]}, over {DAYS} days ago, and are left out; "
            f"'qkd devices learn {device.name}' learns them anew, and --learned {files[-1]} takes these"
        )
        return device
    say(
        f"{device.name} has errors learned on {learned.date[:10]}, which are reckoned with; --learned none does without"
    )
    return taught


def _with_errors_of(device: Snapshot, path: Path) -> Snapshot:
    """Return a device with the learned errors in a snapshot file.

    Raises:
        QkdError: see ``with_recent_errors``.
    """
    source = snapshot.read_snapshot(path)
    if source.calibration.learned is None:
        raise ConfigError(f"{path}: holds no learned errors; 'qkd devices learn {device.name}' writes files that do")
    if not same_device(source.name, device.name):
        raise ConfigError(f"{path}: is of {source.name}, and {device.name} is another device")
    return with_learned(device, source.calibration.learned)
