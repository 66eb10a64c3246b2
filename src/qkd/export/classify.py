"""Classify texts with an exported student; this file needs Python and numpy alone.

python classify.py "a text" "another text"
from classify import predict, predict_proba
"""

import functools
import itertools
import json
import pathlib
import re
import sys
import unicodedata
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

FORMAT = "qkd-numpy-1"
# Texts are classified in chunks of bounded cost: their characters, and a constant for each text.
MIN_TEXT_COST, MAX_CHUNK_COST = 1 << 10, 1 << 18
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I8": "i1"}


class Classifier:
    """The student of an export; ``classes`` has the C label names in the order of the columns."""

    def __init__(self, config: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.config, self.arrays, self.core, self.classes = config, arrays, config["core"], tuple(config["classes"])
        # make_hashing or make_static; an export contains the functions that its student needs.
        self.encoders = [globals()[f"make_{part['kind']}"](part, arrays) for part in config["encoder"]]
        dict(zip(self.classes, self.predict_proba([""])[0], strict=True))  # fails where an array or a label is missing

    def predict_proba(self, texts: Sequence[str]) -> np.ndarray:
        """Return probabilities (N,C) of N texts."""
        if isinstance(texts, str):
            raise TypeError("give a list of texts, not one string")
        costs = np.cumsum([len(text) + MIN_TEXT_COST for text in texts]) // MAX_CHUNK_COST
        chunks = np.split(np.arange(len(texts)), np.flatnonzero(np.diff(costs)) + 1) if len(texts) else []
        features = [self._features([texts[i] for i in chunk]) for chunk in chunks]
        logits = np.concatenate([np.zeros((0, len(self.arrays["head"]))), *features]) @ self.arrays["head"]
        logits += self.arrays["head_bias"]
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)

    def _features(self, texts: list[str]) -> np.ndarray:
        z = np.hstack([encode(texts) for encode in self.encoders]) @ self.arrays["weight"] + self.arrays["bias"]
        if self.config["angle_map"] == "tanh":
            z = np.pi * np.tanh(z)
        # begin minmax
        if self.config["angle_map"] == "minmax":
            z = 10 * (z - z.min(axis=1, keepdims=True)) / (np.ptp(z, axis=1, keepdims=True) + 1e-9)
        # end minmax
        return z if self.core["kind"] == "linear" else getattr(self, f"_{self.core['kind']}")(z)

    # begin mlp
    def _mlp(self, z: np.ndarray) -> np.ndarray:
        hidden = np.tanh(z / np.pi @ self.arrays["hidden"] + self.arrays["hidden_bias"])
        return z / np.pi + hidden @ self.arrays["out"]

    # end mlp

    # begin contraction
    def _contraction(self, z: np.ndarray) -> np.ndarray:  # batch last: a feature of all texts is one contiguous row
        waves = [wave(f * z.T) for f in range(1, self.core["degree"] + 1) for wave in (np.cos, np.sin)]
        features = np.stack([np.ones_like(z.T), *waves], axis=1)

        @functools.cache
        def products(inputs: tuple[int, ...], sizes: tuple[int, ...]) -> np.ndarray:
            if len(inputs) < 2:
                return features[inputs[0], : sizes[0]] if inputs else np.ones((1, len(z)))
            left, right = products(inputs[:-1], sizes[:-1]), features[inputs[-1], : sizes[-1]]
            return (left[:, None] * right).reshape(-1, len(z))

        values = []
        for k, (inputs, sizes, split) in enumerate(self.core["observables"]):
            left = self.arrays[f"left.{k}"] @ products(tuple(inputs[:split]), tuple(sizes[:split]))
            right = self.arrays[f"right.{k}"] @ products(tuple(inputs[split:]), tuple(sizes[split:]))
            values.append((left * right).sum(axis=0))
        return np.stack(values, axis=1)

    # end contraction

    # begin gates
    def _gates(self, z: np.ndarray) -> np.ndarray:
        n = self.core["qubits"]
        state, index = np.eye(1 << n, 1, dtype=complex).repeat(len(z), axis=1), np.arange(1 << n)
        matrices = self.arrays["matrices"][:, 0] + 1j * self.arrays["matrices"][:, 1]
        phases = np.exp(-0.5j * (z @ self.arrays["slopes"] + self.arrays["offsets"])).T
        for qubits, number in self.core["gates"]:
            axes, size = [n - 1 - q for q in reversed(qubits)], 1 << len(qubits)
            grid = np.moveaxis(state.reshape(*[2] * n, -1), axes, range(len(axes)))
            if number < 0:  # a rotation about Z by an angle of the text
                grid = np.stack([grid[0] * phases[-1 - number], grid[1] * phases[-1 - number].conj()])
            else:
                grid = (matrices[number, :size, :size] @ grid.reshape(size, -1)).reshape(grid.shape)
            state = np.moveaxis(grid, range(len(axes)), axes).reshape(state.shape)
        values = np.zeros((len(z), len(self.core["observables"])))
        for k, terms in enumerate(self.core["observables"]):
            for coefficient, flips, signs in terms:  # a Pauli string as the bits of X or Y, and of Z or Y
                phase = 1j ** ((flips & signs).bit_count() % 4) * (1 - 2.0 * (np.bitwise_count(index & signs) & 1))
                values[:, k] += coefficient * np.einsum("sb,s,sb->b", state[index ^ flips].conj(), phase, state).real
        return values

    # end gates


def read_export(folder: pathlib.Path) -> Classifier:
    """Return the classifier of an export folder."""
    try:
        config = json.loads((folder / "model.json").read_text("utf-8"))
        data = (folder / "model.safetensors").read_bytes()
        if config["format"] != FORMAT:
            raise ValueError(f"format {config['format']!r:.40} is not {FORMAT}")
        if zlib.crc32(data) != config["checksum"]:
            raise ValueError("model.safetensors is damaged or belongs to another model.json")
        start, arrays = 8 + int.from_bytes(data[:8], "little"), dict[str, np.ndarray]()
        for name, entry in json.loads(data[8:start]).items():
            part = data[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]]
            arrays[name] = np.frombuffer(part, DTYPES[entry["dtype"]]).reshape(entry["shape"])
        return Classifier(config, arrays)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise RuntimeError(f"{folder} is no readable export ({error}); export the student again") from error


def to_unit_length(rows: np.ndarray) -> np.ndarray:
    """Return rows scaled to length 1; zeros stay zeros."""
    return rows / np.maximum(np.sqrt(np.einsum("bd,bd->b", rows, rows))[:, None], 1e-12)


# begin hashing
def make_hashing(config: dict[str, Any], arrays: dict[str, np.ndarray]) -> Callable[[list[str]], np.ndarray]:
    """Return the function from texts to hashed n-grams (N,D)."""
    return lambda texts: embed_hashed(texts, config["dim"])


def embed_hashed(texts: list[str], dim: int) -> np.ndarray:
    """Return signed counts (N,dim) of word 1-2-grams and of character 3-5-grams within words, both hashed."""
    texts, parts = [text.lower() for text in texts], []
    words = [" ".join([*re.findall(r"\w+", text), ""]) for text in texts]
    padded = [" " + "  ".join(text.split()) + " " for text in texts]
    for strings, buckets, lengths in ((words, dim // 2, (1, 2)), (padded, dim - dim // 2, (3, 4, 5))):
        data = np.frombuffer("".join(strings).encode("utf-8", "replace") + bytes(4), np.uint8)
        at = np.flatnonzero((data[:-3] & 0xC0) != 0x80)  # the first byte of each character, and the end
        spaces, row = data[at[:-1]] == 32, np.repeat(np.arange(len(texts), dtype=np.int32), [*map(len, strings)])
        if strings is words:  # n-grams are words of one text
            ends = np.flatnonzero(spaces)
            begins = np.concatenate([[0], ends + 1])[:-1]
            group = row[begins]
        else:  # n-grams are characters of one word
            begins, group = np.arange(len(row)), (np.cumsum(spaces, dtype=np.int32) - 1) >> 1
            ends = begins + 1
        grams = [(n, np.flatnonzero(group[: max(len(group) - n + 1, 0)] == group[n - 1 :])) for n in lengths]
        first, last = (np.concatenate(x) for x in zip(*[(begins[i], ends[i + n - 1]) for n, i in grams], strict=True))
        hashes = murmur3(data, at[first], at[last] - at[first]).view(np.int32)
        index = row[first] * buckets + np.abs(hashes).view(np.uint32) % np.uint32(buckets)
        counts = np.bincount(index, (hashes >= 0) * 2.0 - 1, len(texts) * buckets)
        parts.append(to_unit_length(counts.reshape(len(texts), buckets)))
    return to_unit_length(np.hstack(parts))


def murmur3(data: np.ndarray, start: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return the 32-bit MurmurHash3 values of slices of bytes; ``data`` has more than three bytes behind the last."""
    words = sum(data[i : len(data) - 3 + i].astype(np.uint32) << 8 * i for i in range(4))
    mixed = (words & np.array([[0], [0xFF], [0xFFFF], [0xFFFFFF], [0xFFFFFFFF]], np.uint32)) * 0xCC9E2D51
    mixed = (mixed << 15 | mixed >> 17) * 0x1B873593
    value, active, done = np.zeros(len(size), np.uint32), np.flatnonzero(size >= 4), 0
    while len(active):
        block = value[active] ^ mixed[4, start[active] + done]
        value[active], done = (block << 13 | block >> 19) * 5 + 0xE6546B64, done + 4
        active = active[size[active] >= done + 4]
    value ^= mixed[size & 3, start + (size & ~3)] ^ size.astype(np.uint32)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        value = np.multiply(value ^ value >> shift, factor, dtype=np.uint32)
    return value


# end hashing


# begin static
def make_static(config: dict[str, Any], arrays: dict[str, np.ndarray]) -> Callable[[list[str]], np.ndarray]:
    """Return the function from texts to the means (N,D) of the vectors of their WordPiece tokens, as BERT has them."""
    ids, lowercase, strip = {token: i for i, token in enumerate(config["tokens"])}, config["lowercase"], config["strip"]
    apart = re.compile("[$+<=>^`|~\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f]")
    table = arrays[config["table"]].astype(np.float32) * arrays.get(config["scale"], np.float32(1))
    table = np.vstack([table, np.zeros_like(table[:1])])  # the last row is that of a text without words

    def prepare(c: str) -> str:
        kind = unicodedata.category(c)
        if c in "\t\n\r" or kind[0] == "Z":
            return " "
        if kind[0] == "C" or c == "\ufffd" or (strip and kind == "Mn"):
            return ""
        return f" {c} " if kind[0] == "P" or apart.match(c) else c.lower() if lowercase else c

    @functools.lru_cache(1 << 16)
    def tokenize(text: str) -> list[int]:
        tokens = list[int]()
        for word in "".join(map(prepare, unicodedata.normalize("NFD", text) if strip else text)).split():
            start, found = 0, list[int]()
            while start < len(word) <= config["longest"]:
                prefix = config["prefix"] if start else ""
                end = next((end for end in range(len(word), start, -1) if prefix + word[start:end] in ids), None)
                if end is None:
                    break
                found, start = [*found, ids[prefix + word[start:end]]], end
            tokens += found if start == len(word) else [config["unknown"]]
        return tokens

    def embed(texts: list[str]) -> np.ndarray:
        parts = [[(tokenize if len(p) < 64 else tokenize.__wrapped__)(p) for p in text.split(" ")] for text in texts]
        tokens = [[*itertools.chain.from_iterable(own)] or [-1] for own in parts]
        return to_unit_length(np.stack([table[ids].sum(axis=0) for ids in tokens]))

    return embed


# end static


# begin module
@functools.cache
def load() -> Classifier:
    """Return the classifier in the folder of this file."""
    return read_export(pathlib.Path(__file__).parent)


def predict(texts: Sequence[str]) -> list[str]:
    """Return the most probable label of each text."""
    return [load().classes[i] for i in predict_proba(texts).argmax(axis=1)]


def predict_proba(texts: Sequence[str]) -> np.ndarray:
    """Return probabilities (N,C) of N texts; the columns are in the order of ``load().classes``."""
    return load().predict_proba(texts)


if __name__ == "__main__":
    texts = sys.argv[1:] or sys.exit('usage: python classify.py "a text" ["another text" ...]')
    for text, row in zip(texts, predict_proba(texts), strict=True):
        print(load().classes[row.argmax()], f"{row.max():.3f}", " ".join(text.split()), sep="\t")
# end module
