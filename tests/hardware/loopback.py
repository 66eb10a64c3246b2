"""A service on 127.0.0.1 that IBM's unmodified client talks to: devices, jobs that Aer computes, faults on demand."""

import json
import re
import socket
import struct
import threading
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import parse_qs, unquote, urlsplit

import jwt
from ibm_quantum_schemas.common import CompressedTensorModel
from ibm_quantum_schemas.executor.version_2_0 import QuantumProgramResultModel
from qiskit.quantum_info import QubitSparsePauliList
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel
from qiskit_ibm_runtime import fake_provider
from qiskit_ibm_runtime.fake_provider.executor.run_quantum_program import run_quantum_program
from qiskit_ibm_runtime.noise_learner_v3.converters.version_0_3 import noise_learner_v3_result_to_0_3
from qiskit_ibm_runtime.noise_learner_v3.params_converters import NOISE_LEARNER_V3_PARAMS_CONVERTERS
from qiskit_ibm_runtime.quantum_program.params_converters import QUANTUM_PROGRAM_PARAMS_CONVERTERS
from qiskit_ibm_runtime.results.noise_learner_v3 import NoiseLearnerV3Result, NoiseLearnerV3Results

from qkd.devices import snapshot
from qkd.devices.backend import CalibratedBackend
from qkd.devices.calibration import FRACTIONAL
from qkd.hardware.mitigation.learned import calibrated_layers

TOKEN = "a-token-that-must-never-be-seen-anywhere"
KEPT = {"fraction_kept": {}, "success_rates": {}}
CRN = "crn:v1:bluemix:public:quantum-computing:us-east:a/0123:4567-89ab::"


@dataclass
class Fault:
    """The fault of requests that match, ``times`` times; ``after`` lets the request do its work first.

    kind: an HTTP status, "reset", "silence" or "cut" (the answer ends in the middle).
    """

    method: str
    path: str
    kind: object
    times: int = 1
    after: bool = False
    seconds: float = 0.0
    headers: dict = field(default_factory=dict)


@dataclass
class Job:
    id: str
    tags: list
    program: str
    params: dict
    backend: str
    created: str
    status: str = "Queued"
    reason: str = ""
    body: str | None = None
    cost: int | None = None


class Loopback:
    """The service; ``with Loopback() as service:``."""

    def __init__(self, devices=("FakeManilaV2",)):
        self.fakes = {}
        for name in devices:
            fake = getattr(fake_provider, name)()
            self.fakes[fake.name.replace("fake_", "ibm_")] = fake
        self.jobs, self.requests, self.faults = [], [], []
        self.hold = self.refused = False
        self.version, self.operational, self.message = None, True, "active"
        self.crn, self.instances = None, {CRN: "test"}
        self.remaining, self.overhead = 600, 2.0
        self.lock = threading.RLock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def environment(self):
        url = f"http://127.0.0.1:{self.server.server_port}"
        return {
            "QISKIT_IBM_TOKEN": TOKEN,
            "QISKIT_IBM_INSTANCE": CRN,
            "QISKIT_IBM_URL": f"{url}/experimental",  # which the client's own resolver does not change
            "IAM_URL": f"{url}/iam",
            "GLOBAL_SEARCH_URL": f"{url}/search",
            "GLOBAL_CATALOG_URL": f"{url}/catalog",
            "USAGE_DATA_OPT_OUT": "True",  # the client reads the source of every caller for it, which is slow
        }

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def fault(self, *args, **more):
        self.faults.append(Fault(*args, **more))

    def take(self, method, path):
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and fault.method == method and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
        return None

    # the requests of the client

    def answer(self, method, path, query, body):
        if path.startswith("/iam"):
            return self.token()
        if path.startswith("/search"):
            plan = {"service_plan_unique_id": "plan", "tags": [], "doc": {"extensions": [1]}}
            items = [{"crn": crn, "name": name, **plan} for crn, name in self.instances.items()]
            return 200, {"items": items, "limit": 100}
        if path.startswith("/catalog"):
            return 200, {"overview_ui": {"en": {"display_name": "Open"}}, "metadata": {"pricing": {"type": "free"}}}
        if self.refused:
            return 401, {"error": {"message": "the token has expired", "code": 1210}}
        path = path.removeprefix("/experimental")
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if parts[0] == "backends":
            return self.devices(parts)
        if parts == ["instances", "usage"]:
            used = 600 - self.remaining
            return 200, {"usage_limit_seconds": 600, "usage_consumed_seconds": used, "usage_limit_reached": used >= 600}
        if parts[0] == "sessions":
            return 200, {"id": "a-session", "accepting_jobs": True, "state": "open", "mode": "batch"}
        if parts[0] == "jobs":
            return self.job(method, parts, query, body)
        return 404, {"error": {"message": f"no {path}", "code": 404}}

    def token(self):
        now = datetime.now(UTC)
        stamp = int((now + timedelta(hours=1)).timestamp())
        value = jwt.encode({"iat": int(now.timestamp()), "exp": stamp}, "k" * 32)
        return 200, {
            "access_token": value,
            "refresh_token": "r",
            "expires_in": 3600,
            "expiration": stamp,
            "token_type": "B",
        }

    def devices(self, parts):
        if len(parts) == 1:
            rows = [{"name": name, "status": {"name": "online"}, "class": _class(name)} for name in self.fakes]
            return 200, {"devices": rows}
        fake = self.fakes.get(parts[1])
        if fake is None:
            return 404, {"error": {"message": "no such device", "code": 1500}}
        version = self.version or fake.backend_version
        if parts[2] == "configuration":
            told = fake._load_json(fake.conf_filename)
            return 200, told | {"backend_name": parts[1], "backend_version": version, "simulator": False}
        if parts[2] == "properties":
            told = fake._load_json(fake.props_filename)
            return 200, told | {"backend_version": version}
        return 200, {
            "state": self.operational,
            "status": self.message,
            "backend_version": version,
            "length_queue": sum(job.status == "Queued" for job in self.jobs),
        }

    def job(self, method, parts, query, body):
        with self.lock:
            if len(parts) == 1 and method == "POST":
                if body["backend"] not in self.fakes:
                    return 404, {"error": {"message": "no such device", "code": 1500}}
                created = datetime.now(UTC).isoformat()
                id_ = uuid.uuid4().hex[:20]
                job = Job(id_, body.get("tags", []), body["program_id"], body["params"], body["backend"], created)
                job.cost = body.get("cost")  # the most seconds that the client allows it
                self.jobs.append(job)
                return 200, {"id": job.id, "backend": job.backend}
            if len(parts) == 1:
                found = [job for job in self.jobs if set(query.get("tags", ())) <= set(job.tags)]
                return 200, {"jobs": [self.facts(job) for job in found], "count": len(found)}
            job = next((job for job in self.jobs if job.id == parts[1]), None)
            if job is None:
                return 404, {"error": {"message": "no such job", "code": 1291}}
            if len(parts) == 2:
                if job.status == "Queued" and not self.hold and self.operational:
                    job.status = "Completed"
                return 200, self.facts(job)
            if parts[2] == "cancel":
                job.status = "Cancelled"
                return 204, None
            if parts[2] == "metrics":
                usage = {"status": "complete", "qpu_charge_time_seconds": self.charge(job)}
                return 200, {"timestamps": {}, "usage": usage}
            if job.status != "Completed":
                return 200, {"error": job.reason}
            if job.body is None:
                job.body = self.measure(job)
            return 200, job.body

    @staticmethod
    def facts(job):
        return {
            "id": job.id,
            "backend": job.backend,
            "state": {"status": job.status, "reason": job.reason},
            "status": job.status,
            "program": {"id": job.program},
            "created": job.created,
            "tags": job.tags,
        }

    @staticmethod
    def program(job):
        """Return what a job asks for, as the client made it."""
        converter = QUANTUM_PROGRAM_PARAMS_CONVERTERS["v2.0"]
        return converter.decoder(converter.model.model_validate(job.params))[0]

    def charge(self, job):
        """Return what a job costs: its start, and for every shot the device's delay and the circuit's own time."""
        if job.program == "noise-learner":
            return 3
        program, fake = self.program(job), self.fakes[job.backend]
        delay = fake._load_json(fake.conf_filename)["default_rep_delay"] * 1e-6
        each = [program.shots * item.size() * (delay + lasts(item, fake)) for item in program.items]
        return self.overhead + sum(each)

    def learn(self, job):
        """Return what learning would find: the noise that the device's calibration says its layers have."""
        converter = NOISE_LEARNER_V3_PARAMS_CONVERTERS["v0.3"]
        params = {key: value for key, value in job.params.items() if key != "version"}
        circuit = converter.model.model_validate(params).instructions.to_quantum_circuit()
        fake = self.fakes[job.backend]

        class Placed:
            """The circuit, by the device's numbers."""

            def find_bit(self, qubit):
                assert len(qubit._register) == fake.num_qubits  # of the whole device, as the client demands
                return SimpleNamespace(index=qubit._index)

        noise = NoiseModel.from_backend(fake)
        found = calibrated_layers(list(circuit), SimpleNamespace(circuit=Placed()), noise)
        learned = [
            NoiseLearnerV3Result.from_generators(
                [QubitSparsePauliList.from_sparse_list([term[:2]], one.num_qubits) for term in one.to_sparse_list()],
                [term[2] for term in one.to_sparse_list()],
                metadata={"learning_protocol": "lindblad", "post_selection": KEPT},
            )
            for _, one in found
        ]
        return noise_learner_v3_result_to_0_3(NoiseLearnerV3Results(learned)).model_dump_json()

    def measure(self, job):
        """Compute what the device would, with AerSimulator, and put it as the service does."""
        if job.program == "noise-learner":
            return self.learn(job)
        converter = QUANTUM_PROGRAM_PARAMS_CONVERTERS["v2.0"]
        model = converter.model.model_validate(job.params)
        program, options = converter.decoder(model)
        for item in program.items:
            item.samplex.finalize()
        fake = self.fakes[job.backend]
        free = [name for name in FRACTIONAL if name in fake._load_json(fake.conf_filename)["basis_gates"]]
        if free:  # the client's own target leaves them out
            held = snapshot.from_backend(fake)
            fake = CalibratedBackend(held.name, held.target_with(*free), "1.0.0", "")
        backend = AerSimulator.from_backend(fake, max_parallel_threads=1)
        options.simulator.seed_simulator = len(self.jobs)
        result = run_quantum_program(backend, program, options.simulator)
        items = [
            {"results": {name: CompressedTensorModel.from_numpy(value) for name, value in item.items()}, "metadata": {}}
            for item in result
        ]
        return QuantumProgramResultModel(
            data=items,
            metadata={"chunk_timing": []},
            passthrough_data=model.quantum_program.passthrough_data,
            semantic_role=job.params["quantum_program"].get("semantic_role"),
        ).model_dump_json()


def _class(name):
    return "mock" if name.startswith("mock_") else "qpu"


def lasts(item, backend):
    """Return the seconds that a program's circuit takes from its first pulse to the end of its readout."""
    ends = [0.0] * len(item.circuit.qubits)
    for gate in item.circuit.data:
        on = [item.circuit.find_bit(qubit).index for qubit in gate.qubits]
        told = backend.target.get(gate.operation.name, {}).get(tuple(on))
        end = max(ends[i] for i in on) + (told.duration or 0.0 if told is not None else 0.0)
        for i in on:
            ends[i] = end
    return max(ends)


def _handler(service):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm, wbufsize = True, -1  # else every answer waits 40 ms

        def log_message(self, *_):
            pass

        def handle_any(self):
            split = urlsplit(self.path)
            raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            service.requests.append((self.command, split.path))
            fault = service.take(self.command, split.path)
            if fault is not None and not fault.after and not self.misbehave(fault, None):
                return
            try:
                body = json.loads(raw) if raw and not split.path.startswith("/iam") else None
                service.crn = self.headers.get("Service-CRN")
                code, value = service.answer(self.command, split.path, parse_qs(split.query), body)
            except Exception as error:  # a mistake of the service itself is to be seen in the client's message
                code, value = 400, {"error": {"message": f"loopback: {error!r}", "code": 1}}
            data = (
                b""
                if value is None
                else value.encode()
                if isinstance(value, str)
                else json.dumps(value, default=str).encode()
            )
            if fault is not None and fault.after and not self.misbehave(fault, data):
                return
            self.reply(code, data)

        def reply(self, code, data, length=None, headers=None):
            try:
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data) if length is None else length))
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)
                self.wfile.flush()
            except OSError:
                pass

        def misbehave(self, fault, data):
            """Apply the fault; return whether the request is handled."""
            if fault.kind == "silence":
                time.sleep(fault.seconds)
                return True
            if fault.kind == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
                return False
            if fault.kind == "cut":
                self.reply(200, (data or b"{}")[: len(data or b"{}") // 2], headers={"Connection": "close"})
                self.close_connection = True
                return False
            self.reply(int(fault.kind), b'{"error": {"message": "try later", "code": 9}}', headers=fault.headers)
            return False

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

    return Handler
