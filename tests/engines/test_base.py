from __future__ import annotations

import numpy as np
import pytest
import torch
from qiskit.circuit import Parameter, QuantumCircuit
from qiskit.quantum_info import SparsePauliOp

from qkd.core.errors import QkdError
from qkd.engines import (
    AerEstimator,
    DensityMatrixEstimator,
    LightConeEstimator,
    StatevectorEstimator,
)
from qkd.engines.base import EngineEstimator, keep_freed_memory
from qkd.engines.expressions import Expressions, linear_form
from qkd.engines.grouping import Requests, circuit_key, group
from tests.engines.conftest import random_circuit, random_observables


class Counting(EngineEstimator):
    """Compiles with the statevector engine and notes what it was asked."""

    def __init__(self):
        super().__init__()
        self.engine, self.compiled, self.rows = StatevectorEstimator(), [], []

    def _compile(self, question):
        self.compiled.append((len(question.observables), len(question.batched), len(question.shared)))
        program = self.engine._compile(question)

        def noted(rows, common):
            self.rows.append(len(rows))
            return program(rows, common)

        return noted


def test_one_batch_for_rows_times_observables(rng):
    circuit, observables = random_circuit(1), random_observables(1, 4, 5)
    rows = rng.uniform(-1, 1, (6, circuit.num_parameters))
    rows[:, 0] = 0.5
    engine = Counting()
    engine.run([(circuit, [[o] for o in observables], rows)]).result()
    engine.run([(circuit.copy(), [[o] for o in observables], rows + 1)]).result()
    assert engine.compiled == [(5, circuit.num_parameters - 1, 1)]
    assert engine.rows == [6, 6]


def test_pubs_that_differ_in_the_observable_alone_become_one_batch(rng):
    circuit, observables = random_circuit(2), random_observables(2, 4, 3)
    rows = rng.uniform(-1, 1, (4, circuit.num_parameters))
    engine = Counting()
    engine.run([(circuit, o, rows) for o in observables]).result()
    assert engine.compiled == [(3, circuit.num_parameters, 0)]
    assert engine.rows == [4]


def test_paired_rows_and_observables_are_not_multiplied_out(rng):
    circuit, observables = random_circuit(3), random_observables(3, 4, 2)
    rows = rng.uniform(-1, 1, (4, circuit.num_parameters))
    engine = Counting()
    engine.run([(circuit, [observables[i] for i in (0, 1, 0, 1)], rows)]).result()
    assert [count for count, _, _ in engine.compiled] == [1, 1]
    assert engine.rows == [2, 2]


def test_repeated_rows_are_evaluated_once(rng):
    circuit = random_circuit(4)
    rows = np.repeat(rng.uniform(-1, 1, (2, circuit.num_parameters)), 3, axis=0)
    engine = Counting()
    evs = engine.run([(circuit, "ZZZZ", rows)]).result()[0].data.evs
    assert engine.rows == [2]
    np.testing.assert_array_equal(evs[::3].repeat(3), evs)


def test_every_request_is_answered_once(rng):
    circuit, observables = random_circuit(5), random_observables(5, 4, 4)
    values = rng.uniform(size=(6, circuit.num_parameters))[[0, 1, 1, 3, 4, 0]]
    rows, which = rng.integers(0, 6, 40), rng.integers(0, 4, 40)
    answered = []
    for batch in group([Requests(circuit, values, observables, rows, which)]):
        for number, row, column in zip(batch.numbers, batch.rows, batch.columns, strict=True):
            np.testing.assert_array_equal(batch.values[row], values[rows[number]])
            assert batch.observables[column] == observables[which[number]]
            answered.append(number)
    assert sorted(answered) == list(range(40))


def test_circuit_keys_tell_circuits_apart():
    x = Parameter("x")

    def built(*gates):
        circuit = QuantumCircuit(2)
        for name, *arguments in gates:
            getattr(circuit, name)(*arguments)
        return circuit_key(circuit)

    keys = [
        built(("rx", x, 0)),
        built(("rx", x, 1)),
        built(("rx", 2 * x, 0)),
        built(("rx", Parameter("x"), 0)),
        built(("rx", 0.5, 0)),
        built(("cx", 0, 1)),
        built(("cx", 0, 1, None, 0)),
        built(("rx", x, 0), ("h", 1)),
    ]
    assert len(set(keys)) == len(keys)
    assert built(("rx", x, 0), ("cx", 0, 1)) == built(("rx", x, 0), ("cx", 0, 1))


def test_expressions(rng):
    import torch

    x, y, z = Parameter("x"), Parameter("y[0]"), Parameter("z")
    some = [2 * x + np.pi, x * y, (x - y).sin(), z, 3, (x * x + 1) ** 0.5, y.exp() / 2, x - x, z**3 / (y + 5)]
    values = torch.tensor(rng.uniform(0.2, 1, (4, 3)), requires_grad=True)
    found = Expressions(some, [x, y, z])(values)
    for row, got in zip(values.tolist(), found.tolist(), strict=True):
        bound = dict(zip([x, y, z], row, strict=True))
        expected = [e if isinstance(e, int) else e.bind({p: bound[p] for p in e.parameters}).numeric() for e in some]
        np.testing.assert_allclose(got, expected, atol=1e-12)
    assert torch.autograd.gradcheck(Expressions(some, [x, y, z]), values)
    assert linear_form(2 * x + np.pi) == (np.pi, {x: 2.0})
    assert linear_form(x * y) is None
    with pytest.raises(QkdError, match="not real"):
        linear_form(1j * x)


def test_run_wants_a_list_of_pubs():
    circuit = QuantumCircuit(1)
    with pytest.raises(QkdError, match="list of PUBs"):
        StatevectorEstimator().run(circuit)
    with pytest.raises(QkdError, match="PUB 1 is malformed"):
        StatevectorEstimator().run([(circuit, "Z"), (circuit, SparsePauliOp("ZZ"))])


def test_engines_settle_nothing_for_the_whole_process_and_begin_alike():
    keep_freed_memory.cache_clear()
    circuit, threads = QuantumCircuit(1), torch.get_num_threads()
    exact = [StatevectorEstimator(), LightConeEstimator(), DensityMatrixEstimator()]
    for engine in [*exact, AerEstimator()]:
        assert engine.run([(circuit, "Z")]).result()[0].data.evs == 1
    assert keep_freed_memory.cache_info().currsize == 0 and torch.get_num_threads() == threads
    assert len({engine.device for engine in exact}) == 1
