"""A live device, reached through IBM's own client."""

from __future__ import annotations

import json
import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from qiskit.quantum_info import PauliLindbladMap

from qkd.core.errors import DeviceError, QkdError
from qkd.core.files import Row
from qkd.hardware.mitigation import Layers, layers_of, pub, raw
from qkd.hardware.patience import Trouble
from qkd.hardware.plan import Plan
from qkd.hardware.provider import NotSent, Sighting, Unusable
from qkd.hardware.transport import watched

if TYPE_CHECKING:
    from qiskit_ibm_runtime import IBMBackend, QiskitRuntimeService

STATES = {
    "COMPLETED": "done",
    "CANCELLED": "cancelled",
    "FAILED": "failed",
    "CANCELLED - RAN TOO LONG": "failed",
    "QUEUED": "queued",
    "RUNNING": "running",
}
RAN_TOO_LONG = 1305
"""The reason of a job that the service cancelled at its time limit, which the client counts as failed too."""
PAGE = 50
"""Jobs asked for at once."""


class Remote:
    """The device that a plan names.

    Args:
        plan: what is sent.
        service: the client.
        backend: the device; None where it is no longer to be had, so that results can still be fetched.

    Raises:
        QkdError: the account does not reach the plan's instance.
    """

    def __init__(self, plan: Plan, service: QiskitRuntimeService, backend: IBMBackend | None) -> None:
        self.plan, self.service, self._backend = plan, service, backend
        self._mode: Any = None
        self._api, self._sends = watched(service, plan.instance)

    @property
    def backend(self) -> IBMBackend:
        """The device.

        Raises:
            QkdError: it is gone.
        """
        if self._backend is None:
            raise DeviceError(
                f"{self.plan.device} is no longer among the devices of this account, so nothing more is sent there; "
                "what it has measured can be collected"
            )
        return self._backend

    def version(self) -> str | None:
        """Return the device's version X.Y.Z as it is now, or None where the service does not tell."""
        version = str(self.backend.status().backend_version)
        return None if version == "0.0.0" else version

    def outage(self) -> str | None:
        """Return why no job is run now, or None."""
        if self._backend is None:
            return "no longer among the devices of this account"
        status = self._backend.status()
        return None if status.operational else str(status.status_msg or "not operational")

    def sightings(self) -> list[Sighting]:
        """Return every job of the plan that the service lists, oldest first.

        Pages are asked for one by one until one is empty: the client's own loop ends only when as many jobs came as the
        service counted, which a list that lags behind its count never does.
        """
        seen: dict[str, Sighting] = {}
        asked = 0
        while True:
            answer = self._api.jobs_get(limit=PAGE, skip=asked, job_tags=[self.plan.mark], descending=False)
            for row in answer["jobs"]:
                for tag in map(str, row.get("tags") or []):
                    match = re.fullmatch(rf"{re.escape(self.plan.mark)}-(\d+)-\d+-\w+", tag)
                    if match:
                        state, _ = _state(row)
                        seen[row["id"]] = Sighting(row["id"], int(match[1]), state, str(row.get("created", "")), tag)
            asked += len(answer["jobs"])
            if not answer["jobs"] or asked >= answer.get("count", 0):
                return list(seen.values())

    def submit(self, job: int, tag: str, layers: dict[str, np.ndarray] | None) -> str:
        """Send a job and return its id.

        Args:
            job: its number in the plan.
            tag: by which it is found again, beside its plan's.
            layers: what the job that learns noise found, where there is one.

        Raises:
            NotSent: no job came of it.
        """
        self._sends.fate, self._sends.made = "unsent", None
        try:
            return self._submit(job, [self.plan.mark, tag], layers)
        except Exception as error:
            if self._sends.made is not None:
                return self._sends.made  # what failed was asked after the job was made
            if self._sends.fate in ("unsent", "refused"):
                raise NotSent(error) from error
            raise

    def _submit(self, job: int, tags: list[str], layers: dict[str, np.ndarray] | None) -> str:
        from qiskit_ibm_runtime.executor_estimator import Estimator

        plan = self.plan
        most = plan.most_seconds(job)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the quota, which the budget has told already
            estimator = Estimator(mode=self._run_in(), options=plan.mitigation.options(tags=tags, most_seconds=most))
            if job == len(plan.chunks):
                from qiskit_ibm_runtime.noise_learner_v3 import NoiseLearnerV3

                learner = NoiseLearnerV3(mode=self._run_in())
                learner.options.environment.job_tags = tags
                learner.options.max_execution_time = most
                return str(learner.run(layers_of(estimator, plan.student)).job_id())
            if layers is not None:
                known = _layers(layers_of(estimator, plan.student), layers)
                estimator.options = plan.mitigation.options(known, tags, most_seconds=most)
            start, stop = plan.chunks[job]
            return str(estimator.run([pub(plan.student, plan.values[start:stop])]).job_id())

    def state(self, id_: str) -> tuple[str, str | None]:
        """Return a job's state and, where it failed, why; ``gone`` where the service does not know it."""
        try:
            return _state(self._api.job_get(id_, exclude_params=True))
        except Exception as error:
            if Trouble.of(error).code == 404:
                return "gone", None
            raise

    def result(self, job: int, id_: str) -> dict[str, np.ndarray]:
        """Return what a finished job measured, raw: evs and stds (K,n), or the layers' noise.

        Raises:
            Unusable: it cannot be read.
        """
        try:
            return self._result(job, id_)
        except Exception as error:
            trouble = Trouble.of(error)
            if trouble.answered:
                raise Unusable(f"its result cannot be read ({type(error).__name__}: {trouble.words})") from None
            raise

    def _result(self, job: int, id_: str) -> dict[str, np.ndarray]:
        self.service._active_api_client = self._api  # noqa: SLF001 - the client may have gone on to another instance
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # fits of values near zero say that they have no covariance
            result = self.service.job(id_).result()
        if job == len(self.plan.chunks):
            maps = [
                {"qubits": layer.num_qubits, "terms": layer.to_sparse_list()}
                for layer in result.to_pauli_lindblad_maps()
            ]
            return {"layers": np.frombuffer(json.dumps(maps).encode(), dtype=np.uint8)}
        return raw(result[0].data)

    def seconds(self, id_: str) -> float | None:
        """Return the seconds of the QPU that a job was charged, where the service tells."""
        usage = self._api.job_metadata(id_).get("usage", {})
        used = None if usage.get("status", "pending") == "pending" else usage.get("qpu_charge_time_seconds")
        return float(used) if used else None

    def cancel(self, id_: str) -> None:
        """Ask for a job to be cancelled; one that has ended, or is gone, stays as it is."""
        try:
            self._api.job_cancel(id_)
        except Exception as error:
            if Trouble.of(error).code not in (404, 409):  # the client has a branch for 409: the job has ended
                raise

    def close(self) -> None:
        """Let no more jobs into the batch or session that was opened here."""
        if self._mode is not None:
            mode, self._mode = self._mode, None
            mode.close()

    def _run_in(self) -> Any:
        """Return what the client calls a mode: the device, or a batch or session on it."""
        if self.plan.mode == "job" or (self.plan.mode == "batch" and self.plan.jobs == 1):
            return self.backend
        if self._mode is None:
            from qiskit_ibm_runtime import Batch, Session

            self._mode = (Batch if self.plan.mode == "batch" else Session)(backend=self.backend)
        return self._mode


def _state(row: Row) -> tuple[str, str | None]:
    """Return a job's state and, where it failed, why, of what the service says of it."""
    answer = row.get("state") or {}
    word = str(answer.get("status") or row.get("status") or "").upper()
    code = answer.get("reasonCode") or answer.get("reason_code")
    state = STATES.get(word, "running")  # a word that is not known yet is no end
    if state == "cancelled" and code == RAN_TOO_LONG:
        state = "failed"
    reason = " ".join(str(answer.get("reason") or "no reason given").split())[:500]
    return state, reason if state == "failed" else None


def _layers(instructions: list[Any], learned: dict[str, np.ndarray]) -> Layers:
    """Return layers with the noise that was learned of them, in the same order."""
    maps = json.loads(bytes(learned["layers"]).decode())
    if len(maps) != len(instructions):
        raise QkdError(f"noise was learned of {len(maps)} layers, but the circuit has {len(instructions)}")
    noises = [
        PauliLindbladMap.from_sparse_list([(p, q, r) for p, q, r in layer["terms"]], num_qubits=layer["qubits"])
        for layer in maps
    ]
    return list(zip(instructions, noises, strict=True))
