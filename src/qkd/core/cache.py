"""Cache of model outputs: one row per text, so a changed text costs one model call.

A store is a folder. Its name is the hash of everything that determines a row except the text: kind, model fingerprint
and settings. Its shards are safetensors files of text hashes and rows. The name of a shard is the hash of its content,
so qkd notices damage. Processes share a store without a lock, since each adds shards of its own; only the merging of
small shards needs a lock.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qkd.core.arrays import array_bytes, parse_arrays, read_arrays, write_arrays
from qkd.core.console import log, progress
from qkd.core.errors import ConfigError, FolderError, ModelError, nearest
from qkd.core.files import MAX_ARRAY_BYTES, read_bytes, write_bytes

CHUNK = 128
"""Texts per shard, and the most that an interrupted computation loses."""

SMALL = 64 * 2**20
"""Size in bytes below which shards are merged."""

LOOSE = 4
"""Number of small shards that a store may keep."""


HASH_BYTES = 16


def root() -> Path:
    """Return the cache folder: ``$QKD_CACHE``, else the user's cache folder."""
    import platformdirs

    return Path(os.environ.get("QKD_CACHE") or platformdirs.user_cache_dir("qkd"))


KINDS = {
    "rows": "embeddings and logits of texts",
    "arrays": "fitted heads",
    "models": "default models",
    "digests": "fingerprints of model files",
    "adapters": "fine-tuned teachers",
}
"""Folders of the cache, with their content."""


def usage() -> dict[str, tuple[int, int]]:
    """Return the number of files and of bytes of each kind of cached file."""
    found = {}
    for folder in sorted(root().glob("*/")):
        sizes = [path.lstat().st_size for path in folder.rglob("*") if not path.is_dir()]
        found[folder.name] = (len(sizes), sum(sizes))
    return found


def clean(kinds: Sequence[str]) -> None:
    """Delete cached files.

    Args:
        kinds: Names of folders in the cache; see ``usage``.

    Raises:
        ConfigError: The cache has no such kind.
    """
    known = usage()
    for kind in kinds:
        if kind not in known:
            raise ConfigError(f"the cache has no kind '{kind}'{nearest(kind, known)}")
    for kind in kinds:
        folder = root() / kind
        if folder.is_symlink():
            folder.unlink()
        else:
            shutil.rmtree(folder)


def digest(value: Any) -> str:
    """Return the sha256 of ``value`` as canonical JSON, hexadecimal."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def text_hash(text: str) -> bytes:
    """Return the ``HASH_BYTES`` bytes of a text's hash."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:HASH_BYTES]


truncated: Counter[str] = Counter()
"""Number of texts that each model truncated since the last report; ``cluster`` adds those of its workers."""

Key = Mapping[str, Any]
"""Everything that determines a row except its text, as JSON values."""

Compute = Callable[[list[str]], np.ndarray]
"""A function from texts to one row for each."""


def one_by_one(compute: Compute, chunks: Sequence[list[str]]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the number and the rows of each chunk, computed in this process."""
    for number, chunk in enumerate(chunks):
        yield number, compute(chunk)


mapper: Callable[[Compute, Sequence[list[str]]], Iterator[tuple[int, np.ndarray]]] = one_by_one
"""The function that computes chunks; ``cluster.over_ray`` replaces it."""


@dataclass(frozen=True)
class Store:
    """The rows of one function of texts.

    Args:
        key: everything that determines a row except its text; JSON values. ``key["kind"]`` names the folder.
    """

    key: Key

    @property
    def folder(self) -> Path:
        """The folder of the shards."""
        return root() / "rows" / f"{self.key['kind']}-{digest(self.key)[:24]}"

    def fill(
        self,
        texts: Sequence[str],
        compute: Callable[[list[str]], np.ndarray],
        what: str,
        width: tuple[int, ...] | None = None,
    ) -> int:
        """Compute and save the rows of those ``texts`` that the store lacks; return how many there were.

        The longest texts come first, so that the time left is not underestimated and memory does not run out late.
        Chunks are fixed by what is missing, so a killed filling goes on with the very chunks it would have had.

        Args:
            texts: any texts; equal ones are computed once.
            compute: returns one row per text, any shape and dtype, as an array with the texts as first axis.
            what: the work, for the progress bar.
            width: shape of one row; any when left out.

        Raises:
            ModelError: rows have another shape, or hold NaN or infinity; none of their chunk is saved.
        """
        known = self._known()
        missing = {text_hash(text): text for text in texts}
        order = sorted(missing.keys() - known, key=lambda key: (-len(missing[key]), key))
        if not order:
            return 0
        with progress(what, len(order), "texts") as bar:
            chunks = [order[start : start + CHUNK] for start in range(0, len(order), CHUNK)]
            for number, rows in mapper(compute, [[missing[key] for key in keys] for keys in chunks]):
                texts_done = [missing[key] for key in chunks[number]]
                self._save(chunks[number], checked_rows(what, texts_done, rows, width))
                bar.advance(len(chunks[number]))
        self._merge()
        return len(order)

    def add(self, texts: Sequence[str], rows: np.ndarray) -> None:
        """Save the rows ``(N, ...)`` of those N ``texts`` that the store lacks."""
        known = self._known()
        fresh = {text_hash(text): row for text, row in zip(texts, rows, strict=True)}
        keys = [key for key in fresh if key not in known]
        for start in range(0, len(keys), CHUNK):
            chunk = keys[start : start + CHUNK]
            self._save(chunk, np.stack([fresh[key] for key in chunk]))  # parts of rows that were checked

    def read(self, texts: Sequence[str], pick: Callable[[np.ndarray], np.ndarray] | None = None) -> np.ndarray:
        """Return the rows of N ``texts``, in order, ``(N, ...)``; they must be in the store.

        Args:
            texts: N texts.
            pick: takes a shard's rows ``(n, ...)`` to what is wanted of them, so that the rest need not fit in memory.

        Raises:
            KeyError: the store lacks a text.
        """
        places: dict[bytes, list[int]] = {}
        for index, text in enumerate(texts):
            places.setdefault(text_hash(text), []).append(index)
        out: np.ndarray | None = None
        for keys, rows in self._shards():
            wanted = [n for n, key in enumerate(keys) if key in places]
            if not wanted:
                continue
            rows = pick(rows[wanted]) if pick else rows[wanted]
            if out is None:
                out = np.empty((len(texts), *rows.shape[1:]), rows.dtype)
            if rows.shape[1:] != out.shape[1:] or rows.dtype != out.dtype:
                raise FolderError(f"{self.folder}: its shards do not fit each other; delete the folder")
            for n, row in zip(wanted, rows, strict=True):
                out[places.pop(keys[n])] = row
        if places or out is None:
            raise KeyError(f"{self.folder} lacks {len(places)} of {len(texts)} texts")
        return out

    def _known(self) -> set[bytes]:
        return {key for keys, _ in self._shards() for key in keys}

    def _shards(self) -> Iterator[tuple[list[bytes], np.ndarray]]:
        """Yield text hashes and rows of every shard."""
        seen: set[Path] = set()
        while fresh := sorted(set(self.folder.glob("*.safetensors")) - seen):
            for path in fresh:
                seen.add(path)
                try:
                    shard = self._open(path)
                except FolderError:
                    if path.exists():
                        raise
                    continue  # another process merged it just now; the next round finds where it went
                if shard is not None:
                    yield shard

    def _open(self, path: Path) -> tuple[list[bytes], np.ndarray] | None:
        """Return a shard's text hashes and rows, or None after it was removed because it is damaged."""
        data = read_bytes(path, MAX_ARRAY_BYTES)
        try:
            if hashlib.sha256(data).hexdigest()[:32] != path.stem:
                raise FolderError("the name is not the hash of the content")
            tensors = parse_arrays(data, path)
            keys, rows = tensors["texts"], tensors["rows"]
            if keys.dtype != np.uint8 or keys.shape != (len(rows), HASH_BYTES):
                raise FolderError("hashes and rows do not fit")
        except (FolderError, KeyError, TypeError):
            log.warning(f"{path} is damaged; removed it, its texts are computed again")
            path.unlink(missing_ok=True)
            return None
        return [key.tobytes() for key in keys], rows

    def _save(self, keys: Sequence[bytes], rows: np.ndarray) -> Path:
        if len(rows) != len(keys):
            raise ValueError(f"{len(rows)} rows computed for {len(keys)} texts")
        hashes = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), -1)
        data = array_bytes({"texts": hashes, "rows": rows})
        path = self.folder / f"{hashlib.sha256(data).hexdigest()[:32]}.safetensors"
        write_bytes(path, data)
        return path

    def _merge(self) -> None:
        """Join small shards into larger ones, when there are more than a few."""
        from filelock import FileLock

        with FileLock(self.folder / ".merge.lock"):
            sizes = {path: path.stat().st_size for path in sorted(self.folder.glob("*.safetensors"))}
            small = [path for path, size in sizes.items() if size < SMALL]
            if len(small) <= LOOSE:
                return
            group: list[Path] = []
            for path in small:
                group.append(path)
                if sum(sizes[path] for path in group) >= SMALL or path == small[-1]:
                    self._join(group)
                    group = []

    def _join(self, paths: Sequence[Path]) -> None:
        joint: dict[bytes, np.ndarray] = {}
        for path in paths:
            keys, rows = self._open(path) or ([], ())
            joint.update(zip(keys, rows, strict=True))
        if len({(row.shape, row.dtype) for row in joint.values()}) > 1:
            raise FolderError(f"{self.folder}: its shards do not fit each other; delete the folder")
        if joint:
            joined = self._save(list(joint), np.stack(list(joint.values())))
            for path in set(paths) - {joined}:
                path.unlink(missing_ok=True)


def checked_rows(what: str, texts: Sequence[str], rows: np.ndarray, width: tuple[int, ...] | None = None) -> np.ndarray:
    """Return what a model computed for N ``texts``, after refusing what cannot be right.

    Args:
        width: shape of one row; any when left out.

    Raises:
        ModelError: the shape is wrong, or a row holds NaN or infinity.
    """
    rows = np.asarray(rows)
    expected = (len(texts), *(rows.shape[1:] if width is None else width))
    if rows.shape != expected:
        raise ModelError(f"{what}: the result has the shape {rows.shape} and must have {expected}")
    if rows.dtype.kind not in "biuf":
        raise ModelError(f"{what}: the result is of type {rows.dtype} and must be real numbers")
    wrong = np.flatnonzero(~np.isfinite(rows).all(axis=tuple(range(1, rows.ndim))))
    if len(wrong):
        first = texts[wrong[0]]
        raise ModelError(
            f"{what}: {len(wrong):,} of {len(texts):,} texts give numbers that are not finite, the first is "
            f"{first[:60] + '...' * (len(first) > 60)!r}; check the weights for NaN, or use --dtype float32 if they "
            "are in half precision"
        )
    return rows


def cached_rows(
    key: Key,
    texts: Sequence[str],
    compute: Callable[[list[str]], np.ndarray],
    what: str,
    width: tuple[int, ...] | None = None,
) -> np.ndarray:
    """Return the rows of N ``texts`` ``(N, ...)``, computing only those that the cache lacks; see ``Store.fill``."""
    store = Store(key)
    store.fill(texts, compute, what, width)
    return store.read(texts)


def arrays(key: Key, compute: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the named arrays that ``key`` determines, from the cache or computed now and kept."""
    path = root() / "arrays" / f"{key['kind']}-{digest(key)[:24]}.safetensors"
    if path.exists():
        try:
            return read_arrays(path)
        except FolderError as error:
            log.warning(f"{error}; computing it again")
    computed = compute()
    write_arrays(path, computed)
    return computed
