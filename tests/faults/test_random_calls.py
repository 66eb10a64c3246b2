"""Random calls of public functions with values of any kind: each works or ends in one sentence."""

import inspect
import os
import random
import signal
from collections import Counter
from importlib import import_module

import pytest
import torch

import qkd
from qkd import QkdError
from qkd.core.options import ConfigOptions
from tests.test_api import PACKAGES
from tests.test_wrong_calls import names  # noqa: F401

CONSTRUCTED = {"Budget", "Compiled", "DeviceRun", "Engine", "Exported", "Mitigation", "Plan", "QuantumCore", "Region"}
CONSTRUCTED |= {"Snapshot", "Trainer", "TrainingData"}
"""Classes whose objects qkd alone constructs."""
SECONDS = 5
"""Time after which a call counts as one that works."""
ODD = """
    None | True | False | 0 | 1 | -1 | 3 | 10**9 | 0.5 | -2.5 | nan | 1e400 | 2j | "" | "a" | "nowhere.csv" | "a\\0b"
    "hashing:8" | "../x" | "\\ud800" | "linear" | "ibm_nowhere" | "fake_manila" | b"x" | [] | [None] | [1, 2] | ["a"]
    ["a", 3] | () | (1,) | ("a", "b") | {} | {"a": 1} | {1: 2} | set() | {"a"} | range(3) | iter([]) | len | str
    object() | object | type | lambda: 0 | lambda texts: texts | Path("x") | Path("") | np | np.zeros(0)
    np.zeros((2, 2)) | np.ones(3) * nan | np.array(["a"]) | np.array([None]) | np.int64(3) | np.float32(0.5)
    np.bool_(True) | np.array(3) | pd.DataFrame() | pd.Series([1]) | torch.zeros(3) | X | T | Y | table | dataset
    RUN | S | FOLDER | FILE | qc | x | measured | circuit | backend | client | GenericBackendV2 | Run | (T, Y) | (X, Y)
    qkd.Config() | qkd.CompareSpec() | EngineSpec() | S.encoder | S.model | [circuit] | [backend] | (table,)
"""


def functions():
    """The public functions, classes and methods by name."""
    found = {}
    for package in (qkd, *(import_module(f"qkd.{name}") for name in PACKAGES if name != "engines")):
        for name in dir(package):
            value = getattr(package, name)
            if not name.startswith("_") and callable(value) and name not in CONSTRUCTED:
                found[f"{package.__name__}.{name}"] = value
    return found


def drawn_calls(count, seed, pool):
    """Yield functions and arguments: all that are required, and some others."""
    random_ = random.Random(seed)
    known = functions()
    methods = {f"S.{name}": getattr(pool["S"], name) for name in dir(pool["S"]) if name[0] != "_"}
    methods |= {f"Run.{name}": getattr(pool["Run"], name) for name in dir(pool["Run"]) if name[0] != "_"}
    known |= {name: value for name, value in methods.items() if callable(value)}
    words = [word for line in ODD.strip().splitlines() for word in line.strip().split(" | ")]
    for _ in range(count):
        name = random_.choice(sorted(known))
        try:
            parameters = inspect.signature(known[name]).parameters.values()
        except ValueError:
            continue
        given = {}
        for parameter in parameters:
            needed = parameter.default is parameter.empty
            if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                continue
            if random_.random() < (0.97 if needed else 0.3):
                given[parameter.name] = random_.choice(words)
        if any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters) and random_.random() < 0.5:
            options = sorted(ConfigOptions.__annotations__)
            given[random_.choice(options)] = random_.choice(words)
        yield name, known[name], given


def outcome(function, given, pool):
    """Return None for a call that works or is refused in one sentence, else what is wrong."""
    try:
        function(**{name: eval(word, pool) for name, word in given.items()})
    except (QkdError, TimeoutError) as error:
        return "an empty message" if not str(error) else None
    except TypeError as error:
        return None if "argument" in str(error) or "Protocols" in str(error) else f"TypeError: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.faults
def test_random_calls(names, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    for name in ("HF_HUB_OFFLINE", "PIP_NO_INDEX"):
        monkeypatch.setenv(name, "1")
    pool = {**names, "torch": torch, "Run": qkd.Run(names["RUN"])}
    signal.signal(signal.SIGALRM, stop)
    count, seed = int(2000 * float(os.environ.get("QKD_FAULTS", "1"))), int(os.environ.get("QKD_SEED", "0"))
    wrong = Counter()
    for name, function, given in drawn_calls(count, seed, pool):
        signal.alarm(SECONDS)
        try:
            fault = outcome(function, given, pool)
        finally:
            signal.alarm(0)
        if fault is not None:
            wrong[f"{name}({', '.join(f'{key}={word}' for key, word in given.items())}): {fault:.300}"] += 1
    assert not wrong, "\n".join(wrong)


def stop(*_):
    raise TimeoutError("the call works for long")
