"""What a time on the QPU buys, and whether what is forecast comes to pass."""

from dataclasses import replace

import numpy as np
import pytest

from qkd import QkdError
from qkd.core.console import _Silent
from qkd.core.runs import RunFolder
from qkd.hardware import adaptive, forecast
from qkd.hardware.gathered import gather
from qkd.hardware.ledger import JobRecord
from qkd.hardware.planner import Offer, best
from qkd.hardware.prepare import plan_of, prepared
from qkd.hardware.rehearsal import Rehearsal
from qkd.hardware.result import say_of
from qkd.hardware.run import run

from .test_service import YES, order

TIMES = 40


def planned(folder, name, shots, **options):
    wanted = order(folder, local=True, device="fake_brisbane", samples=None, shots=shots, **options)
    there = prepared(wanted, RunFolder(folder))
    return there, plan_of(there, wanted, RunFolder(folder), name)


def test_minutes_are_planned_into_mitigation_texts_and_shots(folder, capsys):
    plans = []
    for minutes in (0.1, 0.2, 5):
        [outcome] = run(
            order(folder, device="fake_brisbane", local=True, mitigation=None, shots=None, samples=None),
            plans.append,
            dry_run=True,
            minutes=minutes,
        )
        assert outcome.plan.budget.seconds <= 60 * minutes == outcome.plan.limit
    executions = [plan.budget.executions for plan in plans]
    assert executions == sorted(executions) and executions[0] < executions[-1]
    assert len(plans[-1].texts) == 48  # all of them
    assert "accuracy known to +-" in capsys.readouterr().err


def test_minutes_keep_the_mitigation_that_is_asked_for(folder):
    for name in ("readout", "pec"):
        wanted = order(folder, device="fake_fez", local=True, mitigation=name, shots=None, samples=None)
        [outcome] = run(wanted, YES, dry_run=True, minutes=60)
        assert outcome.plan.mitigation.name == name


def test_minutes_leave_nothing_to_choose_twice(folder):
    with pytest.raises(QkdError, match="leave out --samples"):
        run(order(folder, local=True, device="fake_fez"), YES, minutes=1)
    with pytest.raises(QkdError, match="hold not one text"):
        run(order(folder, local=True, device="fake_fez", shots=None, samples=None), YES, minutes=0.0001)


@pytest.mark.parametrize(("name", "shots"), [("none", "16"), ("readout", "16"), ("affine", "16"), ("zne", "48")])
def test_a_forecast_on_the_calibration_itself_comes_to_pass(folder, name, shots, monkeypatch, tmp_path):
    monkeypatch.setattr(forecast, "UNKNOWN", 0.0)
    there, plan = planned(folder, name, shots)
    expected = forecast.forecast(plan, there.student).flipped(int(shots))
    texts, points = len(plan.texts), len(plan.values) - len(plan.texts)
    values = np.vstack([np.tile(plan.values[:texts], (TIMES, 1)), plan.values[texts:]])
    plan = replace(
        plan, folder=tmp_path / "hw-1", texts=plan.texts * TIMES, values=values, chunks=((0, texts * TIMES + points),)
    )
    plan.folder.mkdir()
    record = JobRecord(
        0, file="job.safetensors", sha256=plan.write_arrays("job", **Rehearsal(plan, _Silent()).result(0, ""))
    )
    said, exact, _ = say_of(plan, there.student, gather(plan, [record]))
    model = there.student.model
    seen = (model.logits_of(said.evs).argmax(axis=1) != model.logits_of(exact[said.rows]).argmax(axis=1)).mean()
    assert 0.02 < seen < 0.5
    # the noise of an extrapolation does not fall with shots exactly as that of shots
    assert seen == pytest.approx(expected, rel=0.3 if name == "zne" else 0.1, abs=0.01)


def test_adaptive_rounds_are_forecast_as_the_estimate_counts_them(folder, monkeypatch):
    monkeypatch.setattr(forecast, "UNKNOWN", 0.0)
    there, plan = planned(folder, "none", "16")
    expected = forecast.forecast(plan, there.student)
    shares, flipped = expected.adaptive()
    weights = there.student.model.head.weight.detach().numpy()
    trial = adaptive.tried(there.evs, weights, there.student.model.logits_of(there.evs))
    assert shares == pytest.approx(np.array(trial.counts) / len(plan.texts), abs=0.12)
    assert expected.flipped(sum(adaptive.ROUNDS)) - 0.015 <= flipped <= expected.flipped(adaptive.ROUNDS[0]) + 0.01


def test_errors_that_no_shots_mend_make_mitigation_worth_its_price(folder, monkeypatch):
    def choice(seconds):
        plans = [planned(folder, name, str(forecast.SHOTS)) for name in ("none", "affine")]
        return best([Offer(plan, forecast.forecast(plan, there.student)) for there, plan in plans], seconds, 0.9)

    monkeypatch.setattr(forecast, "UNKNOWN", 30.0)
    monkeypatch.setattr(forecast, "LEFT", 0.0)
    assert choice(600).mitigation == "affine"
    little, much = choice(5), choice(3000)
    assert much.error < little.error and much.texts >= little.texts
