"""The service's own dry run: tried as far as it can be without IBM's service, through its unmodified client."""

import pytest

from qkd import QkdError
from qkd.core.errors import ServiceError
from qkd.hardware.run import run

from .conftest import QUICK
from .test_service import YES, order


@pytest.fixture
def mock(service):
    """A service that has a mock of its device, as the client looks for it."""
    service.fakes["mock_manila"] = service.fakes["ibm_manila"]
    return service


@pytest.mark.parametrize("mitigation", ["readout", "pea"])
def test_the_first_job_goes_to_the_mock_and_none_to_the_device(mock, folder, capsys, mitigation):
    asked = order(folder, mitigation=mitigation, max_qpu_seconds=600, mode="batch")
    [outcome] = run(asked, YES, dry_run=True, patience=QUICK, ask_service=True)
    [job] = mock.jobs
    assert job.backend == "mock_manila" and outcome.records == [] and not outcome.plan.folder.exists()
    assert job.program == ("noise-learner" if mitigation == "pea" else "executor")
    assert "dry run takes the first job" in capsys.readouterr().err
    if mitigation == "readout":  # it is the job that would be sent
        run(asked, YES, patience=QUICK)
        real = mock.jobs[1]
        assert real.backend == "ibm_manila"
        programs = [mock.program(one) for one in mock.jobs]
        assert [one.shots for one in programs] == [programs[0].shots] * 2
        assert [one.size() for one in programs[0].items] == [one.size() for one in programs[1].items]


def test_the_dry_run_is_never_taken_for_a_job_of_the_plan(mock, folder):
    run(order(folder), YES, dry_run=True, patience=QUICK, ask_service=True)
    [outcome] = run(order(folder), YES, patience=QUICK)
    assert [job.backend for job in mock.jobs] == ["mock_manila", "ibm_manila"]
    assert outcome.records[0].id == mock.jobs[1].id and outcome.records[0].duplicates == []


def test_what_the_service_does_not_take_is_told(mock, folder, capsys, monkeypatch):
    real = mock.facts
    failed = {"status": "Failed", "reason": "too many parameters"}
    monkeypatch.setattr(mock, "facts", lambda job: real(job) | {"state": failed, "estimated_running_time_seconds": 3})
    run(order(folder), YES, dry_run=True, patience=QUICK, ask_service=True)
    assert "does not take the first job: too many parameters" in capsys.readouterr().err


def test_without_a_mock_that_is_said_and_nothing_is_sent(service, folder):
    with pytest.raises(ServiceError, match="sees no mock of ibm_manila"):
        run(order(folder), YES, dry_run=True, patience=QUICK, ask_service=True)
    assert service.jobs == []


def test_a_dry_run_that_does_not_end_is_left(mock, folder, capsys):
    mock.hold = True
    run(order(folder), YES, dry_run=True, patience=QUICK, ask_service=True)
    assert "is still queued" in capsys.readouterr().err


def test_without_an_account_the_service_is_not_asked(folder, monkeypatch, tmp_path):
    monkeypatch.delenv("QISKIT_IBM_TOKEN", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(QkdError, match="no IBM Quantum account"):
        run(order(folder, device="ibm_fez"), YES, dry_run=True, patience=QUICK, ask_service=True)
