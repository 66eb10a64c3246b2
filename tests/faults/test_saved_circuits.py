"""Thousands of random OpenQASM programs are read and written with the right unitary, or refused."""

import os

import pytest

from qkd import QkdError
from qkd.circuits.qasm import from_qasm
from tests.circuits.conftest import Program, check_program

PROGRAMS = int(1000 * float(os.environ.get("QKD_FAULTS", "1")))
MAX_REFUSED = 0.1


@pytest.mark.faults
def test_random_programs_survive_being_saved():
    refused = 0
    for seed in range(PROGRAMS):
        program = Program(seed)
        try:
            student = from_qasm(program.text)
        except QkdError:
            refused += 1
            continue
        check_program(program, student)
    assert refused <= MAX_REFUSED * PROGRAMS
