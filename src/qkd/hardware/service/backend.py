"""The service of any other backend: a Qiskit ``BackendV2`` of the user, through ``BackendEstimatorV2``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qkd.core.console import Progress
from qkd.core.errors import DeviceError
from qkd.hardware.mitigation.client import make_backend_pub
from qkd.hardware.plan import Plan
from qkd.hardware.service.local import LocalService

if TYPE_CHECKING:
    from qiskit.providers import BackendV2


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
