"""Plans of a request: texts, angles, a compiled circuit, mitigation, shots, jobs and their cost."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from qiskit.quantum_info import PauliList

from qkd.circuits.student import StudentCircuit
from qkd.core.config import read_config
from qkd.core.console import log
from qkd.core.errors import ConfigError, QkdError
from qkd.core.files import Row
from qkd.core.runs import RunFolder
from qkd.devices import catalogue, live, profiles
from qkd.devices import snapshot as snapshots
from qkd.devices.region import Region, noise_model, to_region
from qkd.devices.snapshot import Snapshot
from qkd.devices.transpile import transpile
from qkd.engines.noise import Noise
from qkd.engines.noise.aer import assignment
from qkd.hardware import budget as costs
from qkd.hardware.budget import Budget, ChargeHistory, Stage, read_charges
from qkd.hardware.layout import choose_circuit, trained_circuit, with_recent_errors
from qkd.hardware.mitigation import Mitigation, affine
from qkd.hardware.mitigation.client import count_executions
from qkd.hardware.mitigation.learned import Layers, calibrated_layers, find_layers
from qkd.hardware.plan import Plan, new_folder
from qkd.hardware.request import AnyRequest, DeviceRunRequest, LearningRequest, fingerprint, read_texts
from qkd.hardware.result import exact_values, margins, predicted_values
from qkd.hardware.service import sampled
from qkd.hardware.service.base import RetryPolicy, call_with_retries
from qkd.hardware.terms import Terms
from qkd.simulation import fit
from qkd.simulation.factory import choose
from qkd.simulation.setup import device_noise
from qkd.student.bundle import Student

if TYPE_CHECKING:
    from qiskit.providers import BackendV2
    from qiskit_ibm_runtime import QiskitRuntimeService

    from qkd.devices.profiles import Profile

# Texts of a rehearsal's job: a killed rehearsal loses at most these.
LOCAL_TEXTS_PER_JOB = 50
# Texts whose expected margins decide the automatic number of shots.
MAX_SHOT_TEXTS = 256
# Sets of weights among the circuits from which errors are learned; each is one more compilation of the engine.
WEIGHT_SETS = 8


@dataclass(frozen=True)
class _Device:
    """A device at the time of planning.

    Attributes:
        name: The name that the user gave.
        version: Its version X.Y.Z.
        instance: CRN of the service's instance, or None on a snapshot.
        snapshot: Its calibration.
        remaining: QPU seconds that the account has left, or None.
        charges: Earlier charges.
        service: The service that runs jobs; see ``Plan``.
    """

    name: str
    version: str
    instance: str | None
    snapshot: Snapshot
    remaining: float | None
    charges: ChargeHistory
    service: Literal["ibm", "local", "backend"]


@dataclass(frozen=True)
class _Context:
    """Shared parts of the plans of one request.

    Attributes:
        request: The request, or that for texts which stands for a request to learn errors.
        device: The device.
        profile: The transpile profile.
        student: The run's student.
        compiled: The circuit on the device's indices.
        values: Parameter values (N,A+P).
        texts: Rows of the texts; empty if errors are learned.
    """

    request: DeviceRunRequest
    device: _Device
    profile: Profile
    student: Student
    compiled: StudentCircuit
    values: np.ndarray
    texts: list[Row]

    @property
    def logical(self) -> StudentCircuit:
        """The student's circuit."""
        return self.student.model.circuit

    def extra_points(self, mitigation: Mitigation) -> int:
        """Return the number of calibration points."""
        return mitigation.method.extra_points(mitigation.shots) if self.texts else 0


def make_plans(
    request: AnyRequest, folder: RunFolder, offline: bool = False, backend: BackendV2 | None = None
) -> list[Plan]:
    """Return a plan for each requested mitigation; none of them is saved yet.

    Args:
        offline: Nothing will be submitted, so without an account the snapshot gives the cost.
        backend: The device, if the user gave an object instead of a name.
    """
    context = _prepare(request, folder, offline, backend)
    log.info(context.device.snapshot.summary())
    names = context.request.methods(context.profile.mitigation)
    limit = context.profile.max_qpu_seconds if request.max_qpu_seconds is None else request.max_qpu_seconds
    hashed, device, plans = fingerprint(request, folder), context.device, list[Plan]()
    for offset, name in enumerate(names):
        shots = _choose_shots(context, name, min(limit / len(names), device.remaining or np.inf))
        mitigation = _mitigation(context, name, shots)
        budget, chunks = _cost(context, mitigation)
        extra = _calibration_points(
            context.logical, context.values, context.extra_points(mitigation), context.request.seed
        )
        plans.append(
            Plan(
                folder=new_folder(folder.hardware, offset),
                key=secrets.token_hex(6),
                request=request,
                fingerprint=hashed,
                device=device.name,
                version=device.version,
                instance=device.instance,
                service=device.service,
                mitigation=mitigation,
                mode=context.request.mode or context.profile.execution_mode,
                chunks=tuple(chunks),
                budget=budget,
                limit=limit,
                snapshot=device.snapshot,
                student=context.compiled,
                values=np.vstack([context.values, extra]),
                texts=context.texts,
            )
        )
    return plans


def _prepare(request: AnyRequest, folder: RunFolder, offline: bool, backend: BackendV2 | None) -> _Context:
    """Read the device, compile the circuit and compute the parameter values of the texts or circuits."""
    for_texts = request.for_texts() if isinstance(request, LearningRequest) else request
    device = _read_backend(for_texts, backend, folder) if backend else _read_device(for_texts, folder, offline)
    # Another profile or layout asks for another circuit than that of training.
    as_trained = for_texts.profile is None and for_texts.layout is None
    trained = trained_circuit(folder, device.snapshot) if as_trained else None
    own = None if trained is None else read_config(folder.config).device.profile
    profile = profiles.load_profile(for_texts.profile or own or profiles.default_name(device.snapshot))
    if for_texts.layout is not None:
        profile = profile.with_overrides({"qubits": for_texts.layout})
    student = Student.load(folder.path)
    logical = student.model.circuit
    compiled = choose_circuit(logical, trained, transpile(logical, device.snapshot, profile), device.snapshot)
    if isinstance(request, LearningRequest):
        compiled = fit.calibrating(compiled)
        values = fit.points(compiled, WEIGHT_SETS, -(-request.points // WEIGHT_SETS), request.seed)
        return _Context(for_texts, device, profile, student, compiled, values, [])
    texts = read_texts(request, folder)
    values = student.model.values(student.encoder.encode([row["text"] for row in texts]))
    return _Context(for_texts, device, profile, student, compiled, values, texts)


def _read_device(request: DeviceRunRequest, folder: RunFolder, offline: bool) -> _Device:
    """Return the requested device, from the service or from its snapshot."""
    name = request.device or read_config(folder.config).device.device
    command = f"qkd run-hardware --run {request.run} --device {{device}}"
    client, instance = None, None
    if offline and not request.local and not live.has_account():
        snapshot = snapshots.load_snapshot(catalogue.require_live(name, command).name)
        version = snapshot.calibration.version
        log.info(f"there is no account here, so the cost is that of the snapshot of {snapshot.calibration.date}")
    elif request.local:
        snapshot = snapshots.load_snapshot(name)
        version = snapshot.calibration.version
    else:
        online = live.names(client := live.service()) if live.has_account() else None
        catalogue.require_live(name, command, online)
        client = client or live.service()
        backend = live.backend(name, client, fractional=None)  # all its gates; the profile chooses among them
        with live.requests():
            snapshot, instance = snapshots.from_backend(backend), live.instance_of(backend)
            current = str(backend.status().backend_version)
        version = snapshot.calibration.version if current == "0.0.0" else current
    if request.learned is not None or not request.local:
        snapshot = with_recent_errors(snapshot, request.learned)
    remaining = remaining_seconds(client) if client is not None else None
    charges = ChargeHistory() if request.local else read_charges(name, folder.path.parent)
    if charges.runs:
        log.info(f"{name} charged {charges.correction:.2f} times the estimate in {charges.runs} earlier runs")
    return _Device(name, version, instance, snapshot, remaining, charges, "local" if request.local else "ibm")


def _read_backend(request: DeviceRunRequest, backend: BackendV2, folder: RunFolder) -> _Device:
    """Return the device of a backend object; one of IBM brings its own account."""
    snapshot, service = snapshots.from_backend(backend), getattr(backend, "service", None)
    version, name = snapshot.calibration.version, str(backend.name)
    online = service is not None and not request.local
    if request.learned is not None or online:
        snapshot = with_recent_errors(snapshot, request.learned)
    if not online:
        return _Device(name, version, None, snapshot, None, ChargeHistory(), "local" if request.local else "backend")
    charges, remaining = read_charges(name, folder.path.parent), remaining_seconds(service)
    return _Device(name, version, live.instance_of(backend), snapshot, remaining, charges, "ibm")


def remaining_seconds(client: QiskitRuntimeService) -> float | None:
    """Return the QPU seconds that the account has left, or None if the service does not say."""
    with live.requests():
        usage = call_with_retries("asking for the quota", client.usage, RetryPolicy())
    seconds: float | None = usage.get("usage_remaining_seconds")
    return seconds


def _mitigation(context: _Context, name: str, shots: int) -> Mitigation:
    """Return the settings of a mitigation method. Gates with a free angle have no Pauli frames that twirl them."""
    request = context.request
    fractional = any(item.operation.name in ("rx", "rzz") for item in context.compiled.circuit.data)
    twirl_gates = True if request.twirl_gates else False if fractional else None
    if context.device.service == "backend":  # Qiskit's BackendEstimatorV2 neither twirls nor adds pulses
        mitigation = Mitigation(name, shots, twirl_gates=False)
        if mitigation.method.needs_client or request.twirl_gates or request.decoupling not in (None, "none"):
            raise ConfigError(
                f"mitigation '{name}', twirls and pulses need IBM's client, and {context.device.name} is a backend of "
                "another provider; use --mitigation none or affine without --twirl-gates and --decoupling"
            )
        return mitigation
    pulses = request.decoupling or ("none" if request.local else context.profile.dynamical_decoupling)
    mitigation = Mitigation(name, shots, request.randomizations, pulses, twirl_gates)
    if request.local and request.client and request.randomizations is None:
        return replace(mitigation, randomizations=mitigation.method.rehearsal_twirls)
    return mitigation


def _cost(context: _Context, mitigation: Mitigation) -> tuple[Budget, list[tuple[int, int]]]:
    """Return the cost of a run on the device, and the points of each job."""
    from qiskit_ibm_runtime.executor_estimator import Estimator

    request, device, method = context.request, context.device, mitigation.method
    small, region = to_region(Terms.from_student(context.compiled).student, device.snapshot)
    layers: Layers | None = None
    if method.needs_layer_noise:
        instructions = find_layers(Estimator(mode=region.backend, options=mitigation.options()), small)
        layers = calibrated_layers(instructions, small, noise_model(region))
    if device.service == "backend":
        bases = len(PauliList([str(term.paulis[0]) for term in small.observables]).group_commuting(qubit_wise=True))
        each, learning = mitigation.shots * bases, 0
    else:
        on_device = replace(mitigation, randomizations=request.randomizations)  # a rehearsal may use fewer twirls
        each, learning = count_executions(small, on_device, layers, region.backend)
    extra = context.extra_points(mitigation)
    count = len(context.values) + extra
    chunks = costs.split_into_jobs(count, each, learning)
    seconds = costs.seconds_per_shot(context.compiled.circuit, device.snapshot, method.gate_overhead)
    what = f"{len(context.texts)} texts" if context.texts else f"{len(context.values)} circuits"
    beside = f" and {extra} calibration points" if extra else ""
    stages = [Stage("measure", f"measuring {what}{beside}", len(chunks), count * each, seconds)]
    if learning:
        stages.append(Stage("learn-readout", "learning readout", 0, len(chunks) * learning, seconds))
    if layers is not None:
        executions = len(layers) * costs.LEARNING_CIRCUITS * costs.LEARNING_SHOTS
        stages.insert(0, Stage("learn-layers", f"learning {len(layers)} layers", 1, executions, seconds))
    if request.local:
        drawn = not request.client and sampled.supports(small, region, mitigation)
        size = count if drawn else LOCAL_TEXTS_PER_JOB
        chunks = [(start, min(count, start + size)) for start in range(0, count, size)]
    return Budget(tuple(stages), device.remaining, device.charges.correction), chunks


def _calibration_points(circuit: StudentCircuit, values: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return calibration points (count,A+P): near the texts' values (N,A+P) if an engine is exact, else Clifford."""
    try:
        choose(circuit, None, 0.0)
    except QkdError:
        if count:
            log.info("light cones are too wide for exact values, so maps are fitted on Clifford circuits")
        return affine.clifford_points(values, count, seed)
    return affine.shuffled_points(values, len(circuit.inputs), count, seed)


def _choose_shots(context: _Context, name: str, seconds: float) -> int:
    """Return the shots of a plan: the given number, those of the target error, or the automatic number.

    The automatic number is the fewest shots that leave at most 5 % of the predictions unclear. If they take more than
    ``seconds`` of the QPU, it is the largest number that fits.
    """
    request = context.request
    shots = request.shots or context.profile.shots
    if request.target_stderr is None and shots != "auto":
        return int(shots)
    terms = Terms.from_student(context.logical)
    expected, variance = _expected(context, terms, name)
    if request.target_stderr is not None:
        return costs.shots_for_stderr(request.target_stderr, terms.errors(np.sqrt(variance)) ** 2)
    head: np.ndarray = context.student.model.head.weight.detach().cpu().numpy()
    logits = context.student.model.logits_of(terms.values(expected))
    margin, deviation = margins(logits, np.sqrt(variance), head @ terms.coefficients)
    wanted = chosen = costs.find_shots(margin, deviation**2)
    for chosen in reversed([few for few in costs.SHOTS_GRID if few <= wanted]):
        if _cost(context, _mitigation(context, name, chosen))[0].seconds <= seconds:
            break
    share = costs.unclear_share(margin, deviation**2, chosen)
    error = float(terms.errors(np.sqrt(variance / chosen)).max())
    log.info(
        f"{name}: {chosen:,} shots leave {share:.1%} of the predictions unclear; standard errors of the expectation "
        f"values reach {error:.2g}, for precise values give --target-stderr"
    )
    if chosen < wanted:
        log.info(
            f"{wanted:,} shots would leave 5 % unclear, but take more than the {seconds:,.0f} QPU seconds available"
        )
    return chosen


def _expected(context: _Context, terms: Terms, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the term values that a method is expected to give (n,T), and their variances at one shot (n,T)."""
    values = context.values[:MAX_SHOT_TEXTS]
    exact = exact_values(terms.student, values)
    try:
        small, region = to_region(Terms.from_student(context.compiled).student, context.device.snapshot)
        predicted, readout = predicted_values(small, region, values), _readout_factors(small, region)
    except QkdError:  # no engine takes the noisy circuit, so shot noise of ideal values decides
        predicted, readout = exact, np.ones(exact.shape[1])
    return Mitigation(name, 1).method.expect(exact, predicted, readout)


def _readout_factors(small: StudentCircuit, region: Region) -> np.ndarray:
    """Return the factors by which the calibrated readout errors scale each term (T,)."""
    noise = Noise.from_model(device_noise(region))
    tables = [assignment(noise.model, qubit) for qubit in range(small.num_qubits)]
    scales = np.array([table[0, 0] + table[1, 1] - 1 for table in tables])
    factors = [scales[(term.paulis.x | term.paulis.z)[0]].prod() for term in small.observables]
    return np.clip(factors, 1e-3, None)
