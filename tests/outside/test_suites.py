"""Qiskit's and qiskit-machine-learning's own tests, run against our estimators.

Their source distributions are fetched from the package index when the tests run and kept in a cache folder; nothing of
theirs is in this repository but names of tests. Without an index these tests are skipped.
"""

import os
import re
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[2]
EXACT = ("statevector", "lightcone", "density")
SUITES = [
    *(("qiskit", "test/python/primitives/test_statevector_estimator.py", engine) for engine in EXACT),
    ("qiskit", "test/python/primitives/test_backend_estimator_v2.py", "aer"),
    *(("qiskit-machine-learning", "test/gradients/test_estimator_gradient.py", engine) for engine in EXACT),
    ("qiskit-machine-learning", "test/connectors/test_cpu_torch_networks.py", "statevector"),
    ("qiskit-machine-learning", "test/neural_networks/test_estimator_qnn.py", "aer"),
]
EXCLUDED = {
    "TestStatevectorEstimator::test_precision_seed": "draws normal noise; our engines are exact",
    "TestBackendEstimatorV2::test_metadata": "wants a number of shots for each PUB; ours differ between Pauli strings",
    "TestBackendEstimatorV2::test_job_size_limit_backend_v2": "counts a backend's jobs; there is none",
    **{
        f"TestBackendEstimatorV2::test_run_errors_{i}": "wants precision 0 refused; here it is the default"
        for i in range(1, 5)
    },
}


@pytest.fixture(scope="session")
def unpacked():
    """A function that gives the folder with a package's tests, of the version that is installed."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "qkd-tests"

    def of(package):
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / ".lock"):  # tests run in several processes
            return fetched(package)

    def fetched(package):
        name = f"{package.replace('-', '_')}-{version(package)}"
        folder = cache / name
        if folder.is_dir():
            return folder
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "-d", str(cache)]
        done = subprocess.run([*pip, f"{package}=={version(package)}"], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no source distribution of {package} can be had: {done.stderr.strip().splitlines()[-1:]}")
        with tarfile.open(cache / f"{name}.tar.gz") as archive:
            members = [member for member in archive.getmembers() if member.name.startswith(f"{name}/test/")]
            archive.extractall(cache, members, filter="data")
        return folder

    return of


@pytest.mark.slow
@pytest.mark.parametrize(("package", "file", "engine"), SUITES, ids=lambda value: Path(value).stem)
def test_their_tests_pass_with_our_engines(package, file, engine, unpacked):
    pytest.importorskip("ddt", reason="their tests need ddt: pip install -e .[test]")
    folder = unpacked(package)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.outside.substitute", "-p", "no:cacheprovider", file]
    command += [f"--deselect={file}::{name}" for name in EXCLUDED]
    path = os.pathsep.join([str(ROOT), str(folder)])
    environment = {**os.environ, "QKD_ENGINE": engine, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-4000:]
    answered = re.search(r"answered (\d+) PUBs", ran.stdout)
    assert answered and int(answered[1]) > 0  # else it was not our engine that was tested
