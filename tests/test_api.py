"""What ``qkd`` shows to Python: names, packages, device runs and compilation without deep imports."""

import re
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest

import qkd
from qkd.core.errors import ConfigError

PACKAGES = [
    "circuits",
    "devices",
    "engines",
    "hardware",
    "reports",
    "results",
    "simulation",
    "student",
    "data",
    "encoders",
    "export",
    "teachers",
]
EXAMPLES = Path(__file__).parents[1] / "examples"


def test_dir_shows_what_there_is():
    shown = [name for name in dir(qkd) if not name.startswith("__")]
    assert shown == sorted(set(qkd.__all__)) and qkd.__version__ == version("qkd-llm")
    for name in shown:
        assert f"`{name}`" in qkd.__doc__ or f"`qkd.{name}`" in qkd.__doc__
        assert getattr(qkd, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'distil'"):
        qkd.distil  # noqa: B018
    assert (Path(qkd.__file__).parent / "py.typed").is_file()


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_lists_its_names(package):
    module = import_module(f"qkd.{package}")
    assert "::" in module.__doc__
    for name in module.__all__:
        assert getattr(module, name) is not None and name in module.__doc__
    for name in re.findall(r"^`(\w+)` ", module.__doc__, re.MULTILINE):
        assert name in module.__all__


def test_importing_qkd_and_its_packages_loads_nothing_heavy():
    packages = ", ".join(f"qkd.{package}" for package in PACKAGES if package != "engines")
    heavy = "{'torch', 'qiskit', 'transformers', 'numpy'}"
    script = f"import sys, qkd, {packages}; dir(qkd); print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_import_from_few_places(path):
    lines = re.findall(r"^(?:from (qkd[\w.]*) import|import (qkd[\w.]*))", path.read_text("utf8"), re.MULTILINE)
    assert len(lines) <= 3 and not re.search(r"\bvars\(|Order\(", path.read_text("utf8"))


def test_transpile_takes_names_circuits_and_settings():
    compiled = qkd.transpile("hardware", "fake_manila", qubits=3, settings={"seeds": 1})
    again = qkd.transpile(qkd.circuits.load("hardware", qubits=3), qkd.devices.load("fake_manila"), compiled.profile)
    assert compiled.student.circuit.count_ops() == again.student.circuit.count_ops() and compiled.profile.seeds == 1
    small, region = compiled.region()
    assert region.qubits == tuple(sorted(compiled.qubits)) and small.num_qubits == 3
    with pytest.raises(ConfigError, match="did you mean 'seeds'"):
        qkd.transpile("hardware", "fake_manila", settings={"seed": 1})


def test_nothing_is_sent_unless_it_is_said_what_may_be(tmp_path):
    with pytest.raises(ConfigError, match="confirm=lambda plan"):
        qkd.run_hardware(tmp_path, device="ibm_fez")
    with pytest.raises(ConfigError, match="did you mean 'samples'"):
        qkd.run_hardware(tmp_path, device="ibm_fez", sample=3)
