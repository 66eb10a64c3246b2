"""Catalogue, snapshots, profiles and maps of devices, without a circuit."""

import dataclasses
import json
import re

import numpy as np
import pytest
from qiskit_aer import AerSimulator
from qiskit_ibm_runtime import fake_provider

from qkd import QkdError
from qkd.circuits import library
from qkd.core.bundled import find_files
from qkd.devices import catalogue, chip_plot, profiles, snapshot
from qkd.devices.calibration import Calibration, Operation, Qubit, clean
from qkd.devices.numbers import numbers, rows
from qkd.devices.random_errors import hidden
from qkd.devices.transpile import transpile


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    """Users' files of their own in an empty folder."""
    monkeypatch.setenv("QKD_SNAPSHOTS", str(tmp_path / "snapshots"))
    monkeypatch.setenv("QKD_TRANSPILE_PROFILES", str(tmp_path / "profiles"))
    (tmp_path / "profiles").mkdir()
    return tmp_path


def test_the_catalogue_says_what_the_snapshots_say():
    held = catalogue.load_catalogue()
    backends = {
        kind.backend_name: kind
        for kind in vars(fake_provider).values()
        if isinstance(kind, type) and getattr(kind, "backend_name", None)
    }
    named = [entry for entry in held.devices if entry.snapshot]
    assert {entry.snapshot for entry in named} <= set(backends)
    assert len({entry.name for entry in held.devices}) == len(held.devices)
    wide = {
        name for name in backends if re.search("brisbane|torino|fez|miami|kingston|sherbrooke|kyiv|pittsburgh", name)
    }
    assert wide <= {entry.snapshot for entry in named}
    for entry in named:
        if entry.qubits >= 120:
            told = snapshot.load_snapshot(entry.snapshot).calibration
            assert (len(told.qubits), told.family) == (entry.qubits, entry.family), entry.name
            if entry.snapshot != "fake_kyoto":  # whose calibration has an error of 1 on every coupler
                assert told.two_qubit_gates[0] == entry.two_qubit_gate
    for entry in held.devices:
        assert (entry.status == "retired") >= (entry.since is not None)
        assert entry.source or entry.status == "unknown"
    for name in ("ibm_brisbane", "ibm_torino", "ibm_kyiv", "ibm_sherbrooke", "ibm_strasbourg"):
        assert catalogue.find_device(name).status == "retired"


@pytest.mark.parametrize("alias", ["ibm_brisbane", "fake_brisbane", "brisbane"])
def test_a_device_has_three_names(alias):
    assert catalogue.find_device(alias).name == "ibm_brisbane"


def test_names_that_lead_nowhere_are_explained():
    with pytest.raises(QkdError, match="did you mean 'ibm_brisbane'"):
        catalogue.find_device("ibm_brisbone")
    command = "qkd run-hardware --device {device}"
    with pytest.raises(QkdError) as caught:
        catalogue.require_live("ibm_brisbane", command)
    said = str(caught.value)
    assert "is retired since 2025-11" in said and "ibm_fez" in said
    assert "qkd run-hardware --device fake_brisbane --local" in said
    with pytest.raises(QkdError, match=r"not among the devices of this account.*ibm_fez"):
        catalogue.require_live("ibm_boston", command, online=["ibm_fez"])
    with pytest.raises(QkdError, match="is a snapshot"):
        catalogue.require_live("fake_fez", command)
    assert catalogue.require_live("ibm_fez", command).name == "ibm_fez"
    assert catalogue.require_live("ibm_tomorrow", command, online=["ibm_tomorrow"]).status == "live"


def test_bad_calibrations_are_cleaned_once_and_summed_up():
    good = Qubit(1e-4, 1e-4, 5e9, 0.01, 1e-6)
    raw = Calibration(
        "ibm_test",
        "Heron",
        "r1",
        "1.2.3",
        "2026-01-01T00:00:00",
        1e-9,
        {},
        None,
        (
            good,
            dataclasses.replace(good, t2=3e-4),
            dataclasses.replace(good, t1=None),
            good,
            dataclasses.replace(good, readout_error=1.0),
        ),
        {
            "cz": {(0, 1): Operation(0.01, -1e-7), (1, 3): Operation(-0.1, 1e-7), (2, 3): Operation(0.01, 1e-7)},
            "sx": {(q,): Operation(1e-3, 1e-8) for q in range(5)},
        },
    )
    cleaned, done = clean(raw)
    assert (done.clipped, done.avoided, done.couplers) == ((1,), (2, 4), ((1, 3),))
    assert cleaned.gates["cz"] == {(0, 1): Operation(0.01, None)}
    assert cleaned.qubits[1].t2 == 2e-4 and set(cleaned.couplers()) == {(0, 1)}
    assert done.summary() == ("2 qubits not used (2, 4); 1 coupler not used (1-3); T2 clipped to 2 T1 on 1 qubit (1)")


def test_values_that_no_qubit_reports_are_named():
    names = snapshot.from_backend(AerSimulator(n_qubits=3)).cleaning.perfect
    assert {"cx", "rx", "readout"} <= set(names) and "rz" not in names
    assert "no error is reported for" in snapshot.from_backend(AerSimulator(n_qubits=3)).summary()
    assert not snapshot.load_snapshot("fake_brisbane").cleaning.perfect


def test_a_device_without_couplers_gives_the_reason():
    pair = library.load_circuit("hardware", qubits=2, layers=1)
    with pytest.raises(QkdError, match=r"fake_kyoto entangles none: its calibration gives every two-qubit gate"):
        transpile(pair, snapshot.load_snapshot("fake_kyoto"))


def test_a_snapshot_survives_its_file(own_folder):
    backend = fake_provider.FakeFez()
    path = snapshot.save_snapshot(backend)
    assert path.parent == own_folder / "snapshots" and re.fullmatch(r"fake_fez-\d{4}-\d\d-\d\d\.json", path.name)
    again, direct = snapshot.read_snapshot(path), snapshot.from_backend(backend)
    assert again.calibration == direct.calibration and again.cleaning == direct.cleaning
    assert again.target.num_qubits == 156 and again.origin == str(path)


def test_a_users_own_snapshot_comes_before_the_clients(own_folder):
    told = snapshot.load_snapshot("ibm_fez").calibration
    mine = dataclasses.replace(told, name="ibm_fez", date="2026-11-20T10:00:00")
    snapshot.write_snapshot(mine, own_folder / "snapshots" / "ibm_fez-2026-11-20.json")
    assert snapshot.load_snapshot("ibm_fez").calibration.date == mine.date
    assert snapshot.load_snapshot("fake_fez").calibration.date == told.date


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda value: value.update(version=99), "newer than this qkd reads"),
        (lambda value: value.update(format="something"), "not a snapshot"),
        (lambda value: value["calibration"].pop("qubits"), "damaged"),
        (lambda value: value["calibration"]["gates"]["cz"].append([[0, 999], 0.1, 1e-8]), "not there"),
    ],
)
def test_damaged_snapshots_are_named(own_folder, change, words):
    path = snapshot.save_snapshot(fake_provider.FakeFez())
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
    with pytest.raises(QkdError, match=words) as caught:
        snapshot.load_snapshot(path)
    assert str(path) in str(caught.value)


def test_half_a_file_is_no_snapshot(own_folder):
    path = snapshot.save_snapshot(fake_provider.FakeFez())
    path.write_text(path.read_text()[:1000])
    with pytest.raises(QkdError, match="cannot be read as JSON"):
        snapshot.load_snapshot(path)


def test_every_bundled_profile_loads_and_says_what_it_is_for():
    known = find_files("transpile_profiles", (".toml",))
    assert {"default", "eagle", "heron", "heron-fractional", "nighthawk", "ibm_brisbane"} <= set(known)
    for name in known:
        assert profiles.load_profile(name).name == name and profiles.load_profile(name).description
    assert profiles.load_profile("heron-fractional").basis == "fractional" and profiles.load_profile(
        "heron-fractional"
    ).families == ("Heron",)
    names = {
        device: profiles.default_name(snapshot.load_snapshot(device)) for device in ("brisbane", "kyiv", "fez", "miami")
    }
    assert names == {"brisbane": "ibm_brisbane", "kyiv": "eagle", "fez": "heron", "miami": "nighthawk"}


def test_profiles_inherit_and_are_overridden(own_folder):
    folder = own_folder / "profiles"
    (folder / "mine.toml").write_text('inherits = "heron"\nseeds = 2\n')
    mine = profiles.load_profile("mine")
    assert (mine.seeds, mine.families, mine.optimization_level) == (2, ("Heron",), 3)
    changed = mine.with_overrides({"seeds": "7", "scoring": "two-qubit", "qubits": "[3, 4]"})
    assert (changed.seeds, changed.scoring, changed.qubits) == (7, "two-qubit", (3, 4))
    with pytest.raises(QkdError, match="did you mean 'seeds'"):
        mine.with_overrides({"seed": "7"})
    with pytest.raises(QkdError, match="seeds"):
        mine.with_overrides({"seeds": "many"})
    with pytest.raises(QkdError, match="for Heron, and fake_brisbane is an Eagle; take profile 'ibm_brisbane'"):
        mine.check_family(snapshot.load_snapshot("brisbane"))
    with pytest.raises(QkdError, match=r"no profile 'haron'.*heron"):
        profiles.load_profile("haron")
    (folder / "a.toml").write_text('inherits = "b"\n')
    (folder / "b.toml").write_text('inherits = "a"\n')
    with pytest.raises(QkdError, match="circle: a -> b -> a"):
        profiles.load_profile("a")
    (folder / "wrong.toml").write_text("optimisation_level = 3\n")
    with pytest.raises(QkdError, match="did you mean 'optimization_level'"):
        profiles.load_profile("wrong")


def test_numbers_are_the_calibrations():
    held = snapshot.load_snapshot("fake_torino")
    said = numbers(held)
    errors = [done.error for done in held.calibration.couplers().values()]
    assert said.two_qubit_error.to_dict() == {"median": float(np.median(errors)), "best": min(errors)}
    assert said.t1.best == max(q.t1 for q in held.calibration.qubits if q.t1) and said.usable_qubits == 132
    assert [row[0] for row in rows(held)] == ["", "two-qubit error", "readout error", "T1, us", "T2, us"]


def test_maps_show_every_qubit_and_the_region(tmp_path):
    held, region = snapshot.load_snapshot("fake_fez"), (3, 4, 5)
    figure = chip_plot.figure(held, region)
    nodes = next(part for part in figure.axes[0].collections if len(part.get_offsets()) == 156)
    assert (np.asarray(nodes.get_linewidths()) > 1).sum() == 3
    brooklyn = snapshot.load_snapshot("fake_brooklyn")  # which gives no coordinates
    chip_plot.figure(brooklyn).savefig(tmp_path / "map.png")
    assert (tmp_path / "map.png").stat().st_size > 10_000


def test_a_written_snapshot_is_read_back(own_folder, monkeypatch):
    held = hidden(snapshot.load_snapshot("fake_manila"), seed=3)
    unusual = dataclasses.replace(held.calibration.qubits[0], t1=float("inf"), frequency=float("nan"))
    calibration = dataclasses.replace(held.calibration, qubits=(unusual, *held.calibration.qubits[1:]))
    path = own_folder / "m.json"
    snapshot.write_snapshot(calibration, path)
    again = snapshot.read_snapshot(path)
    assert again.calibration.learned == calibration.learned and again.cleaning.avoided == (0,)
    truncated = dataclasses.replace(calibration, gates={})
    with monkeypatch.context() as patched, pytest.raises(QkdError, match="does not hold the calibration"):
        patched.setattr("qkd.devices.snapshot.write_json", lambda path, value: None)  # a write that is lost
        snapshot.write_snapshot(truncated, path)
