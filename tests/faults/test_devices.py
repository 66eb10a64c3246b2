"""Random circuits with resets on three kinds of device."""

import os

import pytest

from tests.devices.conftest import check_reset_circuit

DEVICES = ("fake_manila", "fake_fez", "fake_brisbane")


@pytest.mark.faults
def test_no_circuit_with_resets_is_refused():
    for seed in range(int(1000 * float(os.environ.get("QKD_FAULTS", "1")))):
        check_reset_circuit(seed, DEVICES[seed % 3])
