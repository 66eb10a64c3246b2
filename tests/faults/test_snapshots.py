"""Every snapshot of IBM's client: compiled for, estimated and rehearsed."""

import pytest

from qkd import api
from qkd.devices import catalogue, snapshot
from tests.hardware.conftest import folder, trained  # noqa: F401 - fixtures
from tests.hardware.test_snapshots import rehearse

pytestmark = pytest.mark.faults
SNAPSHOTS = [entry for entry in catalogue.load_catalogue().devices if entry.snapshot]


@pytest.mark.parametrize("entry", SNAPSHOTS, ids=lambda entry: entry.snapshot)
def test_every_snapshot_is_estimated_and_rehearsed(folder, corpus, tmp_path, entry):  # noqa: F811
    joined = bool(snapshot.load_snapshot(entry.snapshot).calibration.couplers())
    if entry.qubits < 4 or not joined:  # all couplers of fake_kyoto are faulty
        told = {"data": str(corpus / "texts.csv"), "text_column": "t", "label_column": "y", "encoder": "hashing:64"}
        teacher = f"logits:{corpus / 'logits.csv'}"
        folder = api.distill(**told, teacher=teacher, qubits=1, layers=1, epochs=2, runs=tmp_path).folder.path
    assert rehearse(folder, entry.snapshot).texts == 2
