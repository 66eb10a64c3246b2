"""The row cache: each text is computed once, whatever is killed, damaged or run at the same time."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from qkd import QkdError
from qkd.core import cache
from qkd.core.arrays import array_bytes

KEY = {"kind": "test", "setting": 1}
TEXTS = [f"text {number} {'long ' * (number % 7)}" for number in range(300)]


def value(texts):
    """A row that depends on the text alone."""
    return np.array([[len(text), sum(map(ord, text))] for text in texts], dtype=np.float32)


class Counting:
    def __init__(self, stop_after=None):
        self.asked, self.stop_after = [], stop_after

    def __call__(self, texts):
        if self.stop_after is not None and len(self.asked) >= self.stop_after:
            raise KeyboardInterrupt
        self.asked += texts
        return value(texts)


def test_rows_come_back_in_order_with_their_dtype():
    found = cache.cached_rows(KEY, TEXTS, value, "testing")
    np.testing.assert_array_equal(found, value(TEXTS))
    assert found.dtype == np.float32


def test_a_second_time_and_duplicates_cost_nothing():
    first, second = Counting(), Counting()
    cache.cached_rows(KEY, [*TEXTS, *TEXTS], first, "testing")
    assert sorted(first.asked) == sorted(TEXTS)
    np.testing.assert_array_equal(cache.cached_rows(KEY, TEXTS[::-1], second, "testing"), value(TEXTS[::-1]))
    assert second.asked == []


def test_one_changed_text_costs_one_call():
    cache.cached_rows(KEY, TEXTS, value, "testing")
    again = Counting()
    cache.cached_rows(KEY, [*TEXTS[:-1], "changed"], again, "testing")
    assert again.asked == ["changed"]


def test_another_setting_is_another_store():
    cache.cached_rows(KEY, TEXTS, value, "testing")
    again = Counting()
    cache.cached_rows({**KEY, "setting": 2}, TEXTS, again, "testing")
    assert len(again.asked) == len(TEXTS)


def test_a_killed_filling_goes_on_with_the_chunks_it_would_have_had():
    whole, killed, rest = Counting(), Counting(stop_after=cache.CHUNK), Counting()
    cache.cached_rows({**KEY, "setting": "whole"}, TEXTS, whole, "testing")
    with pytest.raises(KeyboardInterrupt):
        cache.cached_rows(KEY, TEXTS, killed, "testing")
    cache.cached_rows(KEY, TEXTS, rest, "testing")
    assert killed.asked + rest.asked == whole.asked
    assert len(killed.asked) == cache.CHUNK


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_a_damaged_shard_is_reported_and_computed_again(damage, said):
    cache.cached_rows(KEY, TEXTS, value, "testing")
    shard = max(cache.Store(KEY).folder.glob("*.safetensors"), key=lambda path: path.stat().st_size)
    data = bytearray(shard.read_bytes())
    data[-3] ^= 64
    shard.write_bytes({"flip": data, "truncate": data[: len(data) // 2], "empty": b""}[damage])
    again = Counting()
    np.testing.assert_array_equal(cache.cached_rows(KEY, TEXTS, again, "testing"), value(TEXTS))
    assert len(again.asked) == cache.CHUNK
    assert "is damaged" in " ".join(said())


def forged(path, arrays):
    """A shard of other arrays, under the name that fits its content."""
    data = array_bytes(arrays)
    path.unlink()
    (path.parent / f"{hashlib.sha256(data).hexdigest()[:32]}.safetensors").write_bytes(data)


HASHES = np.zeros((4, 16), np.uint8)


@pytest.mark.parametrize(
    "arrays",
    [
        {"rows": np.zeros((4, 2))},
        {"texts": HASHES},
        {"texts": HASHES, "rows": np.zeros((3, 2))},
        {"texts": HASHES.astype(float), "rows": np.zeros((4, 2))},
        {"texts": HASHES[:, :3].copy(), "rows": np.zeros((4, 2))},
        {"texts": HASHES, "rows": np.array(1.0)},
    ],
    ids=lambda arrays: " ".join(f"{name}{list(array.shape)}" for name, array in arrays.items()),
)
def test_a_forged_shard_is_reported_and_computed_again(arrays, said):
    cache.cached_rows(KEY, TEXTS, value, "testing")
    forged(min(cache.Store(KEY).folder.glob("*.safetensors")), arrays)
    np.testing.assert_array_equal(cache.cached_rows(KEY, TEXTS, value, "testing"), value(TEXTS))
    assert "is damaged" in " ".join(said())


def test_shards_that_do_not_fit_each_other_are_refused():
    cache.cached_rows(KEY, TEXTS, value, "testing")
    forged(min(cache.Store(KEY).folder.glob("*.safetensors")), {"texts": HASHES, "rows": np.zeros((4, 9))})
    with pytest.raises(QkdError, match="do not fit each other"):
        cache.cached_rows(KEY, [*TEXTS, *map(str, range(4 * cache.CHUNK))], value, "testing")


def test_small_shards_are_merged_and_nothing_is_lost():
    for start in range(0, 40, 4):
        cache.cached_rows(KEY, TEXTS[start : start + 4], value, "testing")
    assert len(list(cache.Store(KEY).folder.glob("*.safetensors"))) <= cache.LOOSE + 1
    np.testing.assert_array_equal(cache.Store(KEY).read(TEXTS[:40]), value(TEXTS[:40]))


def test_a_reader_may_pick_a_part_of_each_row():
    cache.cached_rows(KEY, TEXTS, value, "testing")
    np.testing.assert_array_equal(cache.Store(KEY).read(TEXTS, lambda rows: rows[:, 1]), value(TEXTS)[:, 1])


def test_a_text_that_was_never_computed_is_an_error():
    cache.cached_rows(KEY, TEXTS[:5], value, "testing")
    with pytest.raises(KeyError, match=r"lacks 1 of 6 texts"):
        cache.Store(KEY).read(TEXTS[:6])


def test_processes_share_a_store():
    script = (
        "import numpy as np; from qkd.core import cache\n"
        "texts = [f'text {n}' for n in range(400)]\n"
        "value = lambda texts: np.array([[len(t), sum(map(ord, t))] for t in texts], dtype=np.float32)\n"
        "rows = lambda texts: cache.cached_rows({'kind': 'shared'}, texts, value, 'testing')\n"
        "for step in range(0, 400, 20): rows(texts[step:step + 20])\n"
        "assert (rows(texts) == value(texts)).all()"
    )
    many = [subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True) for _ in range(3)]
    errors = [process.communicate()[1] for process in many]
    assert [process.returncode for process in many] == [0, 0, 0], errors
    assert not any("damaged" in error for error in errors)


def test_arrays_are_kept_exactly_scalars_included():
    made = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3), "c": np.array(0.5), "column": np.array(3)}
    first = cache.arrays({"kind": "head", "n": 1}, lambda: made)
    second = cache.arrays({"kind": "head", "n": 1}, lambda: pytest.fail("computed twice"))
    for found in (first, second):
        assert {name: (part.shape, part.dtype) for name, part in found.items()} == {
            name: (part.shape, part.dtype) for name, part in made.items()
        }
        np.testing.assert_array_equal(found["weight"], made["weight"])


def test_the_root_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("QKD_CACHE", str(tmp_path / "here"))
    assert cache.root() == tmp_path / "here"
    monkeypatch.delenv("QKD_CACHE")
    assert cache.root().name == "qkd"
