"""Errors that ``qkd devices learn`` found recently; predictions and error bars of device runs contain them."""

from __future__ import annotations

import datetime
from pathlib import Path

from qkd.core.console import log
from qkd.core.errors import ConfigError, QkdError
from qkd.devices import snapshot
from qkd.devices.random_errors import with_learned
from qkd.devices.snapshot import Snapshot
from qkd.hardware.layout import same_device

# Older learned errors are used only on request, because devices drift.
MAX_DAYS = 7


def with_recent_errors(device: Snapshot, requested: str | None, now: datetime.datetime | None = None) -> Snapshot:
    """Return a device with learned errors beside its calibration, and print which are used.

    Args:
        requested: A file that ``qkd devices learn`` wrote, of any age, or ``none``. None takes the user's newest file
            if it is at most ``MAX_DAYS`` old.
    """
    if requested == "none":
        return device
    if requested is not None:
        return _with_errors_of(device, Path(requested))
    files = snapshot.learned_files(device.name)
    if not files:
        return device
    try:
        source = _with_errors_of(device, files[-1])
    except QkdError as error:
        log.warning(f"the learned errors of {device.name} are ignored: {error}")
        return device
    learned = source.calibration.learned
    if learned is None:
        return device
    if learned.days_before(now or datetime.datetime.now(datetime.UTC)) > MAX_DAYS:
        log.info(
            f"errors of {device.name} were learned on {learned.date[:10]}, over {MAX_DAYS} days ago, and are ignored; "
            f"'qkd devices learn {device.name}' learns them again, and --learned {files[-1]} uses these"
        )
        return device
    log.info(f"predictions use the errors of {device.name} learned on {learned.date[:10]}; --learned none ignores them")
    return source


def _with_errors_of(device: Snapshot, path: Path) -> Snapshot:
    """Return a device with the learned errors of a snapshot file."""
    source = snapshot.read_snapshot(path)
    if source.calibration.learned is None:
        raise ConfigError(f"{path}: has no learned errors; 'qkd devices learn {device.name}' writes files that do")
    if not same_device(source.name, device.name):
        raise ConfigError(f"{path}: is of {source.name}, and {device.name} is another device")
    return with_learned(device, source.calibration.learned)
