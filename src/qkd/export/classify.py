"""Classify texts with an exported student; this file needs Python and numpy alone.

python classify.py "a text" "another text"
from classify import predict, predict_proba
"""

import functools
import json
import pathlib
import re
import unicodedata
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

FORMAT = "qkd-numpy-1"
MAX_CHUNK_TEXTS, MAX_CHUNK_CHARACTERS = 256, 1 << 18
Encode = Callable[[list[str]], np.ndarray]
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I8": "i1", "U8": "u1"}


class Classifier:
    """The student of an export folder; ``classes`` has the C label names in the order of the columns."""

    def __init__(self, folder: pathlib.Path) -> None:
        try:
            self.config = json.loads((folder / "model.json").read_text("utf-8"))
            data = (folder / "model.safetensors").read_bytes()
            if self.config["format"] != FORMAT:
                raise ValueError(f"format {self.config['format']!r:.40} is not {FORMAT}")
            if zlib.crc32(data) != self.config["checksum"]:
                raise ValueError("model.safetensors is damaged or belongs to another model.json")
            start = 8 + int.from_bytes(data[:8], "little")
            self.arrays: dict[str, np.ndarray] = {}
            for name, entry in json.loads(data[8:start]).items():
                begin, end = entry["data_offsets"]
                array = np.frombuffer(data[start + begin : start + end], DTYPES[entry["dtype"]])
                self.arrays[name] = array.reshape(entry["shape"])
            self.classes, self.core = tuple(self.config["classes"]), self.config["core"]
            self.encode = make_encoder(self.config["encoder"], self.arrays)
            self.predict_proba([""])
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise RuntimeError(f"{folder} is no readable export ({error}); export the student again") from error

    def predict(self, texts: Sequence[str]) -> list[str]:
        """Return the most probable label of each text."""
        return [self.classes[i] for i in self.predict_proba(texts).argmax(axis=1)]

    def predict_proba(self, texts: Sequence[str]) -> np.ndarray:
        """Return probabilities (N,C) of N texts."""
        logits = self.values(texts) @ self.arrays["head"] + self.arrays["head_bias"]
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)

    def values(self, texts: Sequence[str]) -> np.ndarray:
        """Return the features (N,K) in front of the head; a circuit's are its expectation values."""
        if isinstance(texts, str):
            raise TypeError("give a list of texts, not one string")
        parts, chunk, size = [np.zeros((0, len(self.arrays["head"])))], list[str](), 0
        for text in texts:
            chunk.append(text)
            size += len(text)
            if len(chunk) == MAX_CHUNK_TEXTS or size > MAX_CHUNK_CHARACTERS:
                parts.append(self._features(self.encode(chunk)))
                chunk, size = [], 0
        return np.concatenate([*parts, self._features(self.encode(chunk))] if chunk else parts)

    def _features(self, embeddings: np.ndarray) -> np.ndarray:
        z = embeddings @ self.arrays["weight"] + self.arrays["bias"]
        if self.config["angle_map"] == "tanh":
            z = np.pi * np.tanh(z)
        elif self.config["angle_map"] == "minmax":
            z = 10 * (z - z.min(axis=1, keepdims=True)) / (np.ptp(z, axis=1, keepdims=True) + 1e-9)
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


def make_encoder(config: dict[str, Any], arrays: dict[str, np.ndarray], prefix: str = "") -> Encode:
    """Return the function from texts to embeddings (N,D) that a configuration describes."""
    if config["kind"] == "hashing":
        return lambda texts: embed_hashed(texts, config["dim"])
    # begin joined
    if config["kind"] == "joined":
        parts = [make_encoder(part, arrays, f"{prefix}{i}.") for i, part in enumerate(config["parts"])]
        return lambda texts: np.hstack([part(texts) for part in parts])
    # end joined
    return make_static_encoder(config, arrays, prefix)


def to_unit_length(rows: np.ndarray) -> np.ndarray:
    """Return rows scaled to length 1; zeros stay zeros."""
    return rows / np.maximum(np.sqrt(np.einsum("bd,bd->b", rows, rows))[:, None], 1e-12)


# begin hashing
def embed_hashed(texts: list[str], dim: int) -> np.ndarray:
    """Return signed counts (N,dim) of word 1-2-grams and of character 3-5-grams within words, both hashed."""
    texts, parts = [text.lower() for text in texts], []
    words = [" ".join([*re.findall(r"\w+", text), ""]) for text in texts]
    padded = [" " + "  ".join(text.split()) + " " for text in texts]
    for strings, buckets in ((words, dim // 2), (padded, dim - dim // 2)):
        joined = "".join(strings)
        codes = np.frombuffer(joined.encode("utf-32-le", "replace"), "<u4")
        row = np.repeat(np.arange(len(texts), dtype=np.int32), [len(string) for string in strings])
        at = np.concatenate([[0], np.cumsum(1 + (codes > 0x7F) + (codes > 0x7FF) + (codes > 0xFFFF))]).astype(np.int32)
        if strings is words:
            ends = np.flatnonzero(codes == 32)
            begins = np.concatenate([[0], ends + 1])[: len(ends)]
            pairs = np.flatnonzero(row[begins[:-1]] == row[begins[1:]])
            first, last = np.concatenate([begins, begins[pairs]]), np.concatenate([ends, ends[pairs + 1]])
        else:
            word = (np.cumsum(codes == 32, dtype=np.int32) - 1) >> 1
            grams = [np.flatnonzero(word[: max(len(word) - n + 1, 0)] == word[n - 1 :]) for n in (3, 4, 5)]
            first, last = np.concatenate(grams), np.concatenate([gram + n for n, gram in enumerate(grams, 3)])
        hashes = murmur3(joined.encode("utf-8", "replace"), at[first], at[last] - at[first]).view(np.int32)
        index = row[first] * buckets + np.abs(hashes).view(np.uint32) % np.uint32(buckets)
        counts = np.bincount(index, (hashes >= 0) * 2.0 - 1, len(texts) * buckets)
        parts.append(to_unit_length(counts.reshape(len(texts), buckets)))
    return to_unit_length(np.hstack(parts))


def murmur3(data: bytes, start: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return the 32-bit MurmurHash3 values of slices of bytes."""
    wide = np.frombuffer(data + bytes(4), np.uint8).astype(np.uint32)
    tails = [np.zeros(len(wide) - 3, np.uint32)]
    for i in range(4):
        tails.append(tails[-1] | wide[i : len(wide) - 3 + i] << np.uint32(8 * i))
    mixed = rotated(np.stack(tails) * np.uint32(0xCC9E2D51), 15) * np.uint32(0x1B873593)
    value, active, done = np.zeros(len(size), np.uint32), np.flatnonzero((size >= 4) & (size < 1024)), 0
    for long in np.flatnonzero(size >= 1024):  # few, and each of their blocks would cost a round of the loop below
        total = 0
        for word in mixed[4][start[long] : start[long] + (size[long] & ~3) : 4].tolist():
            total ^= word
            total = ((total << 13 | total >> 19) * 5 + 0xE6546B64) & 0xFFFFFFFF
        value[long] = total
    while len(active):
        block = rotated(value[active] ^ mixed[4][start[active] + done], 13)
        value[active], done = block * np.uint32(5) + np.uint32(0xE6546B64), done + 4
        active = active[size[active] >= done + 4]
    value ^= mixed[size & 3, start + (size & ~3)] ^ size.view(np.uint32)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        value = (value ^ value >> np.uint32(shift)) * np.uint32(factor)
    return value


def rotated(x: np.ndarray, bits: int) -> np.ndarray:
    """Return 32-bit words rotated to the left."""
    return x << np.uint32(bits) | x >> np.uint32(32 - bits)


# end hashing


# begin static
def make_static_encoder(config: dict[str, Any], arrays: dict[str, np.ndarray], prefix: str) -> Encode:
    """Return the function from texts to the means (N,D) of their tokens' vectors, scaled to length 1."""
    tokenizer, table, scale = make_tokenizer(config), arrays[prefix + "table"], arrays.get(prefix + "scale")

    def embed_static(texts: list[str]) -> np.ndarray:
        tokens, rows = [tokenizer(text) for text in texts], np.zeros((len(texts), table.shape[1]), np.float32)
        full = [i for i, ids in enumerate(tokens) if ids]
        ids = np.array([token for i in full for token in tokens[i]], int)
        vectors = table[ids].astype(np.float32) * (1 if scale is None else scale[ids])
        if full:
            rows[full] = np.add.reduceat(vectors, np.cumsum([0] + [len(tokens[i]) for i in full[:-1]]))
        return to_unit_length(rows)

    return embed_static


def make_tokenizer(config: dict[str, Any]) -> Callable[[str], list[int]]:
    """Return the function from a text to the token ids of a BERT WordPiece tokenizer."""
    ids, special = {token: i for i, token in enumerate(config["tokens"])}, config["special"]
    ideographs = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2FA1F))
    marks = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or "(?!)")

    def clean(c: str) -> str:
        if c in "\t\n\r" or unicodedata.category(c)[0] == "Z":
            return " "
        ideograph = any(low <= ord(c) <= high for low, high in ideographs)
        return "" if unicodedata.category(c)[0] == "C" or c == "\ufffd" else f" {c} " if ideograph else c

    def split(text: str) -> list[str]:
        text = "".join(map(clean, text)) if not text.isprintable() or not text.isascii() else text
        if config["strip_accents"] and not text.isascii():
            text = "".join([c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn"])
        if config["lowercase"]:
            text = text.lower() if text.isascii() else "".join([c.lower() for c in text])
        if text.isascii():
            return re.findall(r"[0-9A-Za-z]+|[^0-9A-Za-z\s]", text)
        return "".join([f" {c} " if unicodedata.category(c)[0] == "P" or c in "$+<=>^`|~" else c for c in text]).split()

    @functools.lru_cache(1 << 16)
    def pieces(word: str) -> list[int]:
        start, found = 0, list[int]()
        while start < len(word) and len(word) <= config["longest"]:
            prefix = config["prefix"] if start else ""
            end = next((end for end in range(len(word), start, -1) if prefix + word[start:end] in ids), None)
            if end is None:
                return [config["unknown"]]
            found, start = [*found, ids[prefix + word[start:end]]], end
        return found or [config["unknown"]]

    def tokenize(text: str) -> list[int]:
        position, tokens = 0, list[int]()
        for mark in [*marks.finditer(text), None]:
            tokens += [piece for word in split(text[position : mark and mark.start()]) for piece in pieces(word)]
            if mark:
                tokens.append(special[mark.group()])
                position = mark.end()
        return tokens

    return tokenize


# end static


# begin module
@functools.cache
def load(folder: str | pathlib.Path = pathlib.Path(__file__).parent) -> Classifier:
    """Return the classifier of an export folder."""
    return Classifier(pathlib.Path(folder))


def predict(texts: Sequence[str]) -> list[str]:
    """Return the most probable label of each text."""
    return load().predict(texts)


def predict_proba(texts: Sequence[str]) -> np.ndarray:
    """Return probabilities (N,C) of N texts; the columns are in the order of ``load().classes``."""
    return load().predict_proba(texts)


if __name__ == "__main__":
    import sys

    sys.argv[1:] or sys.exit('usage: python classify.py "a text" ["another text" ...]')
    for text, row in zip(sys.argv[1:], predict_proba(sys.argv[1:]), strict=True):
        print(load().classes[row.argmax()], f"{row.max():.3f}", " ".join(text.split()), sep="\t")
# end module
