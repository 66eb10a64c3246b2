"""A mitigation method costs one module and one registry line."""

from qkd.hardware.mitigation import METHODS
from qkd.hardware.request import DeviceRunRequest
from qkd.hardware.run import run
from tests.hardware.conftest import folder, trained  # noqa: F401 - fixtures


def test_a_new_method_is_a_module_and_a_registry_line(folder, monkeypatch):  # noqa: F811
    monkeypatch.setitem(METHODS, "rescaled", "tests.extensions.rescaled:Rescaled")
    options = {"run": folder, "device": "fake_brisbane", "local": True, "samples": 30}
    request = DeviceRunRequest(**options, mitigation="none,rescaled", shots=4096, max_qpu_seconds=900)
    plain, rescaled = (device_run.result for device_run in run(request, lambda plan: True))
    assert (plain.mitigation.name, rescaled.mitigation.name) == ("none", "rescaled")
    assert rescaled.rms.value < plain.rms.value and rescaled.covered > 0.85
    automatic = DeviceRunRequest(**options, mitigation="rescaled", max_qpu_seconds=900)
    [planned] = run(automatic, lambda plan: True, dry_run=True)
    assert planned.plan.mitigation.gates_twirled and planned.plan.mitigation.shots >= 16
