"""A live device, reached through IBM's own client."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from qiskit.quantum_info import PauliLindbladMap

from qkd.devices import live
from qkd.errors import QkdError
from qkd.hardware.mitigation import Layers, layers_of, pub, raw
from qkd.hardware.plan import Plan

if TYPE_CHECKING:
    from qiskit_ibm_runtime import IBMBackend, QiskitRuntimeService

STATES = {"DONE": "done", "CANCELLED": "cancelled", "ERROR": "failed", "QUEUED": "queued", "RUNNING": "running"}


class Remote:
    """The device that a plan names.

    Args:
        plan: what is sent.
        service: the client.
        backend: the device; None where it is no longer to be had, so that results can still be fetched.
    """

    def __init__(self, plan: Plan, service: QiskitRuntimeService, backend: IBMBackend | None) -> None:
        self.plan, self.service, self._backend = plan, service, backend
        self._mode: Any = None
        live.without_retries(service)

    @property
    def backend(self) -> IBMBackend:
        """The device.

        Raises:
            QkdError: it is gone.
        """
        if self._backend is None:
            raise QkdError(
                f"{self.plan.device} is no longer among the devices of this account, so nothing more is sent there; "
                "what it has measured can be collected"
            )
        return self._backend

    def version(self) -> str | None:
        """Return the device's version X.Y.Z as it is now, or None where the service does not tell."""
        told = str(self.backend.status().backend_version)
        return None if told == "0.0.0" else told

    def outage(self) -> str | None:
        """Return why no job is run now, or None."""
        if self._backend is None:
            return "no longer among the devices of this account"
        status = self._backend.status()
        return None if status.operational else str(status.status_msg or "not operational")

    def find(self, tag: str) -> list[str]:
        """Return the ids of the jobs with a tag, oldest first."""
        return [job.job_id() for job in self.service.jobs(limit=None, job_tags=[tag], descending=False)]

    def submit(self, job: int, tag: str, layers: dict[str, np.ndarray] | None) -> str:
        """Send a job and return its id.

        Args:
            job: its number in the plan.
            tag: by which it is found again.
            layers: what the job that learns noise found, where there is one.
        """
        from qiskit_ibm_runtime.executor_estimator import Estimator

        plan = self.plan
        most = plan.most_seconds(job)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the quota, which the budget has told already
            estimator = Estimator(mode=self._run_in(), options=plan.mitigation.options(tag=tag, most_seconds=most))
            if job == len(plan.chunks):
                from qiskit_ibm_runtime.noise_learner_v3 import NoiseLearnerV3

                learner = NoiseLearnerV3(mode=self._run_in())
                learner.options.environment.job_tags = [tag]
                learner.options.max_execution_time = most
                return str(learner.run(layers_of(estimator, plan.student)).job_id())
            if layers is not None:
                known = _layers(layers_of(estimator, plan.student), layers)
                estimator.options = plan.mitigation.options(known, tag, most_seconds=most)
            start, stop = plan.chunks[job]
            return str(estimator.run([pub(plan.student, plan.values[start:stop])]).job_id())

    def state(self, id_: str) -> tuple[str, str | None]:
        """Return a job's state (queued, running, done, cancelled or failed) and, where it failed, why."""
        job = self.service.job(id_)
        status = str(job.status())
        reason = None
        if status == "ERROR":
            reason = " ".join(str(job.error_message() or "no reason given").split())[:500]
        return STATES.get(status, status.lower()), reason

    def result(self, job: int, id_: str) -> dict[str, np.ndarray]:
        """Return what a finished job measured, raw: evs and stds (K,n), or the layers' noise."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # fits of values near zero say that they have no covariance
            result = self.service.job(id_).result()
        if job == len(self.plan.chunks):
            maps = [
                {"qubits": one.num_qubits, "terms": one.to_sparse_list()} for one in result.to_pauli_lindblad_maps()
            ]
            return {"layers": np.frombuffer(json.dumps(maps).encode(), dtype=np.uint8)}
        return raw(result[0].data)

    def seconds(self, id_: str) -> float | None:
        """Return the seconds of the QPU that a job was charged, where the service tells."""
        used = self.service.job(id_).usage()
        return float(used) if used else None

    def cancel(self, id_: str) -> None:
        """Cancel a job."""
        self.service.job(id_).cancel()

    def close(self) -> None:
        """Let no more jobs into the batch or session that was opened here."""
        if self._mode is not None:
            self._mode.close()
            self._mode = None

    def _run_in(self) -> Any:
        """Return what the client calls a mode: the device, or a batch or session on it."""
        if self.plan.mode == "job" or (self.plan.mode == "batch" and self.plan.jobs == 1):
            return self.backend
        if self._mode is None:
            from qiskit_ibm_runtime import Batch, Session

            self._mode = (Batch if self.plan.mode == "batch" else Session)(backend=self.backend)
        return self._mode


def _layers(found: list[Any], learned: dict[str, np.ndarray]) -> Layers:
    """Return layers with the noise that was learned of them, in the same order."""
    maps = json.loads(bytes(learned["layers"]).decode())
    if len(maps) != len(found):
        raise QkdError(f"noise was learned of {len(maps)} layers, but the circuit has {len(found)}")
    noises = [
        PauliLindbladMap.from_sparse_list([(p, q, r) for p, q, r in one["terms"]], num_qubits=one["qubits"])
        for one in maps
    ]
    return list(zip(found, noises, strict=True))
