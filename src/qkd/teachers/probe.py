"""The ``probe:`` teacher: hidden states of a causal LM, and its own likelihoods, with a logistic head.

The LM does not change. A few training texts determine which layers are read, and whether the LM's likelihoods of the
text's own tokens are. All other texts pass only the layers up to the highest of those. Logits of training texts are
out of fold: they come from a head that was fitted without them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from qkd.core import cache
from qkd.core.cache import Key
from qkd.core.config import Config
from qkd.core.objects import Named
from qkd.data.dataset import shuffled_by_content
from qkd.models.backbone import Backbone, FeatureExtractor
from qkd.models.linear_probes import RIDGES, leave_one_out, squared_errors
from qkd.models.transformer import Loading
from qkd.results import TeacherCard
from qkd.teachers.heads import DIRECTIONS, FOLDS, STRENGTHS, Head, OutOfFold, fit_head
from qkd.teachers.protocol import not_fitted

if TYPE_CHECKING:
    from qkd.data.dataset import Splits
    from qkd.data.loading import Dataset

# Maximum number of candidate layers, evenly spaced, including the last one.
MAX_LAYERS = 10
# Training texts that determine which layers are read. Only these pass the whole LM.
SELECTION_TEXTS = 600
# Weight of the block of likelihoods relative to all blocks of layers together.
LIKELIHOOD_WEIGHT = 1 / 3


class ProbeTeacher(Named):
    """A frozen causal LM with a logistic head.

    Args:
        model: a short name, folder or hub id.
    """

    cross_fitted = True

    def __init__(self, model: str, loading: Loading | None = None) -> None:
        self._model, self._loading = Backbone(model, loading).model, loading
        self.name = f"probe:{self._model}"
        self._classes: tuple[str, ...] = ()
        self._parts: tuple[FeatureExtractor, Head] | None = None
        self._out_of_fold = OutOfFold((), np.empty((0, 0)))

    @property
    def num_parameters(self) -> int:
        """Number of weights of the layers that are used, and of the head."""
        extractor, head = self._fitted
        return extractor.num_parameters + head.weight.size + head.bias.size

    def fit(self, dataset: Dataset, splits: Splits) -> None:
        """Choose the layers, compute the features of all texts, and fit the head; everything is cached."""
        order = splits.train[shuffled_by_content([dataset.texts[row] for row in splits.train], 0)]  # for the folds
        train, valid = ([dataset.texts[row] for row in rows] for rows in (order, splits.valid))
        y_train, y_valid = dataset.targets[order], dataset.targets[splits.valid]
        extractor = self._choose(train[:SELECTION_TEXTS], y_train[:SELECTION_TEXTS])
        self._features(extractor, dataset.texts)
        key = {
            "kind": "probe-head",
            "read": extractor.key,
            "train": cache.digest([train, y_train.tolist()]),
            "valid": cache.digest([valid, y_valid.tolist()]),
            "tried": [STRENGTHS, FOLDS, DIRECTIONS, LIKELIHOOD_WEIGHT],
        }

        def learn() -> dict[str, np.ndarray]:
            x, x_valid = (self._features(extractor, texts).astype(np.float32) for texts in (train, valid))
            layers = len(extractor.layers)
            weights = [1 / layers] * layers + [LIKELIHOOD_WEIGHT] * extractor.likelihoods
            return fit_head(x, y_train, x_valid, y_valid, extractor.widths, weights).arrays()

        head = Head.from_arrays(cache.arrays(key, learn))
        self._classes, self._parts = dataset.classes, (extractor, head)
        self._out_of_fold = OutOfFold(train, head.unseen)

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits ``(N,C)`` float32 of N texts, those of training texts out of fold; features are cached."""
        extractor, head = self._fitted
        return self._out_of_fold.put_into(head(self._features(extractor, texts)), texts)

    def predict_logits(self, texts: Sequence[str]) -> np.ndarray:
        """Return logits ``(N,C)`` float32 of N texts by the head that was fitted on all training texts."""
        extractor, head = self._fitted
        return head(extractor.features(texts))

    def describe(self) -> TeacherCard:
        """Return model, layers, regularization, temperature, validation and out-of-fold scores."""
        extractor, head = self._fitted
        scores = ("c", "temperature", "valid_loss", "valid_accuracy", "unseen_loss", "unseen_accuracy")
        return TeacherCard(
            name=self.name,
            kind="probe",
            model=self._model,
            fingerprint=extractor.fingerprint,
            read=tuple(extractor.layers),
            likelihoods=extractor.likelihoods,
            layers=extractor.num_layers,
            classes=tuple(self._classes),
        ).model_copy(update={name: float(getattr(head, name)) for name in scores})

    @property
    def _fitted(self) -> tuple[FeatureExtractor, Head]:
        if self._parts is None:
            raise not_fitted(self.name)
        return self._parts

    def _features(self, extractor: FeatureExtractor, texts: Sequence[str], work: str = "reading with") -> np.ndarray:
        """Return cached features (N,D), float16, of N texts."""
        width = (sum(extractor.widths),)
        rows = cache.cached_rows(_key(extractor), texts, extractor.features, f"{work} {self._model}", width)
        extractor.report(len(texts))
        return rows

    def _choose(self, texts: Sequence[str], y: np.ndarray) -> FeatureExtractor:
        """Return the extractor of the features that N texts and their classes (N,) select."""
        last = Backbone(self._model, self._loading).num_layers
        layers = sorted(range(last, 0, -max(1, -(-last // MAX_LAYERS))))
        whole = FeatureExtractor(self._model, self._loading, layers, likelihoods=True)

        def compare() -> dict[str, np.ndarray]:
            rows = self._features(whole, texts, "choosing layers of")
            places, likelihoods = choose_blocks(rows.astype(np.float32), whole.widths, y)
            blocks = np.split(np.arange(rows.shape[1]), np.cumsum(whole.widths)[:-1])
            columns = np.concatenate([blocks[place] for place in (*places, *[len(layers)] * likelihoods)])
            chosen = FeatureExtractor(self._model, self._loading, [layers[place] for place in places], likelihoods)
            cache.Store(_key(chosen)).add(texts, rows[:, columns])  # so that these texts are not read again
            return {"layers": np.array(chosen.layers), "likelihoods": np.array([likelihoods])}

        key = {"kind": "probe-layers", "read": whole.key, "texts": cache.digest([list(texts), y.tolist()])}
        choice = cache.arrays({**key, "tried": [RIDGES, LIKELIHOOD_WEIGHT]}, compare)
        likelihoods = bool(choice["likelihoods"][0])
        return FeatureExtractor(self._model, self._loading, choice["layers"].tolist(), likelihoods)


def _key(extractor: FeatureExtractor) -> Key:
    return {"kind": "states", **extractor.key}


def block_candidates(count: int) -> Iterator[tuple[int, ...]]:
    """Yield the sets of ``count`` layers to compare: each alone, each run of half of them, every second one, all."""
    half = -(-count // 2)
    sets: list[tuple[int, ...]] = [(place,) for place in range(count)]
    sets += [tuple(range(first, first + half)) for first in range(count - half + 1)]
    sets += [tuple(range((count - 1) % 2, count, 2)), tuple(range(count))]
    yield from dict.fromkeys(sets)


def choose_blocks(x: np.ndarray, widths: Sequence[int], y: np.ndarray) -> tuple[tuple[int, ...], bool]:
    """Return which layers to read, by index, and whether to read the likelihoods.

    Candidates whose leave-one-out error is within one standard error of the smallest (of the paired difference;
    Breiman et al. 1984) compete; the one that needs the fewest layers wins.

    Args:
        x: features (N,D) with likelihoods.
        y: class numbers (N,).
    """
    kernels = []
    for block in np.split(x, np.cumsum(widths)[:-1], axis=1):
        block = (block - block.mean(axis=0)) / (block.std(axis=0) + 1e-6)
        kernels.append(block @ block.T / block.shape[1])
    *layers, likelihoods = kernels
    classes = np.unique(y, return_inverse=True)[1]  # these few texts may lack a class
    errors: dict[tuple[tuple[int, ...], bool], np.ndarray] = {}
    for places in block_candidates(len(layers)):
        kernel = np.mean([layers[place] for place in places], axis=0)
        for more in (False, True):
            scores = leave_one_out(kernel + more * LIKELIHOOD_WEIGHT * likelihoods, classes)
            errors[places, more] = squared_errors(scores, classes)
    best = min(errors.values(), key=lambda error: float(error.mean()))

    def is_close(error: np.ndarray) -> bool:
        excess = error - best
        return float(excess.mean()) <= float(excess.std()) / np.sqrt(len(excess))

    def cost(option: tuple[tuple[int, ...], bool]) -> tuple[float, float]:
        places, more = option
        return (len(layers) if more else places[-1]), float(errors[option].mean())

    return min((option for option, error in errors.items() if is_close(error)), key=cost)


def make(model: str, loading: Loading, config: Config) -> ProbeTeacher:
    """Return the teacher ``probe:MODEL``."""
    return ProbeTeacher(model, loading)
