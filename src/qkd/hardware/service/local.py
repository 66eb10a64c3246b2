"""Services that compute a job when it is fetched: a device's snapshot, and any Qiskit ``BackendV2`` of the user."""

from __future__ import annotations

import zlib

import numpy as np
from qiskit.providers import BackendV2

from qkd.core.console import Progress
from qkd.core.errors import DeviceError, QkdError
from qkd.devices.region import to_region
from qkd.hardware.mitigation.client import make_backend_pub
from qkd.hardware.plan import Plan
from qkd.hardware.service import sampled, simulated
from qkd.hardware.service.base import JobState, Service


class LocalService(Service):
    """A plan's jobs on its snapshot."""

    def __init__(self, plan: Plan, bar: Progress, seed: int = 0) -> None:
        self.plan, self._bar, self._seed = plan, bar, seed

    def submit(self, job: int, tag: str, layers: dict[str, np.ndarray] | None) -> str:
        """Return the job's id."""
        return f"local-{tag}"

    def state(self, id_: str) -> tuple[JobState, str | None]:
        """Return ``done``: the job can be fetched."""
        return "done", None

    def result(self, job: int, id_: str) -> dict[str, np.ndarray]:
        """Compute a job's result, seeded by its number, its mitigation and ``seed``."""
        plan, (start, stop) = self.plan, self.plan.chunks[job]
        student, region = to_region(plan.terms.student, plan.snapshot)
        label = f"{job} {plan.mitigation}" + (f" {self._seed}" if self._seed else "")
        seed = zlib.crc32(label.encode()) % 2**30
        values = plan.values[start:stop]
        if not plan.request.client and sampled.supports(student, region, plan.mitigation):
            arrays = sampled.run(student, region, values, plan.mitigation, seed)
            self._bar.advance(len(values))
            return arrays
        if plan.snapshot.calibration.learned is not None:
            raise QkdError(
                f"{plan.snapshot.name} has learned errors, which IBM's client does not simulate, and qkd cannot draw "
                f"the shots of '{plan.mitigation.name}' on this circuit; use none, readout or affine"
            )
        return simulated.run(student, region, values, plan.mitigation, seed, self._bar)


class BackendService(LocalService):
    """A plan's jobs on a backend, which runs a job when it is fetched."""

    def __init__(self, plan: Plan, bar: Progress, backend: BackendV2) -> None:
        super().__init__(plan, bar)
        self._backend = backend

    def result(self, job: int, id_: str) -> dict[str, np.ndarray]:
        """Run a job and return its evs and stds (T,n)."""
        from qiskit.primitives import BackendEstimatorV2

        plan, (start, stop) = self.plan, self.plan.chunks[job]
        estimator = BackendEstimatorV2(backend=self._backend)
        try:
            pub = make_backend_pub(plan.terms.student, plan.values[start:stop])
            data = estimator.run([pub], precision=plan.mitigation.shots**-0.5).result()[0].data
        except Exception as error:  # providers raise errors of many types
            raise DeviceError(f"{plan.device} did not run job {job + 1} ({type(error).__name__}: {error})") from None
        self._bar.advance(stop - start)
        return {"evs": np.asarray(data.evs, dtype=float), "stds": np.asarray(data.stds, dtype=float)}
