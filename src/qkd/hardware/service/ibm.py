"""The service of a real device: IBM Quantum, through IBM's own client, which sends every request once."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import numpy as np
from qiskit.quantum_info import PauliLindbladMap
from requests import ConnectionError as NoConnection
from requests import ConnectTimeout, PreparedRequest, Response
from requests.adapters import HTTPAdapter
from urllib3.exceptions import NewConnectionError

from qkd.core.errors import DeviceError, QkdError, ServiceError
from qkd.core.files import Row
from qkd.hardware.mitigation.client import make_pub, printed_warnings, read_result
from qkd.hardware.mitigation.learned import Layers, find_layers
from qkd.hardware.plan import Plan
from qkd.hardware.service.base import JobState, ListedJob, NotSubmitted, ServiceFailure, UnusableResult

if TYPE_CHECKING:
    from qiskit_ibm_runtime import IBMBackend, QiskitRuntimeService


Outcome = Literal["unsent", "refused", "created", "unknown"]
# Answers to a submission after which no job exists: the service read the request and refused it.
REFUSED = (400, 403, 404, 405, 409, 411, 413, 415, 422, 429)


class OnceAdapter(HTTPAdapter):
    """Sends every request once, and knows the outcome of the last submission.

    The client itself repeats a POST after 5xx, because the service is said to allow it
    (``api.session.PostForcelistRetry``). A user has seen six jobs from one submission (qiskit-ibm-runtime#1114). So
    this adapter repeats nothing, and qkd looks for a job before it submits one.

    Attributes:
        outcome: Outcome of the last submission: ``unsent`` (it never left), ``refused``, ``created`` or ``unknown``.
        job_id: Id of the created job, or None.
    """

    def __init__(self) -> None:
        super().__init__(max_retries=0)
        self.outcome: Outcome = "unsent"
        self.job_id: str | None = None

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        """Send a request and record the outcome of a submission."""
        path = urlsplit(str(request.url)).path.rstrip("/")
        if request.method != "POST" or not path.endswith("/jobs"):
            return super().send(request, *args, **kwargs)
        self.outcome, self.job_id = "unknown", None
        try:
            response = super().send(request, *args, **kwargs)
        except ConnectTimeout:
            self.outcome = "unsent"
            raise
        except NoConnection as error:
            if error.args and isinstance(getattr(error.args[0], "reason", None), NewConnectionError):
                self.outcome = "unsent"
            raise
        if response.status_code in REFUSED:
            self.outcome = "refused"
        elif response.ok:
            try:
                self.job_id = str(response.json()["id"])
                self.outcome = "created"
            except (ValueError, KeyError, TypeError):  # an answer that was cut short
                pass
        return response


def watch_submissions(service: QiskitRuntimeService, instance: str | None) -> tuple[Any, OnceAdapter]:
    """Return the client's own object for one instance's requests, and the adapter that sends them.

    Every other instance's requests are sent once too. The client searches all instances for a job that is gone, and
    remains with the last one. The object returned here never reads the list of another instance.

    Args:
        instance: CRN of the instance; None takes the active one.
    """
    apis = service._api_clients
    api = apis.get(instance or service.active_instance(), None if instance else service._active_api_client)
    if api is None:
        raise ServiceError(f"this account has no instance {instance}; it has {', '.join(map(str, apis)) or 'none'}")
    for client in {id(each): each for each in (api, service._active_api_client, *apis.values())}.values():
        session = client._session
        if not isinstance(session.get_adapter(session.base_url), OnceAdapter):
            session.mount(session.base_url, OnceAdapter())
        session._timeout = (10.0, 120.0)  # the client's own timeout is infinite
    service._active_api_client = api
    return api, api._session.get_adapter(api._session.base_url)


STATES: dict[str, JobState] = {
    "COMPLETED": "done",
    "CANCELLED": "cancelled",
    "FAILED": "failed",
    "CANCELLED - RAN TOO LONG": "failed",
    "QUEUED": "queued",
    "RUNNING": "running",
}
# Reason of a job that the service cancelled at its time limit; the client counts it as failed too.
RAN_TOO_LONG = 1305
JOBS_PER_PAGE = 50


class IBMService:
    """The device of a plan.

    Args:
        backend: The device, or None if it is no longer available; its results can still be fetched.
    """

    def __init__(self, plan: Plan, client: QiskitRuntimeService, backend: IBMBackend | None) -> None:
        self.plan, self.client, self._backend = plan, client, backend
        self._mode: Any = None
        self._api, self._submissions = watch_submissions(client, plan.instance)

    @property
    def backend(self) -> IBMBackend:
        """The device."""
        if self._backend is None:
            raise DeviceError(
                f"{self.plan.device} is no longer among the devices of this account, so qkd submits nothing more to "
                "it; finished jobs can be collected"
            )
        return self._backend

    def version(self) -> str | None:
        """Return the device's current version X.Y.Z, or None if the service does not give it."""
        version = str(self.backend.status().backend_version)
        return None if version == "0.0.0" else version

    def outage(self) -> str | None:
        """Return why no job runs now, or None."""
        if self._backend is None:
            return "no longer among the devices of this account"
        status = self._backend.status()
        return None if status.operational else str(status.status_msg or "not operational")

    def list_jobs(self) -> list[ListedJob]:
        """Return every job of the plan that the service lists, the oldest first.

        qkd requests page by page until a page is empty. The client's own loop ends only when as many jobs came as the
        service counted, which a list that lags behind its count never reaches.
        """
        jobs: dict[str, ListedJob] = {}
        received = 0
        while True:
            answer = self._api.jobs_get(limit=JOBS_PER_PAGE, skip=received, job_tags=[self.plan.mark], descending=False)
            for row in answer["jobs"]:
                for tag in map(str, row.get("tags") or []):
                    match = re.fullmatch(rf"{re.escape(self.plan.mark)}-(\d+)-\d+-\w+", tag)
                    if match:
                        state, _ = _read_state(row)
                        jobs[row["id"]] = ListedJob(row["id"], int(match[1]), state, str(row.get("created", "")), tag)
            received += len(answer["jobs"])
            if not answer["jobs"] or received >= answer.get("count", 0):
                return list(jobs.values())

    def submit(self, job: int, tag: str, layers: dict[str, np.ndarray] | None) -> str:
        """Submit a job and return its id.

        Args:
            job: Number of the job in the plan.
            tag: Tag of this submission; the plan's tag is added.
            layers: Result of the job that learned the layers' noise, if there is one.
        """
        self._submissions.outcome, self._submissions.job_id = "unsent", None
        try:
            return self._submit(job, [self.plan.mark, tag], layers)
        except Exception as error:
            if self._submissions.job_id is not None:
                return self._submissions.job_id  # a request after the submission failed
            if self._submissions.outcome in ("unsent", "refused"):
                raise NotSubmitted(error) from error
            raise

    def _submit(self, job: int, tags: list[str], layers: dict[str, np.ndarray] | None) -> str:
        from qiskit_ibm_runtime.executor_estimator import Estimator

        plan, circuit = self.plan, self.plan.terms.student
        limit = plan.max_seconds(job)
        with printed_warnings():
            estimator = Estimator(mode=self._open_mode(), options=plan.mitigation.options(tags=tags, max_seconds=limit))
            if job == len(plan.chunks):
                from qiskit_ibm_runtime.noise_learner_v3 import NoiseLearnerV3

                learner = NoiseLearnerV3(mode=self._open_mode())
                learner.options.environment.job_tags = tags
                learner.options.max_execution_time = limit
                return str(learner.run(find_layers(estimator, circuit)).job_id())
            if layers is not None:
                known = _read_layers(find_layers(estimator, circuit), layers)
                estimator.options = plan.mitigation.options(known, tags, max_seconds=limit)
            start, stop = plan.chunks[job]
            return str(estimator.run([make_pub(circuit, plan.values[start:stop])]).job_id())

    def state(self, id_: str) -> tuple[JobState, str | None]:
        """Return a job's state and the reason of a failure; ``gone`` if the service does not know the job."""
        try:
            return _read_state(self._api.job_get(id_, exclude_params=True))
        except Exception as error:
            if ServiceFailure.from_exception(error).code == 404:
                return "gone", None
            raise

    def result(self, job: int, id_: str) -> dict[str, np.ndarray]:
        """Return the raw arrays of a finished job: evs and stds (T,n), or the layers' noise."""
        try:
            return self._result(job, id_)
        except Exception as error:
            failure = ServiceFailure.from_exception(error)
            if failure.unreadable:
                message = f"its result cannot be read ({type(error).__name__}: {failure.message})"
                raise UnusableResult(message) from None
            raise

    def _result(self, job: int, id_: str) -> dict[str, np.ndarray]:
        self.client._active_api_client = self._api
        with printed_warnings():
            result = self.client.job(id_).result()
        if job == len(self.plan.chunks):
            maps = [
                {"qubits": layer.num_qubits, "terms": layer.to_sparse_list()}
                for layer in result.to_pauli_lindblad_maps()
            ]
            return {"layers": np.frombuffer(json.dumps(maps).encode(), dtype=np.uint8)}
        return read_result(result[0].data)

    def seconds(self, id_: str) -> float | None:
        """Return the QPU seconds that a job was charged, or None if the service does not give them."""
        usage = self._api.job_metadata(id_).get("usage", {})
        used = None if usage.get("status", "pending") == "pending" else usage.get("qpu_charge_time_seconds")
        return float(used) if used else None

    def cancel(self, id_: str) -> None:
        """Request the cancellation of a job. A job that has ended, or is gone, does not change."""
        try:
            self._api.job_cancel(id_)
        except Exception as error:
            if ServiceFailure.from_exception(error).code not in (404, 409):  # 409: the job has ended
                raise

    def close(self) -> None:
        """Close the batch or session that was opened here."""
        if self._mode is not None:
            mode, self._mode = self._mode, None
            mode.close()

    def _open_mode(self) -> Any:
        """Return the client's mode: the device, or a batch or session on it."""
        if self.plan.mode == "job" or (self.plan.mode == "batch" and self.plan.jobs == 1):
            return self.backend
        if self._mode is None:
            from qiskit_ibm_runtime import Batch, Session

            self._mode = (Batch if self.plan.mode == "batch" else Session)(backend=self.backend)
        return self._mode


def _read_state(row: Row) -> tuple[JobState, str | None]:
    """Return a job's state and the reason of a failure, from the service's description of the job."""
    answer = row.get("state") or {}
    word = str(answer.get("status") or row.get("status") or "").upper()
    code = answer.get("reasonCode") or answer.get("reason_code")
    state = STATES.get(word, "running")  # an unknown state is no end
    if state == "cancelled" and code == RAN_TOO_LONG:
        state = "failed"
    reason = " ".join(str(answer.get("reason") or "no reason given").split())[:500]
    return state, reason if state == "failed" else None


def _read_layers(instructions: list[Any], learned: dict[str, np.ndarray]) -> Layers:
    """Return layers with the noise that was learned for them, in the same order."""
    maps = json.loads(bytes(learned["layers"]).decode())
    if len(maps) != len(instructions):
        raise QkdError(f"noise was learned for {len(maps)} layers, but the circuit has {len(instructions)}")
    noises = [
        PauliLindbladMap.from_sparse_list([(p, q, r) for p, q, r in layer["terms"]], num_qubits=layer["qubits"])
        for layer in maps
    ]
    return list(zip(instructions, noises, strict=True))
