"""Bundles go to the Hugging Face Hub and back through its own client, against a local server of its endpoints."""

import base64
import hashlib
import json
import re
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from qkd import Run, Student
from qkd.student.card import model_card
from tests.processes import qkd as run


class Hub:
    """Endpoints that ``create_repo``, ``upload_folder`` and ``snapshot_download`` use; files are kept in memory."""

    def __init__(self):
        self.files, self.private = {}, None
        self.app = Starlette(
            routes=[
                Route("/api/repos/create", self.create, methods=["POST"]),
                Route("/api/validate-yaml", lambda _: JSONResponse({"errors": [], "warnings": []}), methods=["POST"]),
                Route("/api/models/{org}/{name}/preupload/{rev}", self.preupload, methods=["POST"]),
                Route("/api/models/{org}/{name}/commit/{rev}", self.commit, methods=["POST"]),
                Route("/api/models/{org}/{name}", self.info),
                Route("/api/models/{org}/{name}/revision/{rev}", self.info),
                Route("/api/models/{org}/{name}/tree/{rev}", self.tree),
                Route("/{org}/{name}/resolve/{rev}/{path:path}", self.resolve, methods=["GET", "HEAD"]),
            ]
        )

    @property
    def commit_hash(self):
        return hashlib.sha1(json.dumps(sorted(self.files)).encode()).hexdigest()

    async def create(self, request):
        body = await request.json()
        self.private = body.get("visibility") == "private" or body.get("private")
        return JSONResponse({"url": f"{request.base_url}{body.get('organization', 'me')}/{body['name']}"})

    async def preupload(self, request):
        files = (await request.json())["files"]
        return JSONResponse(
            {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
        )

    async def commit(self, request):
        for line in (await request.body()).decode().splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                self.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
        return JSONResponse(
            {
                "commitUrl": f"{request.base_url}lab/student/commit/{self.commit_hash}",
                "commitOid": self.commit_hash,
                "success": True,
            }
        )

    async def info(self, request):
        if not self.files:
            return JSONResponse({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        siblings = [{"rfilename": name} for name in self.files]
        return JSONResponse(
            {"id": "lab/student", "modelId": "lab/student", "sha": self.commit_hash, "siblings": siblings}
        )

    async def tree(self, _):
        rows = [{"type": "file", "path": name, "size": len(content)} for name, content in self.files.items()]
        return JSONResponse([{**row, "oid": hashlib.sha1(self.files[row["path"]]).hexdigest()} for row in rows])

    async def resolve(self, request):
        content = self.files.get(request.path_params["path"])
        if content is None:
            return JSONResponse({}, 404, {"X-Error-Code": "EntryNotFound"})
        headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": self.commit_hash}
        return Response(content, headers=headers)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    hub = Hub()
    server = uvicorn.Server(uvicorn.Config(hub.app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        pass
    hub.environment = {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}",
        "HF_TOKEN": "hf_test",
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
    }
    yield hub
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def bundle(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    words = [
        "distill",
        "--data",
        str(corpus / "texts.csv"),
        "--text-column",
        "t",
        "--label-column",
        "y",
        "--name",
        "one",
    ]
    words += [
        "--teacher",
        f"logits:{corpus / 'logits.csv'}",
        "--encoder",
        "hashing:64",
        "--epochs",
        "2",
        "--qubits",
        "3",
    ]
    run(*words, cwd=folder, check=True)
    return folder / "runs" / "one"


def in_process(hub, script):
    """Run Python in a process of its own, since the hub's client reads its environment when it is imported."""
    import os

    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **hub.environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_student_goes_to_the_hub_and_comes_back(hub, bundle):
    script = f"""
import numpy as np
from qkd import Run, Student
from qkd.student.card import model_card
student = Student.load({str(bundle)!r})
print(student.push_to_hub("lab/student"))
back = Student.from_pretrained("lab/student")
texts = ["Add a gate.", "Plot a line."]
assert np.array_equal(back.predict_proba(texts), student.predict_proba(texts))
"""
    assert "lab/student" in in_process(hub, script)
    assert hub.private is True and {"config.json", "student.safetensors", "circuit.qasm", "README.md"} <= set(hub.files)


def test_the_card_has_valid_metadata(bundle):
    from huggingface_hub import ModelCard

    card = ModelCard.load(bundle / "student" / "README.md")
    assert card.data.library_name == "qkd" and card.data.pipeline_tag == "text-classification"
    (accuracy,) = [result for result in card.data.eval_results if result.metric_type == "accuracy"]
    assert "95 % interval" in accuracy.metric_value
    assert "from_pretrained" in card.text and "q_0" in card.text
    run = Run(bundle)
    assert card.data.base_model is None and card.data.datasets is None  # hashed n-grams of a file
    for scores in (run.metrics.lines["student"], run.metrics.lines["linear"]):
        assert str(scores.numbers.accuracy) in card.text
    counts = re.findall(r"^\| (\w+) \| (\d+) \|$", card.text, re.MULTILINE)
    assert sum(int(count) for _, count in counts) == run.metrics.texts["train"] and len(counts) == 4
    (command,) = re.findall(r"^qkd distill .*$", card.text, re.MULTILINE)
    assert "--encoder hashing:64" in command and "--epochs 2" in command and "--name" not in command


def test_the_card_names_models_and_data_of_the_hub(bundle):
    from huggingface_hub import ModelCardData

    student = Student.load(bundle)
    student.encoder = SimpleNamespace(name="minilm?layers=4,6+static:lab/table@0a1b+hashing:8", num_parameters=1)
    student.about = student.about.model_copy(update={"data": "hf:lab/texts:english"})
    data = ModelCardData(**yaml.safe_load(model_card(student).split("---")[1]), ignore_metadata_errors=True)
    assert data.base_model == ["sentence-transformers/all-MiniLM-L6-v2", "lab/table"] and data.datasets == ["lab/texts"]


def test_wrong_names_are_one_sentence(hub, bundle):
    script = """
from qkd import Run, Student
from qkd.student.card import model_card
from qkd.core.errors import QkdError
for name in ("no/such/thing", "lab/missing", "../../etc"):
    try:
        Student.from_pretrained(name)
    except QkdError as error:
        print(type(error).__name__, error)
"""
    lines = in_process(hub, script).splitlines()
    assert len(lines) == 3 and all(line.startswith(("ModelError", "FolderError")) for line in lines)


def test_a_folder_is_never_asked_of_the_hub(bundle, tmp_path):
    student = Student.load(bundle)
    student.save_pretrained(tmp_path / "copy")
    again = Student.from_pretrained(tmp_path / "copy")
    assert np.array_equal(again.predict_proba(["a text"]), student.predict_proba(["a text"]))
