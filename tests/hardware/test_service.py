"""Device runs against a service on 127.0.0.1, through IBM's unmodified client, with everything going wrong."""

import copy
import json
import random
import re
import shutil
import signal
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from qkd import QkdError
from qkd.core.errors import ServiceError
from qkd.devices import live
from qkd.hardware import budget
from qkd.hardware.index import list_jobs
from qkd.hardware.jobs import JobLoop
from qkd.hardware.ledger import Ledger
from qkd.hardware.plan import Plan
from qkd.hardware.request import DeviceRunRequest
from qkd.hardware.run import cancel, collect, run
from qkd.hardware.service.base import RetryPolicy
from qkd.hardware.service.ibm import IBMService
from tests.processes import start

from .clock import Clock
from .conftest import CLOCK, QUICK
from .loopback import TOKEN

YES = lambda plan: True  # noqa: E731


def order(folder, **more):
    return DeviceRunRequest(
        run=folder, **({"device": "ibm_manila", "mitigation": "none", "shots": "64", "samples": 6} | more)
    )


def small_jobs(monkeypatch, texts=2):
    """Let jobs hold few texts, so that there are several."""
    real = budget.split_into_jobs
    monkeypatch.setattr(
        budget, "split_into_jobs", lambda count, each, once: real(count, each, once, max_executions=once + texts * each)
    )


def tags(service):
    """Return the tags of the jobs that the service has not cancelled, without the tag of their plan."""
    return sorted(job.tags[1] for job in service.jobs if job.status != "Cancelled")


def once(service, outcome):
    """Assert that every job of a plan was sent once and saved, with the values that the service measured."""
    assert len(set(tags(service))) == len(tags(service)) == outcome.plan.jobs
    assert all(record.file for record in outcome.records)
    assert outcome.result.texts == len(outcome.plan.values)


def test_a_run_comes_back_with_errors_intervals_and_a_report(service, folder):
    [outcome] = run(order(folder, mitigation="readout", shots="4096", samples=12), YES, policy=QUICK)
    once(service, outcome)
    result = json.loads((outcome.plan.folder / "result.json").read_text())
    assert len(result["rows"]) == 12 and {row["label"] for row in result["rows"]} == set(result["classes"])
    evs, exact, noisy, stds = (
        np.array([row[key] for row in result["rows"]]) for key in ("evs", "exact", "noisy", "stds")
    )
    rms, predicted = (np.sqrt(((values - exact) ** 2).mean()) for values in (evs, noisy))
    assert result["rms"]["value"] == pytest.approx(rms) and result["rms_noisy"] == pytest.approx(predicted)
    assert rms < predicted  # the error of the device without mitigation
    assert (stds > 0).all() and result["rms"]["low"] <= rms <= result["rms"]["high"]
    for row in result["rows"]:
        assert row["unclear"] == (row["margin"] < 1.96 * row["margin_error"])
    assert {"accuracy", "like_exact", "like_teacher"} == set(result["lines"]["measured"])
    page = (folder / "report.html").read_text()
    assert "Device runs" in page and "ibm_manila" in page and "readout" in page
    plan = json.loads((outcome.plan.folder / "plan.json").read_text())
    assert plan["version"] and plan["circuit_sha256"] and len(plan["qubits"]) == 4 and len(plan["observables"]) == 4


def test_a_rehearsal_and_a_device_take_the_same_way(service, folder):
    spec = {"shots": "8192", "samples": 8, "randomizations": 16, "max_qpu_seconds": 500}
    for mitigation in ("none", "zne"):
        [there] = run(order(folder, mitigation=mitigation, **spec), YES, policy=QUICK)
        [here] = run(order(folder, mitigation=mitigation, local=True, **spec), YES, policy=QUICK)
        evs = [np.array([row.evs for row in one.result.rows]) for one in (there, here)]
        stds = [np.array([row.stds for row in one.result.rows], dtype=float) for one in (there, here)]
        assert there.plan.student.circuit.count_ops() == here.plan.student.circuit.count_ops()
        assert np.nanmedian(np.abs(evs[0] - evs[1]) / np.hypot(*stds)) < 1.5
        assert here.plan.budget == replace(there.plan.budget, remaining=None)


def test_detached_jobs_are_collected_later(service, folder, monkeypatch):
    small_jobs(monkeypatch)
    service.hold = True
    [outcome] = run(order(folder), YES, detach=True, policy=QUICK)
    assert len(service.jobs) == 3 and all(record.open for record in outcome.records)
    [still] = collect(folder, wait=False, policy=QUICK)
    assert all(record.open for record in still.records)
    service.hold = False
    [done] = collect(folder, policy=QUICK)
    once(service, done)
    assert collect(folder, policy=QUICK) == []
    assert [row["state"] for row in list_jobs(folder)[0]] == ["saved"] * 3


def test_no_more_than_three_jobs_wait_at_once(service, folder, monkeypatch):
    small_jobs(monkeypatch, 1)
    service.hold = True
    run(order(folder, samples=5), YES, detach=True, policy=QUICK)
    assert len(service.jobs) == 3
    service.hold = False
    [done] = collect(folder, policy=QUICK)
    once(service, done)


def test_batch_mode_opens_one_batch_and_closes_it(service, folder, monkeypatch):
    small_jobs(monkeypatch)
    [outcome] = run(order(folder, mode="batch"), YES, policy=QUICK)
    once(service, outcome)
    asked = [request for request in service.requests if "/sessions" in request[1]]
    assert [method for method, _ in asked] == ["POST", "PATCH"]


@pytest.mark.parametrize("mitigation", ["pea", "pec"])
def test_noise_is_learned_in_a_job_before_the_others(service, folder, mitigation):
    spec = {"mitigation": mitigation, "shots": "8192", "max_qpu_seconds": 1e6, "randomizations": 64, "samples": 4}
    service.remaining = 1e6
    service.hold = True
    [sent] = run(order(folder, **spec), YES, detach=True, policy=QUICK)
    assert [job.program for job in service.jobs] == ["noise-learner"]
    assert sent.plan.budget.stages[0].name.startswith("learning 2 layers")
    service.hold = False
    [outcome] = collect(folder, policy=QUICK)
    assert [job.program for job in service.jobs] == ["noise-learner", "executor"]
    once(service, outcome)
    assert outcome.result.rms.value < outcome.result.rms_noisy


def test_session_mode_opens_a_session(service, folder):
    [outcome] = run(order(folder, mode="session"), YES, policy=QUICK)
    once(service, outcome)
    assert ("POST", "/experimental/sessions") in service.requests


def test_a_service_that_is_not_there_is_told(service, folder):
    [sent] = run(order(folder), YES, detach=True, policy=QUICK)
    service.server.shutdown()
    service.server.server_close()
    with pytest.raises(QkdError, match=r"cannot be reached|did not"):
        collect(folder, sent.plan.name, policy=QUICK)
    assert list_jobs(folder)[0][0]["id"] == service.jobs[0].id


def test_nothing_is_sent_after_a_dry_run_a_refusal_or_above_the_limit(service, folder):
    seen = []
    run(order(folder), lambda plan: seen.append(plan) or True, dry_run=True, policy=QUICK)
    run(order(folder), lambda plan: False, policy=QUICK)
    assert seen[0].budget.remaining == 600
    one = seen[0].budget.seconds
    with pytest.raises(QkdError, match=r"above max_qpu_seconds 0"):
        run(order(folder, max_qpu_seconds=0), YES, policy=QUICK)
    with pytest.raises(QkdError, match=r"above max_qpu_seconds"):  # each of the five would fit, not their sum
        run(order(folder, mitigation="all", max_qpu_seconds=3 * one), YES, policy=QUICK)
    with pytest.raises(QkdError, match=r"above max_qpu_seconds"):
        run(order(folder, max_qpu_seconds=1), YES, policy=QUICK)
    service.remaining = 1
    with pytest.raises(QkdError, match=r"the account has 1 s left"):
        run(order(folder), YES, policy=QUICK)
    assert service.jobs == []


FAULTS = {
    "refused connection": ("reset", {}),
    "too many requests": (429, {"Retry-After": "7"}),
    **{str(code): (code, {}) for code in (500, 503)},
    "cut": ("cut", {}),
}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("where", ["submission", "result"])
def test_a_fault_costs_nothing(service, folder, where, kind, after):
    what, headers = FAULTS[kind]
    waited = []
    policy = replace(QUICK, sleep=lambda seconds: waited.append(seconds) or CLOCK.sleep(seconds))
    method, path = ("POST", "/jobs$") if where == "submission" else ("GET", "/results$")
    service.fault(method, path, what, after=after, headers=headers, times=2)
    [outcome] = run(order(folder), YES, policy=policy)
    once(service, outcome)
    assert what != 429 or 7 in waited  # as long as the service asked for


def test_twenty_seconds_of_silence_are_waited_out(service, folder):
    service.fault("POST", "/jobs$", "silence", seconds=20)
    [outcome] = run(order(folder), YES, policy=QUICK)
    once(service, outcome)


def test_a_service_that_stays_away_is_left_and_found_again(service, folder):
    service.fault("POST", "/jobs$", 503, times=100)
    with pytest.raises(QkdError, match=r"was not submitted.*qkd jobs collect"):
        run(order(folder), YES, policy=QUICK)
    service.faults.clear()
    [outcome] = collect(folder, policy=QUICK)
    once(service, outcome)


def test_an_expired_token_is_told_and_nothing_is_lost(service, folder):
    service.hold = True
    run(order(folder), YES, detach=True, policy=QUICK)
    service.hold, service.refused = False, True
    with pytest.raises(QkdError, match=r"(?i)expired|cannot be reached|did not list|no longer"):
        collect(folder, policy=QUICK)
    service.refused = False
    [outcome] = collect(folder, policy=QUICK)
    once(service, outcome)


def test_maintenance_ends_the_wait_and_not_the_job(service, folder):
    service.operational, service.message = False, "maintenance"
    with pytest.raises(QkdError, match=r"ibm_manila is maintenance; its jobs stay in the queue"):
        run(order(folder), YES, policy=QUICK)
    service.operational, service.message = True, "active"
    [outcome] = collect(folder, policy=QUICK)
    once(service, outcome)


def test_a_device_that_was_retired_meanwhile_still_gives_its_results(service, folder):
    service.hold = True
    run(order(folder), YES, detach=True, policy=QUICK)
    for job in service.jobs:
        job.body, job.status = service.measure(job), "Completed"
    service.fakes.clear()
    [outcome] = collect(folder, policy=QUICK)
    once(service, outcome)


def test_a_cancelled_and_a_failed_job_leave_the_four_others_and_can_be_sent_again(service, folder, monkeypatch):
    small_jobs(monkeypatch, 1)
    service.hold = True
    policy = replace(QUICK, max_pending=5)
    run(order(folder, samples=6), YES, detach=True, policy=replace(QUICK, max_pending=6))
    service.jobs[1].status = "Cancelled"
    service.jobs[3].status, service.jobs[3].reason = "Failed", "the fridge is warm"
    service.hold = False
    [outcome] = collect(folder, policy=policy)
    assert outcome.result.texts == 4 and outcome.result.asked == 6
    assert outcome.result.lost[0].to_dict() == {"job": 1, "reason": "cancelled"}
    assert "the fridge is warm" in outcome.result.lost[1].reason
    [again] = collect(folder, outcome.plan.name, resubmit=True, policy=policy)
    assert again.result.texts == 6 and len(service.jobs) == 8


def test_a_device_that_changes_before_submission_is_compiled_for_anew(service, folder):
    def change(plan):
        service.version = "1.99.0"
        return True

    [outcome] = run(order(folder), change, policy=QUICK)
    once(service, outcome)
    assert outcome.plan.version == "1.99.0" and outcome.plan.name == "hw-2"


def test_a_plan_compiled_anew_is_estimated_checked_and_asked_for_again(service, folder):
    seen = []

    def change(plan):
        seen.append(plan.version)
        service.version = "1.99.0"
        service.remaining = 1
        return True

    with pytest.raises(QkdError, match=r"the account has 1 s left"):
        run(order(folder), change, policy=QUICK)
    service.version, service.remaining = None, 600
    seen.clear()

    def refuse(plan):
        seen.append(plan.version)
        service.version = "1.99.0"
        return len(seen) == 1

    [outcome] = run(order(folder), refuse, policy=QUICK)
    assert seen[1] == "1.99.0" and len(seen) == 2 and outcome.records == [] and service.jobs == []
    service.version = None
    assert collect(folder, policy=QUICK) == []  # plans that were never sent are not continued


def test_the_same_request_pays_nothing_again_where_a_kill_prevented_the_result(service, folder):
    [outcome] = run(order(folder), YES, policy=QUICK)
    whole = (outcome.plan.folder / "result.json").read_bytes()
    (outcome.plan.folder / "result.json").unlink()
    [again] = run(order(folder), YES, policy=QUICK)
    assert again.plan.name == outcome.plan.name and len(service.jobs) == outcome.plan.jobs
    assert (outcome.plan.folder / "result.json").read_bytes() == whole
    [other] = run(order(folder), YES, policy=QUICK)
    assert other.plan.name != outcome.plan.name  # a finished run is measured again when it is asked for again


def test_a_device_that_changes_between_jobs_gets_no_more_of_them(service, folder, monkeypatch):
    small_jobs(monkeypatch, 1)
    service.hold = True
    run(order(folder), YES, detach=True, policy=QUICK)
    service.version, service.hold = "1.99.0", False
    with pytest.raises(QkdError, match=r"changed from version .* to 1.99.0"):
        collect(folder, policy=QUICK)
    assert [row["state"] for row in list_jobs(folder)[0]].count("saved") == 3


def test_a_full_disk_while_saving_is_made_up_for_by_the_next_command(service, folder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Plan, "write_arrays", _full)
        with pytest.raises(QkdError, match=r"the disk is full"):
            run(order(folder), YES, policy=QUICK)
    [outcome] = collect(folder, policy=QUICK)
    once(service, outcome)


def _full(plan, name, **arrays):
    raise QkdError(f"{name}: the disk is full; free some space and run the same command again")


def test_cancelling_cancels_at_the_service(service, folder):
    service.hold = True
    [outcome] = run(order(folder), YES, detach=True, policy=QUICK)
    assert cancel(folder, outcome.plan.name, QUICK) == {service.jobs[0].id: "cancelled"}
    assert service.jobs[0].status == "Cancelled"
    assert list_jobs(folder)[0][0]["state"] == "cancelled"


def test_a_result_that_was_changed_is_refused(service, folder):
    [outcome] = run(order(folder), YES, policy=QUICK)
    path = outcome.plan.folder / "job-0.safetensors"
    path.write_bytes(path.read_bytes()[:-3] + b"abc")
    with pytest.raises(QkdError, match=r"is damaged"):
        collect(folder, outcome.plan.name, policy=QUICK)


def test_the_token_is_in_no_file_and_no_message(service, folder, capfd):
    service.fault("POST", "/jobs$", 503, times=100)
    with pytest.raises(QkdError) as told:
        run(order(folder), YES, policy=QUICK)
    service.faults.clear()
    collect(folder, policy=QUICK)
    service.fault("GET", "/backends$", f"{400}", times=100)
    with pytest.raises(QkdError) as second:
        run(order(folder), YES, policy=QUICK)
    said = capfd.readouterr()
    assert TOKEN not in str(told.value) + str(second.value) + said.out + said.err
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        assert TOKEN.encode() not in path.read_bytes()


KILLS = {
    "before submission": ("GET", "/backends/ibm_manila/status$", "planned", False),
    "during submission, unheard": ("POST", "/jobs$", "intent", False),
    "during submission, heard": ("POST", "/jobs$", "intent", True),
    "while waiting": ("GET", "/jobs/[0-9a-f]+$", "submitted", True),
}


@pytest.mark.parametrize("moment", KILLS)
def test_a_killed_run_is_gone_on_with(service, folder, moment, monkeypatch):
    method, path, event, after = KILLS[moment]
    service.hold = moment == "while waiting"
    ledger, real, started = folder / "hardware" / "ledger.jsonl", service.answer, threading.Event()

    def deadly(asked, where, query, body):
        """Answer, and kill who asks for this once its ledger has the event, before or after the work is done."""
        matches = asked == method and re.search(path, where) and ledger.is_file()
        due = matches and f'"{event}"' in ledger.read_text()
        value = None if due and not after else real(asked, where, query, body)
        if due:
            started.wait()
            process.kill()
        return value or (503, {})

    command = ["run-hardware", "--run", str(folder), "--device", "ibm_manila", "--mitigation", "none", "--shots", "64"]
    with monkeypatch.context() as patch:
        patch.setattr(service, "answer", deadly)
        process = start([*command, "--samples", "4", "--yes"])
        started.set()
        process.join()
    assert process.exitcode == -signal.SIGKILL
    service.hold = False
    clock = Clock(time.time())  # continues from the files of the killed process, without waiting
    [outcome] = collect(folder, policy=replace(QUICK, sleep=clock.sleep, now=clock.now))
    once(service, outcome)


class Killed(BaseException):
    """The process ends here."""


class Mortal:
    """A provider that dies at its n-th call, before or after the call does its work."""

    def __init__(self, provider, random_):
        self.inner, self.plan, self.left = provider, provider.plan, random_.randint(1, 12)
        self.after = random_.random() < 0.5

    def __getattr__(self, name):
        real = getattr(self.inner, name)

        def call(*arguments):
            self.left -= 1
            if self.left == 0 and not self.after:
                raise Killed
            value = real(*arguments)
            if self.left == 0:
                raise Killed
            return value

        return call


@pytest.mark.no_cover
def test_sequences_of_faults_double_nothing_and_lose_nothing(service, folder, monkeypatch):
    small_jobs(monkeypatch)
    [outcome] = run(order(folder, samples=4, shots="16"), YES, dry_run=True, policy=QUICK)
    client = live.service()
    backend = live.backend("ibm_manila", client)
    ledger = Ledger(folder / "hardware" / "ledger.jsonl", CLOCK.now)
    kinds = ["reset", "cut", 429, 500, 502, 503, 504]
    paths = [
        ("POST", "/jobs$"),
        ("GET", "/jobs$"),
        ("GET", "/jobs/[0-9a-f]+$"),
        ("GET", "/results$"),
        ("GET", "/status$"),
    ]
    deaths = troubles = 0
    for seed in range(6):
        dice = random.Random(seed)
        service.jobs.clear()
        facts = {"folder": folder / "hardware" / f"hw-{seed + 1}", "key": f"seed{seed}"}
        plan = outcome.plan.model_copy(update=facts)
        plan.folder.mkdir(parents=True, exist_ok=True)
        ledger.append(plan.name, "planned")
        for _ in range(dice.randint(1, 6)):
            method, path = dice.choice(paths)
            service.fault(method, path, dice.choice(kinds), times=dice.randint(1, 5), after=dice.random() < 0.5)
        for _ in range(40):
            provider = IBMService(plan, client, backend)
            try:
                mortal = Mortal(provider, dice) if dice.random() < 0.7 else provider
                records = JobLoop(mortal, ledger, QUICK).run()
                if all(record.file for record in records):
                    break
            except Killed:
                deaths += 1
            except QkdError:
                troubles += 1
        assert [record.file is not None for record in records] == [True, True], seed
        assert sorted(tag.split("-")[2] for tag in tags(service)) == ["0", "1"], seed
        for record in records:
            assert plan.read_arrays(record.file, record.sha256)["evs"].shape == (4, 2)
        service.faults.clear()
        shutil.rmtree(plan.folder)
    assert deaths > 1 and troubles > 0  # the sequences were not harmless


def test_a_retired_device_is_told_with_the_command_that_rehearses(folder):
    for device in ("ibm_brisbane", "ibm_kyiv"):
        with pytest.raises(QkdError, match=rf"{device} is retired.*--device fake_{device[4:]} --local"):
            run(order(folder, device=device), YES)


def test_without_an_account_a_live_device_is_refused_with_what_to_do(folder, monkeypatch, tmp_path):
    monkeypatch.delenv("QISKIT_IBM_TOKEN", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    if live.has_account():
        pytest.skip("an account is saved here")
    with pytest.raises(QkdError, match=r"no IBM Quantum account.*save_account"):
        run(order(folder, device="ibm_fez"), YES)


def test_patience_waits_longer_each_time_up_to_its_longest():
    waits = RetryPolicy(first_wait=2, max_wait=5).waits()
    assert [next(waits) for _ in range(4)] == [2, 3, 4.5, 5]


@pytest.mark.parametrize("mitigation", ["none", "readout", "zne"])
def test_the_estimate_is_near_the_bill_of_a_device_that_waits_long_between_shots(
    service, folder, mitigation, monkeypatch
):
    fake = service.fakes["ibm_manila"]
    monkeypatch.setattr(fake, "_load_json", _slow(fake._load_json))
    [outcome] = run(order(folder, mitigation=mitigation, shots="512", max_qpu_seconds=60), YES, policy=QUICK)
    charged = sum(service.charge(job) for job in service.jobs)
    assert charged > 10
    assert outcome.plan.budget.seconds == pytest.approx(charged, rel=0.2)
    assert service.jobs[0].cost == 60  # the service stops it there


def _slow(load):
    """Return a reader of a device's files that says it waits 4 ms after every shot, as ibm_miami does."""
    return lambda name: load(name) | ({"default_rep_delay": 4000.0} if "conf" in name else {})


def test_the_next_estimate_has_learned_from_the_bills(service, folder):
    service.overhead = 40.0  # this service starts slowly
    [first] = run(order(folder), YES, policy=QUICK)
    [second] = run(order(folder, max_qpu_seconds=600), YES, policy=QUICK)
    charged = service.charge(service.jobs[-1])
    assert first.plan.budget.correction == 1 < second.plan.budget.correction
    assert abs(second.plan.budget.seconds - charged) < abs(first.plan.budget.seconds - charged)


def test_fractional_gates_go_to_a_device_and_come_back(service, folder, monkeypatch, tmp_path):
    fake = service.fakes["ibm_manila"]
    monkeypatch.setattr(fake, "_load_json", _with_free_angles(fake._load_json))
    monkeypatch.setenv("QKD_TRANSPILE_PROFILES", str(tmp_path))
    told = 'inherits = "default"\nbasis = "fractional"\ndynamical_decoupling = "none"\n'
    (tmp_path / "free-angles.toml").write_text(told)
    spec = {"mitigation": "affine", "shots": "256", "max_qpu_seconds": 60}
    [there] = run(order(folder, profile="free-angles", **spec), YES, policy=QUICK)
    [native] = run(order(folder, profile="default", **spec), YES, dry_run=True, policy=QUICK)
    assert len(service.jobs) == 1 and there.result.texts == 6
    counts = there.plan.student.circuit.count_ops()
    sent = service.program(service.jobs[0]).items[0].circuit
    assert counts["rx"] and "rx" in sent.count_ops() and "rx" not in native.plan.student.circuit.count_ops()
    assert counts.get("sx", 0) < native.plan.student.circuit.count_ops()["sx"]
    assert native.plan.mitigation.gates_twirled and not there.plan.mitigation.gates_twirled
    assert there.plan.budget.seconds == pytest.approx(service.charge(service.jobs[0]), rel=0.2)
    assert Plan.load(there.plan.folder).student.circuit.count_ops() == counts
    rows = there.result.rows
    off = [np.abs(np.array(row.evs) - row.exact) / np.array(row.stds) for row in rows]
    assert np.median(off) < 1.5 and np.max(off) < 6


def _with_free_angles(load):
    """Return a reader of a device's files with rx and rzz, calibrated like sx and cx, as Heron devices have them."""

    def read(name):
        told = load(name)
        gates = copy.deepcopy(told["gates"])  # the client changes what it reads
        like = {"sx": "rx", "cx": "rzz"}
        if "conf" in name:
            more = [gate | {"name": like[gate["name"]], "parameters": ["t"]} for gate in gates if gate["name"] in like]
            lists = {
                key: told[key] + ["rx", "rzz"] for key in ("basis_gates", "supported_instructions") if told.get(key)
            }
            return told | lists | {"gates": told["gates"] + more}
        more = [
            gate | {"gate": like[gate["gate"]], "name": like[gate["gate"]] + "_".join(map(str, gate["qubits"]))}
            for gate in gates
            if gate["gate"] in like
        ]
        return told | {"gates": told["gates"] + more}

    return read


@pytest.mark.parametrize("path", ["/backends", "/usage", "/configuration"])
def test_no_part_of_a_command_waits_as_long_as_the_service_asks(folder, service, monkeypatch, path):
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"waits {seconds} s") if seconds > 300 else None)
    service.fault("GET", path, 503, times=9, headers={"Retry-After": "86400"})
    with pytest.raises(ServiceError, match=r"asks to wait 21,600 s, and qkd waits 300 s at most"):
        run(order(folder), YES, policy=QUICK)
    service.faults.clear()
    [outcome] = run(order(folder), YES, policy=QUICK)
    assert outcome.result.texts == 6


def test_a_wait_that_makes_no_sense_is_not_waited(folder, service):
    service.fault("GET", "/backends", 503, headers={"Retry-After": "soon"})
    assert live.names(live.service()) == ["ibm_manila"]
