"""Fixtures: real sentences, a classical teacher's logits, and everything that writes sent to temporary folders."""

import os

# small circuits: threads and processes would only wait for each other, and for the tests that run beside
for limit in ("OMP_NUM_THREADS", "LOKY_MAX_CPU_COUNT"):
    os.environ.setdefault(limit, "1")

import numpy as np
import pandas as pd
import pytest

LONGEST = (
    *("test_service.py", "test_distill.py", "test_docs.py", "test_simulators.py", "test_compare_asked.py"),
    *("test_api.py", "test_strict.py", "test_compare.py", "test_objects.py", "test_wrong_calls.py"),
)
"""The files that take longest, the longest first. Each file runs in one process, which makes its fixtures once."""


UNCOUNTED = {
    *("test_docs.py", "test_simulators.py", "test_distill.py", "test_latest.py"),
    *("test_labelling.py", "test_properties.py"),
}
"""Files whose lines are not counted, though they run: that takes twice the time, and others reach the same lines."""


def pytest_collection_modifyitems(items):
    """Begin with the longest files, so that no worker is alone for minutes at the end."""
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(ranks)))
    for item in items:
        if item.path.name in UNCOUNTED:
            item.add_marker(pytest.mark.no_cover)


COUNTED = "COVERAGE_PROCESS_CONFIG"
"""The environment variable that makes child processes of a test count lines."""


@pytest.fixture(autouse=True)
def _loud():
    """Begin as a process begins: not quiet, whatever the test before did."""
    from qkd.core.console import set_quiet

    set_quiet(False)


@pytest.fixture
def said(caplog):
    """The messages that qkd logged so far, one string each."""
    from qkd.core.console import log

    log.addHandler(caplog.handler)
    yield lambda: [record.getMessage() for record in caplog.records]
    log.removeHandler(caplog.handler)


@pytest.fixture(autouse=True)
def _homes(request, tmp_path, monkeypatch):
    """Keep tests out of the user's folders; those marked ``models`` use the models kept in the cache.

    Where lines are counted, ``no_cover`` spares a test, and the processes that it starts.
    """
    if request.node.get_closest_marker("no_cover"):
        monkeypatch.delenv(COUNTED, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("QKD_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("QKD_SNAPSHOTS", str(tmp_path / "snapshots"))
    if request.node.get_closest_marker("models") is None:
        monkeypatch.setenv("QKD_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def cluster():
    """A Ray cluster of two workers on this machine."""
    ray = pytest.importorskip("ray")
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - Ray's own 15 would leave its workers next to nothing
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 * 2**20,
        runtime_env={"env_vars": {COUNTED: ""}},
    )
    yield ray
    ray.shutdown()


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """A CSV of 240 real sentences in four classes, and a logits file of a logistic regression that has seen them."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    from qkd.data import loading as data

    folder = tmp_path_factory.mktemp("corpus")
    dataset = data.load_dataset("docstrings", limit=240)
    pd.DataFrame({"t": dataset.texts, "y": dataset.labels}).to_csv(folder / "texts.csv", index=False)
    features = TfidfVectorizer().fit_transform(dataset.texts)
    teacher = LogisticRegression(C=10).fit(features, dataset.targets)
    logits = teacher.decision_function(features).astype(np.float32)
    pd.DataFrame(logits, columns=list(dataset.classes)).assign(text=dataset.texts).to_csv(
        folder / "logits.csv", index=False
    )
    return folder
