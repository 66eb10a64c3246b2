"""The server answers a real client for runs and exports, within its limits, under load."""

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from qkd.core.errors import ConfigError, DataError, FolderError
from qkd.student.about import About, Validation
from qkd.student.bundle import Student
from tests.export.conftest import CLASSES
from tests.processes import qkd

httpx = pytest.importorskip("httpx")
uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("starlette")
from qkd.export.quick import find_quick
from qkd.export.server import load_model, make_app


@pytest.fixture(scope="module")
def address(hashing_student, tmp_path_factory):
    """A server of a numpy export on a free port of this machine."""
    folder = tmp_path_factory.mktemp("served") / "out"
    hashing_student.export(folder, check=False, threshold=0.9)
    server = uvicorn.Server(uvicorn.Config(make_app(load_model(folder)), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def test_one_text_and_many(address, hashing_student, some_texts):
    exact = hashing_student.predict_proba(some_texts)
    answers = httpx.post(f"{address}/predict", json={"texts": some_texts}).json()["predictions"]
    for answer, row in zip(answers, exact, strict=True):
        assert np.allclose([answer["probabilities"][name] for name in CLASSES], row, atol=1e-5)
        assert answer["label"] == CLASSES[row.argmax()] and answer["deferred"] == (row.max() < 0.9)
    one = httpx.post(f"{address}/predict", json={"text": some_texts[0]}).json()["predictions"]
    assert one == answers[:1]
    assert httpx.post(f"{address}/predict", json={"texts": []}).json() == {"predictions": []}


def test_health_and_description(address):
    health = httpx.get(f"{address}/health").json()
    assert health["status"] == "ok" and health["classes"] == list(CLASSES) and health["threshold"] == 0.9
    schema = httpx.get(f"{address}/openapi.json").json()
    assert f"curl -s {address}/predict" in httpx.get(f"{address}/").text
    assert set(schema["paths"]) == {"/predict", "/health"} and schema["openapi"].startswith("3.")
    page = httpx.get(f"{address}/").text
    assert "POST /predict" in page and "<b>go" not in page and "https://" not in page


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (b"", 400, "the body is not JSON"),
        (b"\xff\xfe", 400, "the body is not JSON"),
        (b"[" * 100_000, 400, "the body is not JSON"),
        (b"[]", 422, 'send {"text": "..."}'),
        (b'{"texts": "one"}', 422, "no text or texts"),
        (b'{"texts": ["a", 1]}', 422, "no text or texts"),
        (b"x" * (2**20 + 1), 413, "more than 1,048,576"),
        (json.dumps({"texts": ["a"] * 1001}).encode(), 413, "1,001 texts are more than 1,000"),
        (json.dumps({"text": "a" * 100_001}).encode(), 413, "a text has 100,001 characters"),
    ],
)
def test_bad_requests_are_answered_with_a_sentence(address, body, status, sentence):
    answer = httpx.post(f"{address}/predict", content=body)
    assert answer.status_code == status and sentence in answer.json()["error"]


def test_odd_texts_are_classified(address):
    for body in (b'{"text": "\\ud800"}', b'{"text": ""}', '{"text": "量子 🎉"}'.encode()):
        assert httpx.post(f"{address}/predict", content=body).status_code == 200
    assert httpx.get(f"{address}/predict").status_code == 405


def test_many_clients_at_once(address, hashing_student, some_texts):
    exact = hashing_student.predict_proba(some_texts)

    async def ask():
        async with httpx.AsyncClient(timeout=60) as client:
            posts = [client.post(f"{address}/predict", json={"text": text}) for text in some_texts * 5]
            return [answer.json()["predictions"][0] for answer in await asyncio.gather(*posts)]

    for answer, row in zip(asyncio.run(ask()), np.tile(exact, (5, 1)), strict=True):
        assert np.allclose([answer["probabilities"][name] for name in CLASSES], row, atol=1e-5)


def test_32_threads_among_hostile_ones_get_their_own_answers(address, hashing_student, some_texts):
    exact = dict(zip(some_texts, hashing_student.predict_proba(some_texts), strict=True))
    deep, name = b'{"text": ' + b"[" * 50_000, b'{"\\u0000": ["x"], "__proto__": {"text": 1}}'
    hostile = [b"\x1f\x8b\x08", deep, name, b'{"text": NaN}', b'{"texts": [null]}', b"x" * (2**20 + 1), b'{"text": "a"']

    def ask(number):
        texts = [some_texts[(number * 7 + i) % len(some_texts)] for i in range(6)]
        with httpx.Client(timeout=60) as client:
            for i, text in enumerate(texts):
                refused = client.post(f"{address}/predict", content=hostile[(number + i) % len(hostile)])
                assert 400 <= refused.status_code < 500 and refused.json()["error"]
                (answer,) = client.post(f"{address}/predict", json={"text": text}).json()["predictions"]
                assert np.allclose([answer["probabilities"][name] for name in CLASSES], exact[text], atol=1e-5)
        return len(texts)

    with ThreadPoolExecutor(32) as pool:
        assert sum(pool.map(ask, range(32))) == 32 * 6
    assert httpx.get(f"{address}/health").json()["status"] == "ok"


def test_clients_that_leave_or_send_noise_do_not_stop_it(address):
    host, port = address.removeprefix("http://").split(":")
    for noise in (b"\x00", b"POST /predict HTTP/1.1\r\nContent-Length: 100\r\n\r\nx", b"GET / HTTP/9\r\n\r\n") * 20:
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(noise)
    assert httpx.get(f"{address}/health").status_code == 200


def test_a_student_folder_is_served_and_a_changed_export_refused(hashing_student, tmp_path):
    hashing_student.save(tmp_path / "student")
    assert load_model(tmp_path / "student").classes == CLASSES
    folder = hashing_student.export(tmp_path / "out", check=False).folder
    (folder / "classify.py").write_text("import os")
    with pytest.raises(FolderError, match="changed after the export"):
        load_model(folder)
    page = hashing_student.export(tmp_path / "page", "page", check=False).folder
    with pytest.raises(FolderError, match="cannot be served"):
        load_model(page)


def test_a_run_is_served_with_a_threshold(hashing_student, some_texts, tmp_path):
    top = np.sort(hashing_student.predict_proba(some_texts).max(axis=1)).repeat(20)
    correct = tuple((np.arange(len(top)) >= len(top) // 4).tolist())
    known = Validation(confidences=tuple(top.tolist()), correct=correct, teacher_accuracy=0.9)
    Student(hashing_student.model, hashing_student.encoder, About(validation=known)).save(tmp_path / "student")
    model = load_model(tmp_path / "student", defer=0.1)
    assert model.threshold == load_model(tmp_path / "student", defer="teacher").threshold
    assert 0.75 < np.mean(top >= model.threshold) < 0.9
    with pytest.raises(DataError, match=r"every text is deferred\. Omit defer"):
        load_model(tmp_path / "student", defer=1e-6)
    folder = hashing_student.export(tmp_path / "out", check=False).folder
    with pytest.raises(ConfigError, match="an export has its own threshold"):
        load_model(folder, defer=0.1)


def test_onnx_exports_are_served(static_student, some_texts, tmp_path):
    pytest.importorskip("onnxruntime")
    model = load_model(static_student.export(tmp_path / "out", "onnx", check=False).folder)
    assert np.allclose(model.predict_proba(some_texts), static_student.predict_proba(some_texts), atol=1e-5)


def predict_without_torch(*words):
    """The answers of ``qkd predict``, and which of torch and Qiskit it imported."""
    code = "import sys; from qkd.cli import main\ntry: main()\nfinally: print({'torch', 'qiskit'} & set(sys.modules))"
    command = [sys.executable, "-c", code, "predict", *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer, loaded = done.stdout.splitlines()
    return json.loads(answer), loaded


def test_predict_takes_an_export_and_imports_neither_torch_nor_qiskit(hashing_student, some_texts, tmp_path):
    folder = hashing_student.export(tmp_path / "out", check=False, threshold=0.9).folder
    row, loaded = predict_without_torch(some_texts[0], "--run", str(folder))
    exact = hashing_student.predict_proba([some_texts[0]])[0]
    assert np.allclose(list(row["probabilities"].values()), exact, atol=1e-5) and loaded == "set()"
    assert row["deferred"] == (exact.max() < 0.9)
    refused = qkd("predict", some_texts[0], "--run", str(folder), "--defer", "0.1")
    assert refused.returncode == 1 and "an export has its own threshold" in refused.stderr


@pytest.mark.parametrize("kind", ["hashing", "static"])
def test_predict_with_a_bundle_imports_neither_torch_nor_qiskit(
    kind, hashing_student, static_student, some_texts, tmp_path
):
    student = hashing_student if kind == "hashing" else static_student
    student.save(tmp_path / "student")
    row, loaded = predict_without_torch(some_texts[0], "--run", str(tmp_path))
    exact = student.predict_proba([some_texts[0]])[0]
    assert np.allclose(list(row["probabilities"].values()), exact, atol=1e-5) and loaded == "set()"
    model = load_model(tmp_path / "student")
    assert np.allclose(model.predict_proba(some_texts), student.predict_proba(some_texts), atol=1e-5)


def test_a_bundle_whose_files_changed_is_read_by_the_student_itself(hashing_student, some_texts, tmp_path):
    hashing_student.save(tmp_path / "student")
    assert find_quick(tmp_path / "student") is not None
    config = tmp_path / "student" / "config.json"
    config.write_text(config.read_text("utf-8").replace("plain", "other"), "utf-8")
    assert find_quick(tmp_path / "student") is None
    assert load_model(tmp_path / "student").classes[2] == "other"
    (tmp_path / "student" / "quick.json").write_text("{")
    assert find_quick(tmp_path / "student") is None
