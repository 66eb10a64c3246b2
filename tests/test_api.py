"""The Python interface of ``qkd``: names, packages, device runs and compilation without deep imports."""

import inspect
import pydoc
import re
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Literal, Union, get_args, get_origin, get_type_hints

import pandas as pd
import pytest

import qkd
from qkd.core import options
from qkd.core.config import fields
from qkd.core.errors import ConfigError, QkdError
from qkd.hardware.request import DeviceRunRequest, LearningRequest
from tests import processes

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
    assert qkd.__version__ == version("qkd-llm")
    for name in shown:
        assert f"`{name}`" in qkd.__doc__ or f"`qkd.{name}`" in qkd.__doc__
        assert getattr(qkd, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'distil'"):
        qkd.distil  # noqa: B018
    assert (Path(qkd.__file__).parent / "py.typed").is_file()


def test_help_is_short():
    assert len(pydoc.render_doc(qkd).splitlines()) < 100


def keywords(annotation):
    """The types of a keyword argument, as ``core/options.py`` writes them."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return keywords(parts[0])
    if origin in (Union, UnionType):
        return {word for part in parts for word in keywords(part)}
    if origin is tuple:
        return {f"Sequence[{' | '.join(sorted(keywords(parts[0])))}]", "str"}
    if origin is Literal:
        return {f"Literal[{', '.join(map(repr, parts))}]"}
    return {"str", "Path"} if annotation is Path else {"None" if annotation is NoneType else annotation.__name__}


@pytest.mark.parametrize(
    "typed, settings",
    [
        (options.ConfigOptions, {key: field.annotation for _, key, field in fields()}),
        (options.DeviceRunOptions, get_type_hints(DeviceRunRequest, include_extras=True)),
        (options.LearningOptions, get_type_hints(LearningRequest, include_extras=True)),
    ],
)
def test_editors_complete_every_setting(typed, settings):
    own = {"kind", "run", "model_config", "__class_vars__"} | ({"device", "client"} if "points" in settings else set())
    own |= {name for name in settings if name.startswith(("_", "model_"))}
    written = typed.__annotations__
    assert [*written] == [name for name in settings if name not in own] or {*written} == {*settings} - own
    for name, reference in written.items():
        text = reference.__forward_arg__.replace('"', "'")
        assert text == "Any" or {*re.split(r" \| (?![^\[]*\])", text)} == keywords(settings[name]), name


@pytest.mark.parametrize(
    "function, home",
    [
        (qkd.distill, options.ConfigOptions),
        (qkd.compare, options.ConfigOptions),
        (qkd.sweep, options.ConfigOptions),
        (qkd.reproduce, options.ConfigOptions),
        (qkd.teach, options.ConfigOptions),
        (qkd.run_hardware, options.DeviceRunOptions),
        (qkd.learn, options.LearningOptions),
    ],
)
def test_functions_say_which_settings_they_take(function, home):
    parameters = inspect.signature(function).parameters
    assert parameters["options"].annotation == f"Unpack[{home.__name__}]" and parameters["quiet"].default is False


@pytest.mark.parametrize(
    "sentence, expected",
    [
        ("use more --qubits or --epochs", "use more qubits or epochs"),
        ("above --max-qpu-seconds 60", "above max_qpu_seconds 60"),
        ("add --sim aer-noisy", "add sim aer-noisy"),
        ("export with --no-check", "export with check=False"),
        ("continue with 'qkd distill --resume --name a'", "continue with 'qkd distill --resume --name a'"),
        ("run 'qkd devices list', or a -- b", "run 'qkd devices list', or a -- b"),
    ],
)
def test_sentences_speak_python_in_python(sentence, expected):
    assert str(QkdError(sentence)) == expected


def test_sentences_speak_options_on_the_command_line(tmp_path):
    done = processes.qkd("distill", "--lr=nan", cwd=tmp_path)
    assert "--lr = nan" in done.stderr
    with pytest.raises(QkdError, match=r"^lr = nan"):
        qkd.distill(lr=float("nan"))


def test_quiet_calls_print_no_progress(corpus, tmp_path, said):
    texts = pd.read_csv(corpus / "texts.csv")
    data = {"data": (list(texts.t), list(texts.y)), "teacher": f"logits:{corpus / 'logits.csv'}"}
    qkd.teach(tmp_path / "a.parquet", quiet=True, **data)
    assert not said()
    qkd.teach(tmp_path / "b.parquet", **data)
    assert said()


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
