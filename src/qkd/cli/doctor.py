"""``qkd doctor`` and ``qkd cache show|clean``."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from qkd.cli.options import Json, command, print_json
from qkd.core.console import held, write

app = typer.Typer(no_args_is_help=True, help="Show and clean the cache.")
PACKAGES = ("qiskit", "qiskit-aer", "qiskit-ibm-runtime", "qiskit-machine-learning", "torch", "transformers")
MIN_FREE_BYTES = 4 << 30
"""Free disk space and memory that the default models need."""


@dataclass(frozen=True)
class Finding:
    """One line of ``qkd doctor``.

    Attributes:
        what: The subject.
        value: The present state.
        fix: The command that corrects it; None where nothing is wrong.
    """

    what: str
    value: str
    fix: str | None = None


def doctor(json_: Json = False) -> None:
    """Check the installation.

    Show versions, account, caches, models, GPU, memory and disk, and the command that fixes each problem.

    Example: qkd doctor
    """
    findings = list(examine())
    if json_:
        print_json([asdict(finding) for finding in findings])
        return
    from qkd.reports.tables import aligned

    write(aligned([("", ""), *((finding.what, finding.value) for finding in findings)]))
    for finding in findings:
        if finding.fix:
            write(f"{finding.what}: {finding.fix}")
    if not any(finding.fix for finding in findings):
        write("no problem found")


def examine() -> Iterator[Finding]:
    """Yield what qkd finds about its environment."""
    from qkd.core import cache
    from qkd.core.version import VERSION

    yield Finding("qkd", f"{VERSION} in Python {platform.python_version()}")
    yield from _foreign()
    for package in PACKAGES:
        try:
            yield Finding(package, importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(package, "missing", "pip install --force-reinstall qkd-llm")
    yield _account()
    yield from _models()
    used = sum(size for _, size in cache.usage().values())
    yield Finding("cache", f"{_size(used)} in {cache.root()}")
    yield _gpu()
    yield from _space()


def _foreign() -> Iterator[Finding]:
    """Yield the other distribution that installs a package ``qkd``, a simulator of quantum key distribution."""
    try:
        other = importlib.metadata.distribution("qkd")
    except importlib.metadata.PackageNotFoundError:
        return
    if any(entry.value == "qkd.cli:main" for entry in other.entry_points):
        return
    fix = "pip uninstall qkd && pip install --force-reinstall --no-deps qkd-llm"
    yield Finding("other qkd", f"the distribution qkd {other.version} is another project and overwrites files", fix)


def _account() -> Finding:
    from qkd.devices import live

    if live.has_account():
        return Finding("IBM Quantum account", "stored")
    return Finding(
        "IBM Quantum account",
        "none; snapshots and --local need none",
        "export QISKIT_IBM_TOKEN=..., or QiskitRuntimeService.save_account(token=...) in Python, for real devices",
    )


def _models() -> Iterator[Finding]:
    from qkd.core import cache
    from qkd.models.wheels import PINS

    folders = [path.name for path in (cache.root() / "models").glob("*/")]
    for pin in PINS.values():
        kept = any(name.startswith(pin.name) for name in folders)
        state = "cached" if kept else f"not cached, {_size(pin.size)} on first use"
        yield Finding(f"model {pin.name}", f"{state}, license {pin.license}")


def _gpu() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding("GPU", f"none; torch computes on {torch.get_num_threads()} threads")
    free, total = torch.cuda.mem_get_info()
    return Finding("GPU", f"{torch.cuda.get_device_name()}, {_size(free)} of {_size(total)} free")


def _space() -> Iterator[Finding]:
    import torch

    from qkd.core import cache
    from qkd.engines.statevector import free_memory

    try:
        memory = free_memory(torch.device("cpu"))
    except (ValueError, OSError, AttributeError):  # not a POSIX system
        pass
    else:
        fix = "close other programs, or use smaller models and --batch-size"
        yield Finding("free memory", _size(memory), fix if memory < MIN_FREE_BYTES // 4 else None)
    folder = cache.root()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    fix = "qkd cache clean, or set QKD_CACHE to a folder on another disk"
    yield Finding("free disk", f"{_size(free)} at {folder}", fix if free < MIN_FREE_BYTES else None)


def _size(count: float) -> str:
    units = ["B", "kB", "MB", "GB", "TB"]
    while count >= 1000 and len(units) > 1:
        count /= 1000
        units.pop(0)
    return f"{count:.{0 if units[0] == 'B' else 1}f} {units[0]}"


@command(app)
def show(json_: Json = False) -> None:
    """Show what the cache contains.

    Example: qkd cache show
    """
    from qkd.core import cache
    from qkd.reports.tables import aligned

    used = cache.usage()
    if json_:
        rows = {kind: {"files": files, "bytes": size} for kind, (files, size) in used.items()}
        print_json({"folder": str(cache.root()), "kinds": rows})
        return
    write(str(cache.root()))
    cells = [(kind, cache.KINDS.get(kind, ""), f"{files:,}", _size(size)) for kind, (files, size) in used.items()]
    write(aligned([("kind", "content", "files", "size"), *cells]))


@command(app)
def clean(
    kinds: Annotated[list[str] | None, typer.Argument(help="Kinds of 'qkd cache show'. Default: all.")] = None,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Delete without a question.")] = False,
) -> None:
    """Delete cached files; qkd computes or fetches them again when it needs them.

    Example: qkd cache clean rows
    """
    from qkd.core import cache

    used = cache.usage()
    chosen = kinds or list(used)
    size = sum(used[kind][1] for kind in chosen if kind in used)
    if not yes:
        with held():
            typer.confirm(f"Delete {_size(size)} ({', '.join(chosen)}) in {cache.root()}?", abort=True)
    cache.clean(chosen)
    write(f"deleted {_size(size)}")
