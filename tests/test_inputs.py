"""Whatever is given, a mistake ends as one sentence: files of settings, folders, terminals, Python's own types."""

import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from qkd import QkdError, api
from qkd.circuits import library
from qkd.core.config import make_config, read_config
from qkd.core.errors import ConfigError
from qkd.core.runs import RunFolder
from qkd.devices import profiles
from qkd.results import Prediction
from tests.processes import qkd

DEEP = "name = " + "[" * 5000 + "]" * 5000
TOML = {
    "deep": DEEP,
    "many digits": "name = " + "9" * 5000,
    "large": "#" * (2 << 20),
    "cut": "name = ",
    "not UTF-8": b"name = '\xff'",
    "a list": "[[name]]\nx = 1",
    "infinite": 'name = "x"\nshots = inf\nqubits = inf',
}


@pytest.mark.parametrize("what", TOML)
@pytest.mark.parametrize(
    "read",
    [read_config, lambda path: library.load_circuit(str(path)), lambda path: profiles.load_profile(str(path))],
    ids=["settings", "circuit", "profile"],
)
def test_files_of_settings(tmp_path, what, read):
    path = tmp_path / "mine.toml"
    path.write_bytes(TOML[what].encode() if isinstance(TOML[what], str) else TOML[what])
    with pytest.raises(QkdError, match=r"mine") as caught:
        read(path)
    assert len(str(caught.value)) < 500


def test_no_number_is_infinite():
    with pytest.raises(ConfigError, match=r"^lr = inf"):
        make_config({"train": {"lr": float("inf")}})


@pytest.mark.parametrize("folder", ["a-file/runs", "/proc/nowhere"])
def test_a_folder_that_cannot_be_written(tmp_path, folder):
    if folder.startswith("/proc") and not sys.platform.startswith("linux"):
        pytest.skip("no /proc here")
    (tmp_path / "a-file").write_text("")
    done = qkd("distill", "--runs", folder, "--limit", "40", "--encoder", "hashing:8", cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("error: ")
    assert folder.partition("/runs")[0] in done.stderr and "unforeseen" not in done.stderr


@pytest.fixture
def read_only():
    """A folder, and a run in it, that this process may read and not write, even where it belongs to root."""
    with tempfile.TemporaryDirectory() as name:  # root's own temporary folders may not even be read by others
        run = RunFolder(Path(name) / "run")
        with run.lock():
            run.config.write_text("")
        for path in (Path(name), run.path):
            path.chmod(0o555)
        user = os.geteuid()
        os.seteuid(user or 65534)
        try:
            yield run
        finally:
            os.seteuid(user)
            for path in (Path(name), run.path):
                path.chmod(0o700)


def test_a_run_folder_that_may_only_be_read(read_only):
    assert read_only.config.read_text() == ""
    for folder in (read_only, RunFolder(read_only.path.with_name("new"))):
        with pytest.raises(QkdError, match="cannot be written"), folder.lock():
            pass


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_terminals_that_cannot_show_everything(encoding):
    env = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "qkd", "circuits", "show", "hardware"]
    done = subprocess.run(command, capture_output=True, env=env)
    assert done.returncode == 0 and b"q_0" in done.stdout and b"?" in done.stdout


def test_json_for_scripts_is_json_on_any_terminal(monkeypatch):
    from qkd.cli import students

    row = {"text": "caf\u00e9", "label": "x", "probability": 1.0, "probabilities": {"x": 1.0}}
    monkeypatch.setattr(api, "predict", lambda *_: [Prediction(**row)])
    for encoding in ("ascii", "utf-8"):
        out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", out)
        students.predict(["x"], spec=students.PredictSpec(), json_=True)
        out.flush()
        assert json.loads(out.buffer.getvalue().decode(encoding)) == row


def test_what_is_not_read_to_its_end_is_no_error():
    process = subprocess.Popen(
        [sys.executable, "-m", "qkd", "devices", "list", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 1


def test_a_users_circuit_in_the_place_of_a_bundled_one_is_told(tmp_path, monkeypatch, capsys):
    (tmp_path / "circuits").mkdir()
    (tmp_path / "circuits" / "hardware.toml").write_text('name = "mine"\nqubits = 3\n[ansatz]\nrotations = ["ry"]\n')
    monkeypatch.chdir(tmp_path)
    assert library.load_circuit("hardware").num_qubits == 3
    assert f"{tmp_path}/circuits/hardware.toml hides the bundled" in capsys.readouterr().err
    library.load_circuit("qdllm")
    assert capsys.readouterr().err == ""


def test_a_device_without_its_noise_is_a_mistake(tmp_path):
    for options in ({"device": "ibm_fez"}, {"device": "ibm_fez", "sim": "aer"}, {"idle_noise": True}):
        with pytest.raises(ConfigError, match="sim aer-noisy"):
            api.distill(runs=tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


def test_errors_say_what_a_caller_can_do(tmp_path):
    from qkd.core import errors

    kinds = {
        errors.CircuitError: lambda: library.load_circuit("hardware", qubits=0),
        errors.ConfigError: lambda: profiles.load_profile("nobody"),
        errors.DataError: lambda: api.distill(data=str(tmp_path / "nowhere.csv"), runs=tmp_path),
        errors.FolderError: lambda: api.Run(tmp_path / "nowhere"),
        errors.ModelError: lambda: api.distill(teacher="probe:nobody", encoder="hashing:8", limit=40, runs=tmp_path),
        errors.DeviceError: lambda: api.distill(sim="aer-noisy", device="ibm_moon", runs=tmp_path),
    }
    for kind, mistake in kinds.items():
        with pytest.raises(kind):
            mistake()
