"""Labeling over a local Ray cluster of two workers: the same rows in order, and a killed worker costs a batch."""

import os
import signal
import socket
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pyarrow.parquet as parquet
import pytest

from qkd import api
from qkd.core import cache
from qkd.core.cluster import over_ray
from qkd.core.errors import QkdError
from qkd.encoders.protocol import embed_texts
from qkd.encoders.registry import make_encoder
from tests.models.conftest import animals


def test_the_same_file_comes_out_row_for_row(cluster, model, tmp_path, monkeypatch, recwarn):
    dataset = animals(3, count=400)
    pd.DataFrame({"text": dataset.texts, "label": dataset.labels}).to_csv(tmp_path / "texts.csv", index=False)
    for name, ray in (("alone", None), ("spread", "local")):
        monkeypatch.setenv("QKD_CACHE", str(tmp_path / name))
        given = {"data": str(tmp_path / "texts.csv"), "teacher": f"probe:{model}"}
        api.teach(tmp_path / f"{name}.parquet", ray=ray, **given)
    alone, spread = (parquet.read_table(tmp_path / f"{name}.parquet") for name in ("alone", "spread"))
    assert spread["text"] == alone["text"] and spread.num_rows == 400
    for name in alone.column_names[1:]:
        np.testing.assert_allclose(spread[name], alone[name], atol=1e-3)
    assert cache.mapper is cache.one_by_one
    assert not [str(warning.message) for warning in recwarn if "ray" in str(warning.message).lower()]


def test_a_worker_that_is_killed_costs_only_its_batch(cluster, tmp_path):
    log = tmp_path / "log"

    def value(texts):
        with log.open("a") as file:
            file.write(f"{os.getpid()} {texts[0]}\n")
        if not (tmp_path / "died").exists() and log.read_text().count("\n") > 2:
            (tmp_path / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return np.array([[len(text)] for text in texts], np.float32)

    texts = [f"text {number} {'long ' * (number % 5)}" for number in range(6 * cache.CHUNK)]
    with over_ray("local"):
        found = cache.cached_rows({"kind": "test"}, texts, value, "testing")
    np.testing.assert_array_equal(found[:, 0], [len(text) for text in texts])
    lines = [line.split(" ", 1) for line in log.read_text().splitlines()]
    assert (tmp_path / "died").exists() and len({worker for worker, _ in lines}) >= 2
    assert len({first for _, first in lines}) == 6 and len(lines) <= 6 + 2  # its own, and what it had been handed


def test_texts_that_workers_cut_are_told(cluster, model, tmp_path, monkeypatch, capsys):
    texts = [f"the cat {'likes the dog ' * (number % 3)}and {number}" for number in range(2 * cache.CHUNK)]
    long = sum(number % 3 > 0 for number in range(len(texts)))
    for name, where in (("alone", nullcontext()), ("spread", over_ray("local"))):
        monkeypatch.setenv("QKD_CACHE", str(tmp_path / name))
        with where:
            embed_texts(make_encoder(f"{model}?tokens=6"), texts)
        assert f"{long:,} of {len(texts):,} texts are longer than 6 tokens" in capsys.readouterr().err


def test_a_mistake_in_a_worker_is_told_as_one_sentence(cluster):
    def value(texts):
        raise QkdError("model 'x' is not here")

    with pytest.raises(QkdError) as caught, over_ray("local"):
        cache.cached_rows({"kind": "test"}, ["a text"], value, "testing")
    assert str(caught.value) == "model 'x' is not here"


def test_a_cluster_that_is_not_there(monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    address = f"127.0.0.1:{port}"
    with pytest.raises(QkdError, match=f"ray {address}: no cluster answers there"), over_ray(address):
        pass


def test_without_ray_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(QkdError, match=r"ray needs ray, .*pip install 'qkd-llm\[ray\]'"), over_ray("local"):
        pass
