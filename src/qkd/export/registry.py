"""The export formats by name, and the one function that writes an export and compares it with its student."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from qkd.core.arguments import public
from qkd.core.errors import ConfigError, FolderError, ModelError, nearest
from qkd.core.files import NotWritten, read_json, write_json
from qkd.core.version import VERSION
from qkd.encoders.registry import has_layers
from qkd.export.request import ExportFormat, ExportRequest, Predictions

if TYPE_CHECKING:
    from qkd.student.bundle import Student

# The module of each format; another format is another line.
FORMATS: dict[str, str] = {
    "numpy": "qkd.export.numpy_format",
    "onnx": "qkd.export.onnx_format",
    "page": "qkd.export.page_format",
    "qasm": "qkd.export.qasm_format",
}
MANIFEST = "export.json"
# Largest difference between a probability of an export and of its student.
PROBABILITY_TOLERANCE = 1e-5
# Share of labels that an int8 export may change, among texts whose two largest probabilities differ by more than this.
INT8_CHANGED_LABELS, INT8_CLOSE = 0.02, 0.1
# Texts on which every export is compared, because tokenizers and encodings differ on them.
HARD_TEXTS = (
    "",
    " ",
    "a",
    "Don't stop: it's (almost) free!",
    "Ünïcode naïveté, ΣΊΣΥΦΟΣ, İstanbul, ﬁnal",
    "量子コンピュータ 量子计算 is fast 🚀🚀",
    "tab\tnew\nline\u2028separator\u200bzero\x00null",
    "[SEP] <script>alert('&amp;')</script> {{x}} \\n",
    "snake_case 3.14159 1,000,000 $5 +1-1=0 ~^`|",
    "word " * 300,
    "x" * 2000,
)


@dataclass(frozen=True)
class Exported:
    """A written export.

    Attributes:
        folder: The folder of its files.
        format: Name of the format.
        bytes: Size of all files.
        texts: Number of texts on which it was compared with the student; 0 without a check.
        difference: Largest difference between a probability of the export and of the student.
        agreement: Share of texts with the student's label.
    """

    folder: Path
    format: str
    bytes: int
    texts: int = 0
    difference: float = 0.0
    agreement: float = 1.0

    def describe(self) -> str:
        """Return one line for a person."""
        size = f"{self.folder}: {self.format}, {self.bytes / 1e6:.2f} MB"
        if not self.texts:
            return f"{size}, not compared with the student"
        return (
            f"{size}; on {self.texts:,} texts {100 * self.agreement:.4g} % of labels equal the student's, and "
            f"probabilities differ by at most {self.difference:.0e}"
        )


def load_format(name: str) -> ExportFormat:
    """Return the module of a format.

    Raises:
        ConfigError: The format is unknown.
    """
    if name not in FORMATS:
        raise ConfigError(f"there is no export format '{name}'{nearest(name, FORMATS)}")
    return cast(ExportFormat, import_module(FORMATS[name]))


def default_format(student: Student) -> str:
    """Return ``onnx`` for a student whose encoder is a transformer, and ``numpy`` for all others."""
    return "onnx" if has_layers(student.encoder.name) else "numpy"


@public
def export_student(
    student: Student,
    folder: str | Path,
    format: str | None = None,
    texts: Sequence[str] = (),
    check: bool = True,
    **options: Any,
) -> Exported:
    """Write a student in a format that needs neither qkd nor torch.

    The export is written beside ``folder``, compared with the student and then renamed, so an export that fails is
    not written.

    Args:
        student: The student.
        folder: Folder of the export; it is new, empty, or an earlier export.
        format: A name in ``FORMATS``; ``default_format`` by default.
        texts: Texts on which export and student are compared, in addition to a few hard ones.
        check: Whether they are compared.
        options: Fields of ``ExportRequest``.

    Raises:
        QkdError: The student does not fit the format, the comparison fails, or the folder cannot be written.
    """
    format = format or default_format(student)
    module, request, target = load_format(format), ExportRequest(student, **options), Path(folder)
    with _staging(target) as part:
        module.write(request, part)
        limit = getattr(module, "MAX_CHECKED_TEXTS", None)
        checked = [*HARD_TEXTS, *texts][:limit] if check else []
        difference, agreement = 0.0, 1.0
        if check:
            difference, agreement = compare(request, module.predict(request, part, checked), checked)
        files = {
            str(path.relative_to(part)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(part.rglob("*"))
            if path.is_file()
        }
        write_json(
            part / MANIFEST,
            {
                "format": format,
                "qkd": VERSION,
                "classes": list(student.classes),
                "encoder": student.encoder.name,
                "int8": request.int8,
                "threshold": request.threshold,
                "checked": {
                    "texts": len(checked),
                    "largest_probability_difference": difference,
                    "agreement": agreement,
                },
                "sha256": files,
            },
        )
        size = sum(path.stat().st_size for path in part.rglob("*") if path.is_file())
    return Exported(target, format, size, len(checked), difference, agreement)


def compare(request: ExportRequest, predictions: Predictions, texts: Sequence[str]) -> tuple[float, float]:
    """Return the largest difference of a probability and the share of equal labels.

    Raises:
        ModelError: Label names, labels or probabilities differ from the student's by more than the format may.
    """
    student = request.student
    if predictions.classes != student.classes:
        raise ModelError(f"the export has the labels {predictions.classes}, the student {student.classes}")
    exact = student.predict_proba(texts)
    difference = float(np.abs(predictions.probabilities - exact).max(initial=0.0))
    top = np.sort(exact, axis=1)
    # Where two classes are this close, rounding decides.
    gaps = top[:, -1] - top[:, -2] if exact.shape[1] > 1 else np.ones(len(exact))
    clear = gaps > 2 * PROBABILITY_TOLERANCE
    equal = np.array(predictions.labels, dtype=object) == np.array(student.classes, dtype=object)[exact.argmax(axis=1)]
    agreement = float(np.mean(equal)) if len(texts) else 1.0
    if request.int8:
        changed = float(np.mean(~equal & (gaps > INT8_CLOSE))) if len(texts) else 0.0
        if changed > INT8_CHANGED_LABELS:
            raise ModelError(
                f"the int8 export changes {100 * changed:.1f} % of {len(texts):,} clear labels, more than "
                f"{100 * INT8_CHANGED_LABELS:g} %; export without --int8"
            )
    elif difference > PROBABILITY_TOLERANCE or not np.all(equal | ~clear):
        row = int(np.abs(predictions.probabilities - exact).max(axis=1).argmax())
        raise ModelError(
            f"the export differs from the student: probabilities by up to {difference:.1e}, and {np.sum(~equal):,} of "
            f"{len(texts):,} labels; the largest difference is for {texts[row]!r:.80}"
        )
    return difference, agreement


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of an export.

    Raises:
        FolderError: The folder holds no export, or a file is not the one that was written.
    """
    if not (folder / MANIFEST).is_file():
        raise FolderError(f"{folder}: holds no {MANIFEST}, so it is no export; make one with 'qkd export'")
    manifest = read_json(folder / MANIFEST)
    files = manifest.get("sha256") if isinstance(manifest, dict) else None
    if not isinstance(files, dict) or manifest.get("format") not in FORMATS:
        raise FolderError(f"{folder / MANIFEST}: damaged; export the student again")
    for name, digest in files.items():
        path = folder / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise FolderError(f"{path}: is missing or was changed after the export; export the student again")
    return manifest


@contextmanager
def _staging(target: Path) -> Any:
    """Yield an empty folder that replaces ``target`` at the end.

    Raises:
        FolderError: ``target`` holds other files, or cannot be written.
    """
    if not target.name:
        raise FolderError(f"'{target}' has no name; name the export's folder")
    if target.exists() and not (target.is_dir() and (not any(target.iterdir()) or (target / MANIFEST).is_file())):
        raise FolderError(f"{target}: holds other files than an export; name another folder with --out")
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for old in target.parent.glob(f".{target.name}.*.part"):
            if old == part or not _is_running(old.name.split(".")[-2]):  # a killed export left it
                shutil.rmtree(old, ignore_errors=True)
        part.mkdir()
        yield part
        if target.exists():
            shutil.rmtree(target)
        part.replace(target)
    except OSError as error:
        raise NotWritten(target, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _is_running(pid: str) -> bool:
    """Return whether a process may be running; on Windows a signal would end it, so every process counts as running."""
    if os.name == "nt" or not pid.isdecimal():
        return True
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
