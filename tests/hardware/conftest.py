"""A small run to take to devices, and a service to take it to."""

import shutil

import pytest

from qkd import api
from qkd.hardware.service.base import RetryPolicy

from .clock import Clock
from .loopback import Loopback

CLOCK = Clock()
QUICK = RetryPolicy(first_wait=2.0, max_wait=60.0, tries=4, submission_interval=13.0, sleep=CLOCK.sleep, now=CLOCK.now)


@pytest.fixture(scope="session")
def trained(corpus, tmp_path_factory):
    """A 4-qubit student of the corpus."""
    return api.distill(
        data=str(corpus / "texts.csv"),
        text_column="t",
        label_column="y",
        teacher=f"logits:{corpus / 'logits.csv'}",
        encoder="hashing:64",
        qubits=4,
        layers=1,
        epochs=8,
        lr=0.02,
        runs=tmp_path_factory.mktemp("trained"),
    ).folder.path


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of the run that a test may write into."""
    path = tmp_path / "run"
    shutil.copytree(trained, path, ignore=shutil.ignore_patterns(".lock"))
    return path


@pytest.fixture
def service(monkeypatch):
    """The service on 127.0.0.1, which the environment names as IBM's."""
    with Loopback() as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running
