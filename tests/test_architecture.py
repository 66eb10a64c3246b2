"""The import rules of docs/architecture.md: packages import from rows above, engines from almost nothing of qkd."""

import ast
import itertools
import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXTRAS = ("api", "export", "hf", "lora", "ray", "serve", "sweep")
"""The extras of users; the others are for contributors."""
SOURCE = ROOT / "src" / "qkd"
TABLE = ROOT / "docs" / "architecture.md"
BESIDE = {"engines/", "devices/"}
"""Packages that do not import from each other."""
ENGINES_IMPORT = {"qkd.core.errors", "qkd.circuits.cone", "qkd.circuits.flatten", "qkd.engines", "qkd.core.lazy"}
"""Modules of qkd that engines may import; ``lazy`` loads the names of a package on first use."""
NEEDED = {"numpy", "scipy", "torch", "qiskit", "qiskit_aer", "qiskit_machine_learning", "cachetools"}
"""The packages that engines import; ``sympy``, which Qiskit brings, only for angles that are not linear."""
OUTSIDE = {"__init__.py", "__main__.py"}


def rows():
    """The packages of each row of the table, from the top."""
    lines = TABLE.read_text("utf8").split("| package | contents |")[1].splitlines()[2:]
    found = []
    for line in lines:
        if not line.startswith("|"):
            break
        found.append(re.findall(r"`([\w/.]+)`", line.split("|")[1]))
    return found


def imported(file):
    """The modules of qkd and the packages that a file imports, wherever in it."""
    modules = set()
    for node in ast.walk(ast.parse(file.read_text("utf8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
    return modules


def package(module):
    """The package of a module of qkd: a folder or a file, as the table writes it."""
    name = module.split(".")[1] if "." in module else ""
    return f"{name}/" if (SOURCE / name).is_dir() else f"{name}.py"


FILES = sorted(SOURCE.rglob("*.py"))


def test_every_package_is_in_the_table_once():
    packages = [one for row in rows() for one in row]
    there = {path.name if path.is_file() else f"{path.name}/" for path in SOURCE.iterdir() if path.name[0] != "."}
    there = {name for name in there if name.endswith((".py", "/"))} - OUTSIDE - {"__pycache__/", "bundled/"}
    assert len(packages) == len(set(packages)) and set(packages) == there


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_a_module_imports_from_rows_above_alone(file):
    own = file.relative_to(SOURCE).parts[0]
    if own in OUTSIDE:
        return
    place = {one: number for number, row in enumerate(rows()) for one in row}
    own = own if own.endswith(".py") else f"{own}/"
    for module in imported(file):
        if not module.startswith("qkd."):
            continue
        other = package(module)
        if other == "__init__.py" or other not in place:
            name = module.split(".")[1]  # qkd's own names, such as QkdError, have a module of their own
            pytest.fail(f"{file.name} imports {name} from qkd itself; import it from its module")
        beside = {own, other} == BESIDE
        assert own == other or (place[other] <= place[own] and not beside), f"{own} imports {module}"


@pytest.mark.parametrize("file", sorted((SOURCE / "engines").rglob("*.py")), ids=lambda file: file.name)
def test_engines_stand_alone(file):
    for module in imported(file):
        if module.startswith("qkd"):
            assert any(f"{module}.".startswith(f"{known}.") for known in ENGINES_IMPORT), module
        else:
            package = module.split(".")[0]
            assert package in NEEDED | {"sympy"} or package in sys.stdlib_module_names, package


def test_importing_engines_loads_nothing_until_one_is_used():
    code = "import sys, qkd.engines; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {name.split(".")[0] for name in loaded} & {*NEEDED, "transformers", "pandas"}


def test_engines_load_no_language_model_and_no_tables():
    code = "import sys; from qkd.engines import *; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    packages = {name.split(".")[0] for name in loaded}
    heavy = {"transformers", "pandas", "pydantic", "sklearn", "matplotlib", "typer", "rich", "qiskit_ibm_runtime"}
    assert not packages & heavy
    own = {name.split(".")[1] for name in loaded if name.startswith("qkd.")}
    assert own == {"core", "circuits", "engines"}
    assert {name for name in loaded if name.startswith("qkd.core.")} == {"qkd.core.errors", "qkd.core.lazy"}
    assert {name for name in loaded if name.startswith("qkd.circuits.")} <= {
        "qkd.circuits.cone",
        "qkd.circuits.flatten",
        "qkd.circuits.student",
    }


PRIVATE = re.compile(r"\b(?:noise|noise_model|model|one|added)\._(?:local|default|custom|func|ops|method)\w*")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_aers_private_fields_are_read_in_one_place(file):
    if file.relative_to(SOURCE).as_posix() != "engines/noise/aer.py":
        assert not PRIVATE.search(file.read_text("utf8"))


def test_every_name_is_used():
    folders = (SOURCE, *(SOURCE.parents[1] / name for name in ("examples", "benchmarks")))
    texts = {path: path.read_text("utf8") for folder in folders for path in folder.rglob("*.py")}
    counts = Counter(word for text in texts.values() for word in re.findall(r"\w+", text))
    for file in FILES:
        for node in ast.parse(texts[file]).body:  # methods, and what a decorator takes, others may call
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.decorator_list:
                assert counts[node.name] > 1 or node.name.startswith("__"), f"{file.name}: {node.name}"


TAKEN_APART = re.compile(r"(?:describe\(\)|\.args\[0\])\s*\.(?:split|r?partition|startswith|removeprefix|find|index)\(")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_no_module_reads_sentences_of_its_own(file):
    assert not TAKEN_APART.search(file.read_text("utf8"))  # fields and attributes say it: Engine.kind, Recalibrated.now


def test_every_imported_module_of_qkd_exists():
    """mypy reports no missing module of the package itself, because it ignores missing imports."""
    root = SOURCE.parents[1]
    modules = {".".join(path.relative_to(SOURCE.parent).with_suffix("").parts) for path in FILES}
    modules |= {name.removesuffix(".__init__") for name in modules}
    for folder in (SOURCE, root / "tests", root / "benchmarks", root / "examples"):
        for path in folder.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf8"))):
                if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "qkd":
                    assert node.module in modules, f"{path}: {node.module}"


def test_the_constraints_are_the_lowest_versions_that_the_project_admits():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]
    pinned = dict(line.split("==") for line in (ROOT / "constraints-lowest.txt").read_text("utf8").split())
    extras = [project["optional-dependencies"][name] for name in EXTRAS]
    for line in itertools.chain(project["dependencies"], *extras):
        name, lowest = re.match(r"([\w.-]+)[^>]*>=([\d.]+)", line).groups()
        assert f"{pinned[name.lower()]}.".startswith(f"{lowest}."), f"{line}, but the file pins {pinned[name.lower()]}"
