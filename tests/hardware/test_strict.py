"""Device runs on a service that is as awkward as IBM's may be: each promise for itself, then seeded sequences."""

import json
import os
import re
import shlex
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
import requests
from typer.testing import CliRunner

from qkd import QkdError
from qkd.cli import app
from qkd.core.files import finite
from qkd.devices import live
from qkd.hardware import index
from qkd.hardware.index import list_all_jobs, list_jobs
from qkd.hardware.jobs import JobLoop
from qkd.hardware.ledger import Ledger
from qkd.hardware.plan import Plan
from qkd.hardware.result import interpret
from qkd.hardware.run import cancel as cancel_run
from qkd.hardware.run import collect, run
from qkd.hardware.service.base import RetryPolicy, ServiceFailure
from qkd.hardware.service.ibm import OnceAdapter
from qkd.student.bundle import Student

from .clock import Clock
from .conftest import QUICK
from .loopback import CRN
from .sequences import WRONG, Light, World, template
from .strict import OTHER
from .test_service import YES, order, small_jobs


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def world(clock, tmp_path):
    with World(template(), clock, tmp_path) as made:
        yield made


@pytest.fixture
def here(world, clock, tmp_path):
    """A plan of three jobs, as one process after another sees it."""

    class Here:
        folder, count, home = tmp_path / "hw", 3, "A"
        service = world.service

        def start(self, **awkward):
            self.service.reset(1, **({"length": 20} | awkward))
            (self.folder / "hw-1").mkdir(parents=True)
            self.ledger.append("hw-1", "planned", host="A", damaged=0)
            return self

        @property
        def ledger(self):
            return Ledger(self.folder / "ledger.jsonl", clock.now)

        def policy(self, **more):
            return RetryPolicy(**({"tries": 3, "sleep": clock.sleep, "now": clock.now} | more))

        def provider(self):
            chunks = tuple((2 * i, 2 * i + 2) for i in range(self.count))
            facts = {"folder": self.folder / "hw-1", "key": "k", "chunks": chunks, "instance": CRN}
            plan = world.plan.model_copy(update=facts)
            return Light(plan, world.client, world.backend)

        def drive(self, wait=True, resubmit=False, **more):
            return JobLoop(self.provider(), self.ledger, self.policy(**more), self.home).run(wait, resubmit)

        def cancel(self):
            return JobLoop(self.provider(), self.ledger, self.policy(), self.home).cancel()

        def ran(self):
            return sorted(job.number for job in self.service.jobs if job.cancelled is None)

    return Here()


def once(monkeypatch, service, method, ending, kind):
    """Let ``kind`` happen to the first request that fits."""
    left = [kind]

    def happens(asked, path):
        return left.pop() if left and asked == method and path.endswith(ending) else None

    monkeypatch.setattr(service, "happens", happens)


@pytest.mark.parametrize("lag", [0, 5, 30, 120])
@pytest.mark.parametrize(
    "kind", ["reset after", "timeout after", "cut", (504, "after", {}), (401, "after", {})], ids=str
)
def test_a_job_whose_submission_had_no_answer_is_waited_for_and_not_sent_again(here, monkeypatch, lag, kind):
    here.start(lag=lag, late=60)
    once(monkeypatch, here.service, "POST", "/jobs", kind)
    records = here.drive()
    assert all(record.file for record in records) and here.ran() == [0, 1, 2]


def test_a_submission_that_never_arrived_is_sent_anew_after_the_window(here, monkeypatch, clock):
    here.start()
    once(monkeypatch, here.service, "POST", "/jobs", "reset before")
    started = clock.now()
    assert all(record.file for record in here.drive(window=600)) and here.ran() == [0, 1, 2]
    sent = [job.sent for job in here.service.jobs if job.number == 0]
    assert sent[0] - started >= 600


def test_what_was_refused_or_never_left_is_sent_again_at_once(here, monkeypatch, clock):
    for kind in ("refused", (429, "before", {"Retry-After": "20"}), (503, "before", {})):
        here.folder = here.folder.with_name(f"hw{kind}".replace("/", ""))
        here.start()
        once(monkeypatch, here.service, "POST", "/jobs", kind)
        started = clock.now()
        here.drive()
        assert here.ran() == [0, 1, 2]
        soon = here.service.jobs[-1].sent - started < 120
        assert soon == (kind == "refused" or kind[0] == 429)  # after a 503 it is unknown whether a job exists


@pytest.mark.parametrize("harm", ["deleted", "damaged", "copied"])
def test_a_ledger_that_knows_too_little_sends_nothing_twice(here, harm):
    here.start(lag=120, length=900)
    here.drive(wait=False)
    assert here.ran() == [0, 1, 2]
    path = here.folder / "ledger.jsonl"
    if harm == "deleted":
        path.unlink()
    elif harm == "damaged":
        lines = path.read_bytes().split(b"\n")
        path.write_bytes(b"\n".join(line[: len(line) // 2] if b'"submitted"' in line else line for line in lines))
    else:
        path.write_bytes(path.read_bytes().split(b"\n")[0] + b"\n")  # as before the submission
        here.home = "B"
    assert all(record.file for record in here.drive()) and here.ran() == [0, 1, 2]


def test_two_machines_that_send_at_the_same_moment_keep_the_same_job(here, monkeypatch, clock):
    here.start(lag=60, length=900)
    copy = here.folder.with_name("copy")
    shutil.copytree(here.folder, copy)
    original = here.folder
    here.count = 1
    monkeypatch.setattr(Ledger, "suspected_since", lambda *_: float("-inf"))  # as after its window
    here.drive(wait=False)
    clock.sleep(1)
    here.service.machine, here.home, here.folder = "B", "B", copy
    here.drive(wait=False)
    assert len(here.service.jobs) == 2 and here.service.jobs[1].unseen
    clock.sleep(120)
    for folder in (copy, original):
        here.folder = folder
        assert [record.file is not None for record in here.drive()] == [True]
    assert here.ran() == [0]
    assert here.ledger.jobs("hw-1", 1)[0].id == here.service.jobs[0].id


def test_cancelled_is_said_only_of_what_the_service_cancelled(here, clock):
    here.start(length=900)
    here.drive(wait=False)
    done, running = here.service.jobs[0], here.service.jobs[1:]
    done.ends = clock.now()
    states = here.cancel()
    assert states == {done.id: "done"} | {job.id: "cancelled" for job in running}
    records = here.drive()
    assert records[0].file and [record.state for record in records[1:]] == ["cancelled"] * 2
    assert len(here.service.jobs) == 3  # cancelled jobs are not sent again


def test_cancelling_reaches_a_job_that_is_still_on_its_way(here, monkeypatch, clock):
    here.start(lag=120, late=60, length=9000)
    once(monkeypatch, here.service, "POST", "/jobs", (504, "after", {}))
    here.drive(wait=False)
    here.cancel()
    clock.sleep(5000)
    assert here.ran() == [] and here.service.submissions > 0
    resubmitted = here.drive(resubmit=True, wait=False)
    assert any(record.open for record in resubmitted)


@pytest.mark.parametrize("kind", ["empty", "cut", "nan", "fewer", "garbled"])
def test_a_poisoned_job_keeps_no_other_from_being_fetched_and_can_be_sent_again(here, kind):
    here.start()
    real = here.service.make
    here.service.make = lambda body, now, delay=0.0: _poison(real(body, now, delay), kind)
    records = here.drive()
    assert [record.state for record in records] == ["unusable", "saved", "saved"]
    again = here.drive()  # a second look costs nothing, and sends nothing
    assert again[0].state == "unusable" and len(here.service.jobs) == 3
    here.service.make = real
    assert all(record.file for record in here.drive(resubmit=True)) and len(here.service.jobs) == 4


def _poison(job, kind):
    if job.number == 0:
        job.result = kind
    return job


def test_a_job_that_is_gone_ends_and_leaves_the_others(here, clock):
    here.start(length=6000)
    here.drive(wait=False)
    here.service.jobs[1].gone = True
    records = here.drive()
    assert [record.state for record in records] == ["saved", "gone", "saved"]


def test_a_client_that_searched_another_instance_still_asks_its_own(here, world):
    here.start(length=600)
    here.drive(wait=False)
    with pytest.raises(Exception, match="not found"):  # the client looks everywhere, and stays where it looked last
        world.client._api_clients[OTHER] = world.other._active_api_client
        world.client.job("no-such-job")
    assert world.client.active_instance() == OTHER
    (here.folder / "ledger.jsonl").unlink()
    assert all(record.file for record in here.drive()) and here.ran() == [0, 1, 2]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3),
        ("0", 0),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("9" * 40, 999999999999),
        ("1e400", None),
        ("²", None),
    ],
)
def test_retry_after_is_read_where_it_makes_sense(header, seconds):
    assert ServiceFailure(True, 429, header, "", False).requested_wait(0.0) == seconds


def test_a_date_is_read_and_a_day_is_not_waited(here, monkeypatch):
    assert ServiceFailure(True, 429, "Thu, 01 Jan 1970 00:00:30 GMT", "", False).requested_wait(10.0) == 20
    here.start()
    once(monkeypatch, here.service, "POST", "/jobs", (429, "before", {"Retry-After": "86400"}))
    with pytest.raises(QkdError, match=r"asks to wait 86,400 s, and qkd waits 300 s at most.*jobs collect"):
        here.drive()
    assert all(record.file for record in here.drive()) and here.ran() == [0, 1, 2]


def test_only_answers_that_say_no_are_refusals():
    adapter, request = OnceAdapter(), requests.Request("POST", "http://127.0.0.1:9/jobs", data="{}").prepare()
    with pytest.raises(requests.ConnectionError):
        adapter.send(request, timeout=1)
    assert adapter.outcome == "unsent"


# a run, as a user has it, on the service at 127.0.0.1


def test_the_same_order_goes_on_with_the_plan_that_is_open(service, folder, monkeypatch):
    small_jobs(monkeypatch)
    service.hold = True
    [first] = run(order(folder), YES, detach=True, policy=QUICK)
    [second] = run(order(folder), YES, detach=True, policy=QUICK)
    assert second.plan.name == first.plan.name == "hw-1" and len(service.jobs) == 3
    [other] = run(order(folder, shots="128"), YES, detach=True, policy=QUICK)
    [anew] = run(order(folder), YES, detach=True, policy=QUICK, new_plan=True)
    assert (other.plan.name, anew.plan.name) == ("hw-2", "hw-3") and len(service.jobs) == 9
    service.hold = False
    assert len(collect(folder, policy=QUICK)) == 3
    [fresh] = run(order(folder), YES, policy=QUICK)
    assert fresh.plan.name == "hw-4"  # a plan that is finished is done again on request


def test_after_a_full_disk_the_way_leads_to_collecting(service, folder, monkeypatch):
    from qkd.core import files

    def full(path, row):
        if row["event"] == "submitted":
            raise files.NotWritten(path, OSError(28, "No space left on device"))
        real(path, row)

    with monkeypatch.context() as patch:
        real = files.append_line
        patch.setattr("qkd.hardware.ledger.append_line", full)
        with pytest.raises(QkdError, match=r"disk is full.*qkd jobs collect hw-1.*submits no job twice"):
            run(order(folder), YES, policy=QUICK)
    [outcome] = run(order(folder), YES, policy=QUICK)  # and the same command sends nothing twice either
    assert outcome.plan.name == "hw-1" and len(service.jobs) == 1


def test_another_instance_is_refused_with_both_names(service, folder, monkeypatch):
    service.instances[OTHER] = "other"
    service.hold = True
    [sent] = run(order(folder), YES, detach=True, policy=QUICK)
    assert sent.plan.instance == CRN
    monkeypatch.setenv("QISKIT_IBM_INSTANCE", OTHER)
    with pytest.raises(QkdError, match=r"under the instance 'test'.*set to 'other'.*QISKIT_IBM_INSTANCE"):
        collect(folder, policy=QUICK)
    monkeypatch.setenv("QISKIT_IBM_INSTANCE", CRN)
    service.hold = False
    [done] = collect(folder, policy=QUICK)
    assert done.records[0].file and len(service.jobs) == 1


def test_a_copied_folder_collects_what_the_other_one_sent(service, folder, tmp_path):
    service.hold = True
    run(order(folder), YES, detach=True, policy=QUICK)
    copy = tmp_path / "other" / "run"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns(".lock"))
    service.hold = False
    for where in (copy, folder):
        [done] = collect(where, policy=QUICK)
        assert done.records[0].file
    assert len(service.jobs) == 1


def test_a_damaged_plan_and_strange_folders_keep_no_other_plan_from_being_collected(service, folder, capsys):
    service.hold = True
    run(order(folder), YES, detach=True, policy=QUICK)
    for name, content in (("hw-2", "{"), ("hw-3", "[1]"), ("hw-1.bak", "{}"), ("hw-x", "")):
        (folder / "hardware" / name).mkdir()
        (folder / "hardware" / name / "plan.json").write_text(content)
    (folder / "hardware" / "ledger.jsonl").open("ab").write(
        b'{"plan": "hw-1", "event": "submitted", "job": 0}\n[]\n\xff\n'
    )
    service.hold = False
    [done] = collect(folder, policy=QUICK)
    assert done.records[0].file and len(service.jobs) == 1
    told = capsys.readouterr().err
    assert "hw-2" in told and "hw-3" in told
    assert list_jobs(folder)[1]  # the damaged lines are reported


def test_texts_without_finite_values_are_told_and_left_out(service, folder, monkeypatch):
    [outcome] = run(order(folder), YES, policy=QUICK)
    plan, record = outcome.plan, outcome.records[0]
    arrays = plan.read_arrays(record.file, record.sha256)
    for text, value in ((0, np.nan), (2, np.inf)):
        arrays["evs"][1, text] = value
    record.sha256 = plan.write_arrays("job-0", **arrays)
    result = finite(interpret(plan, Student.load(folder), [record]).to_dict())
    assert result["failed"] == [0, 2] and result["texts"] == 4 and len(result["rows"]) == 4
    json.dumps(result, allow_nan=False)
    arrays["evs"][:] = np.nan
    record.sha256 = plan.write_arrays("job-0", **arrays)
    nothing = interpret(plan, Student.load(folder), [record])
    assert nothing.texts == 0 and nothing.failed == tuple(range(6)) and not hasattr(nothing, "lines")


def test_every_job_of_every_run_is_listed_from_any_folder(service, folder, tmp_path, monkeypatch):
    service.hold = True
    [sent] = run(order(folder), YES, detach=True, policy=QUICK)
    other = tmp_path / "second"
    shutil.copytree(folder, other, ignore=shutil.ignore_patterns(".lock", "hardware"))
    run(order(other, local=True, device="fake_manila", samples=2), YES, policy=QUICK)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    rows = list_all_jobs()
    assert [(row["run"], row["open"]) for row in rows] == [(str(folder), True), (str(other), False)]
    assert rows[0]["id"] == sent.records[0].id
    index.index_path().unlink()  # lost; runs below runs/ or a given folder are still found
    assert not list_all_jobs()
    assert {row["id"] for row in list_all_jobs(tmp_path)} == {row["id"] for row in rows}
    index.index_path().unlink()
    (tmp_path / "elsewhere" / "runs").mkdir()
    shutil.move(folder, tmp_path / "elsewhere" / "runs" / "one")
    assert [row["id"] for row in list_all_jobs()] == [sent.records[0].id]
    service.hold = False
    assert cancel_run(tmp_path / "elsewhere" / "runs" / "one", "hw-1", QUICK)
    shutil.rmtree(tmp_path / "elsewhere" / "runs" / "one")
    assert [(row["id"], row["folder_gone"]) for row in list_all_jobs()] == [(sent.records[0].id, True)]


def test_ledgers_plans_and_texts_are_their_owners_alone(service, folder):
    [outcome] = run(order(folder), YES, policy=QUICK)
    names = ["plan.json", "texts.jsonl", "result.json"]
    for path in (
        *(outcome.plan.folder / name for name in names),
        folder / "hardware" / "ledger.jsonl",
        index.index_path(),
    ):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert Plan.load(outcome.plan.folder).instance == CRN


def test_a_dry_run_needs_no_account(folder, monkeypatch, tmp_path):
    monkeypatch.delenv("QISKIT_IBM_TOKEN", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    if live.has_account():
        pytest.skip("an account is saved here")
    [outcome] = run(order(folder, device="ibm_fez"), YES, dry_run=True)
    assert outcome.plan.budget.seconds > 0 and outcome.plan.budget.remaining is None
    assert not (folder / "hardware" / "hw-1").exists()


def test_links_in_a_run_folder_are_not_written_through(service, folder, tmp_path):
    [sent] = run(order(folder, samples=2), YES, policy=QUICK)
    ledger = folder / "hardware" / "ledger.jsonl"
    elsewhere = tmp_path / "elsewhere.jsonl"
    shutil.move(ledger, elsewhere)
    ledger.symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    with pytest.raises(QkdError, match="is a symbolic link"):
        run(order(folder, samples=3), YES, policy=QUICK)
    assert elsewhere.read_bytes() == before and len(service.jobs) == 1
    ledger.unlink()
    shutil.copy(elsewhere, ledger)
    shutil.move(sent.plan.folder, tmp_path / "hw")
    sent.plan.folder.symlink_to(tmp_path / "hw")
    with pytest.raises(QkdError, match="is a symbolic link"):
        collect(folder, sent.plan.name, policy=QUICK)


def test_a_page_that_a_killed_process_left_behind_is_written_again(service, folder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("qkd.hardware.run._write_report", lambda folder: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            run(order(folder, samples=2), YES, policy=QUICK)
    assert "ibm_manila" not in (folder / "report.html").read_text()
    assert collect(folder, policy=QUICK) == []
    assert "ibm_manila" in (folder / "report.html").read_text()


SEQUENCES = int(os.environ.get("QKD_SEQUENCES", "60"))


@pytest.mark.no_cover
def test_seeded_sequences_double_lose_lock_and_forget_nothing(world):
    total = {}
    for seed in range(SEQUENCES):
        told = world.sequence(seed)
        assert not any(told[word] for word in WRONG), (seed, dict(told))
        for word, count in told.items():
            total[word] = total.get(word, 0) + count
    # the sequences were not harmless
    for word in ("kills", "errors told", "folders copied", "ledgers deleted", "ledgers damaged", "cancelled"):
        assert total[word] >= SEQUENCES / 20, word
    assert total["jobs whose submission had no answer"] >= SEQUENCES / 20


PAGES = [
    Path(__file__).parents[2] / name
    for name in ("README.md", "docs/guides/hardware.md", "docs/tutorials/device_run.md")
]
COMMANDS = re.findall(
    r"^ {0,4}(?:\.venv/bin/)?qkd (run-hardware .*?) *(?:#.*)?$", "\n".join(map(Path.read_text, PAGES)), re.M
)


@pytest.mark.parametrize("command", COMMANDS)
def test_documented_commands_pass_their_own_default_limit(folder, command, monkeypatch, tmp_path):
    monkeypatch.delenv("QISKIT_IBM_TOKEN", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    done = CliRunner().invoke(app, [*shlex.split(command), "--dry-run", "--run", str(folder)], catch_exceptions=False)
    assert done.exit_code == 0 and "QPU seconds" in done.output
    assert "would refuse" not in done.output + done.stderr
