"""The ``probe:`` teacher: a causal LM's hidden states, and its own likelihoods, with a logistic head.

The LM itself is not changed. A few training texts decide which layers are read, and whether the LM's likelihoods of
the text's own tokens are; all other texts are then read up to the highest of those layers alone. What a student gets
to learn from is out of fold: the logits of a training text come from a head that has not seen it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from qkd.core import cache
from qkd.core.cache import Key
from qkd.core.errors import ModelError
from qkd.data.splits import shuffled_by_content
from qkd.models.backbone import Backbone
from qkd.models.linear_probes import RIDGES, leave_one_out, squared_errors
from qkd.models.reader import Reader
from qkd.models.transformer import Loading
from qkd.results import TeacherCard
from qkd.teachers.heads import DIRECTIONS, FOLDS, STRENGTHS, Head, fit_head

if TYPE_CHECKING:
    from qkd.data.loading import Dataset
    from qkd.data.splits import Splits

MOST_LAYERS = 10
"""How many layers are looked at, evenly spaced, the last one among them."""

CHOOSING_TEXTS = 600
"""Training texts that decide what is read; these alone are read to the LM's end."""

LIKELIHOOD_WEIGHT = 1 / 3
"""What the block of likelihoods weighs beside all blocks of layers together."""


class ProbeTeacher:
    """A frozen causal LM with a logistic head.

    Args:
        model: a short name, folder or hub id.
        loading: how the LM is loaded.

    Raises:
        QkdError: the model cannot be had.
    """

    cross_fitted = True

    def __init__(self, model: str, loading: Loading | None = None) -> None:
        self._model, self._loading = Backbone(model, loading).model, loading
        self.name = f"probe:{self._model}"
        self._classes: tuple[str, ...] = ()
        self._fitted: tuple[Reader, Head] | None = None
        self._unseen: dict[bytes, np.ndarray] = {}

    @property
    def num_parameters(self) -> int:
        """The weights of that part of the LM which is run, and of the head."""
        reader, head = self._done
        return reader.num_parameters + head.weight.size + head.bias.size

    def fit(self, dataset: Dataset, splits: Splits) -> None:
        """Choose what to read, have all texts read, and fit the head; everything is cached."""
        order = splits.train[shuffled_by_content([dataset.texts[row] for row in splits.train], 0)]  # for the folds
        train, valid = ([dataset.texts[row] for row in rows] for rows in (order, splits.valid))
        y_train, y_valid = dataset.targets[order], dataset.targets[splits.valid]
        reader = self._chosen(train[:CHOOSING_TEXTS], y_train[:CHOOSING_TEXTS])
        self._read(reader, dataset.texts)
        key = {
            "kind": "probe-head",
            "read": reader.key,
            "train": cache.digest([train, y_train.tolist()]),
            "valid": cache.digest([valid, y_valid.tolist()]),
            "tried": [STRENGTHS, FOLDS, DIRECTIONS, LIKELIHOOD_WEIGHT],
        }

        def learn() -> dict[str, np.ndarray]:
            x, x_valid = (self._read(reader, texts).astype(np.float32) for texts in (train, valid))
            layers = len(reader.layers)
            weights = [1 / layers] * layers + [LIKELIHOOD_WEIGHT] * reader.likelihoods
            return fit_head(x, y_train, x_valid, y_valid, reader.widths, weights).arrays()

        head = Head.of(cache.arrays(key, learn))
        self._classes, self._fitted = dataset.classes, (reader, head)
        self._unseen = {cache.text_hash(text): row for text, row in zip(train, head.unseen, strict=True)}

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits ``(N,C)`` float32 of N texts, those of training texts out of fold; the cache is asked first."""
        reader, head = self._done
        out = head(self._read(reader, texts))
        for row, text in enumerate(texts):
            out[row] = self._unseen.get(cache.text_hash(text), out[row])
        return out

    def answer(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits ``(N,C)`` float32 of N texts by the head that has seen all training texts, computed now."""
        reader, head = self._done
        return head(reader.rows(texts))

    def describe(self) -> TeacherCard:
        """Return model, what is read of it, regularisation, temperature, validation and out-of-fold numbers."""
        reader, head = self._done
        facts = ("c", "temperature", "valid_loss", "valid_accuracy", "unseen_loss", "unseen_accuracy")
        return TeacherCard(
            name=self.name,
            kind="probe",
            model=self._model,
            fingerprint=reader.fingerprint,
            read=tuple(reader.layers),
            likelihoods=reader.likelihoods,
            layers=reader.num_layers,
            classes=tuple(self._classes),
        ).model_copy(update={name: float(getattr(head, name)) for name in facts})

    @property
    def _done(self) -> tuple[Reader, Head]:
        if self._fitted is None:
            raise ModelError(f"{self.name} has not been fitted: call fit(dataset, splits) first")
        return self._fitted

    def _read(self, reader: Reader, texts: Sequence[str], what: str = "reading with") -> np.ndarray:
        """Return what ``reader`` reads of N texts, ``(N,D)`` float16; the cache is asked first."""
        rows = cache.cached_rows(_key(reader), texts, reader.rows, f"{what} {self._model}")
        reader.report(len(texts))
        return rows

    def _chosen(self, texts: Sequence[str], y: np.ndarray) -> Reader:
        """Return what reads no more than it needs to: N texts (N,) and their classes decide."""
        last = Backbone(self._model, self._loading).num_layers
        step = -(-last // MOST_LAYERS)
        layers = sorted(range(last, 0, -step))
        whole = Reader(self._model, self._loading, layers, likelihoods=True)

        def compare() -> dict[str, np.ndarray]:
            rows = self._read(whole, texts, "choosing layers of")
            places, likelihoods = choose_probe(rows.astype(np.float32), whole.widths, y)
            blocks = np.split(np.arange(rows.shape[1]), np.cumsum(whole.widths)[:-1])
            columns = np.concatenate([blocks[place] for place in (*places, *[len(layers)] * likelihoods)])
            reader = Reader(self._model, self._loading, [layers[place] for place in places], likelihoods)
            cache.Store(_key(reader)).add(texts, rows[:, columns])  # they need not be read again
            return {"layers": np.array(reader.layers), "likelihoods": np.array([likelihoods])}

        key = {"kind": "probe-layers", "read": whole.key, "texts": cache.digest([list(texts), y.tolist()])}
        choice = cache.arrays({**key, "tried": [RIDGES, LIKELIHOOD_WEIGHT]}, compare)
        return Reader(self._model, self._loading, choice["layers"].tolist(), bool(choice["likelihoods"][0]))


def _key(reader: Reader) -> Key:
    return {"kind": "states", **reader.key}


def probe_candidates(count: int) -> Iterator[tuple[int, ...]]:
    """Yield the sets of ``count`` layers that are compared: each alone, each run of half of them, every second, all."""
    half = -(-count // 2)
    sets: list[tuple[int, ...]] = [(place,) for place in range(count)]
    sets += [tuple(range(first, first + half)) for first in range(count - half + 1)]
    sets += [tuple(range((count - 1) % 2, count, 2)), tuple(range(count))]
    yield from dict.fromkeys(sets)


def choose_probe(x: np.ndarray, widths: Sequence[int], y: np.ndarray) -> tuple[tuple[int, ...], bool]:
    """Return which layers to read, by place, and whether to read the likelihoods.

    The least leave-one-out error decides, and of those that cannot be told from it (one standard error of the paired
    difference; Breiman et al. 1984) the one that needs the fewest layers to be run.

    Args:
        x: rows of a reader with likelihoods, (N,D).
        widths: the sizes of its blocks.
        y: class numbers (N,).
    """
    kernels = []
    for block in np.split(x, np.cumsum(widths)[:-1], axis=1):
        block = (block - block.mean(axis=0)) / (block.std(axis=0) + 1e-6)
        kernels.append(block @ block.T / block.shape[1])
    *layers, likelihoods = kernels
    classes = np.unique(y, return_inverse=True)[1]  # a class may have no text among these few
    errors: dict[tuple[tuple[int, ...], bool], np.ndarray] = {}
    for places in probe_candidates(len(layers)):
        kernel = np.mean([layers[place] for place in places], axis=0)
        for more in (False, True):
            scores = leave_one_out(kernel + more * LIKELIHOOD_WEIGHT * likelihoods, classes)
            errors[places, more] = squared_errors(scores, classes)
    best = min(errors.values(), key=lambda error: float(error.mean()))

    def level(error: np.ndarray) -> bool:
        excess = error - best
        return float(excess.mean()) <= float(excess.std()) / np.sqrt(len(excess))

    def cost(option: tuple[tuple[int, ...], bool]) -> tuple[float, float]:
        places, more = option
        return (len(layers) if more else places[-1]), float(errors[option].mean())

    return min((option for option, error in errors.items() if level(error)), key=cost)
