"""Parameter expressions as torch functions: one matrix for the linear ones, code from sympy for the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from qiskit.circuit import Parameter, ParameterExpression

from qkd.core.errors import EngineError


class Expressions:
    """T real expressions of the given parameters, evaluated together and differentiable.

    A call maps values (...,P) to (...,T).

    Args:
        parameters: The P parameters, in the order of the values' columns.
    """

    def __init__(self, expressions: Sequence[ParameterExpression | float], parameters: Sequence[Parameter]) -> None:
        column = {parameter: i for i, parameter in enumerate(parameters)}
        matrix = np.zeros((len(parameters), len(expressions)))
        constant = np.zeros(len(expressions))
        self._nonlinear: list[tuple[int, list[int], Callable[..., torch.Tensor]]] = []
        for t, expression in enumerate(expressions):
            form = linear_form(expression)
            if form is not None:
                constant[t], slopes = form
                for parameter, slope in slopes.items():
                    matrix[column[parameter], t] = slope
            elif isinstance(expression, ParameterExpression):
                used = sorted(expression.parameters, key=lambda p: p.name)
                self._nonlinear.append((t, [column[p] for p in used], _torch_function(expression, used)))
        self._matrix = torch.from_numpy(matrix.T.copy())
        self._constant = torch.from_numpy(constant)

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """Return the T expressions (...,T) at parameter values (...,P)."""
        if self._matrix.device != values.device or self._matrix.dtype != values.dtype:
            self._matrix, self._constant = self._matrix.to(values), self._constant.to(values)
        result = torch.nn.functional.linear(values, self._matrix, self._constant)
        if not self._nonlinear:
            return result
        columns = list(result.unbind(-1))
        for t, used, function in self._nonlinear:
            column = function(*(values[..., i] for i in used))
            # sympy may simplify a product of parameters to a number
            columns[t] = column if isinstance(column, torch.Tensor) else torch.full_like(columns[t], float(column))
        return torch.stack(columns, dim=-1)


def linear_form(expression: ParameterExpression | float) -> tuple[float, dict[Parameter, float]] | None:
    """Return ``(constant, {parameter: slope})`` of a linear expression or number, None if it is not linear."""
    if not isinstance(expression, ParameterExpression):
        return float(expression), {}
    if isinstance(expression, Parameter):
        return 0.0, {expression: 1.0}
    slopes: dict[Parameter, float] = {}
    for parameter in expression.parameters:
        try:
            slope = expression.gradient(parameter)
        except RuntimeError as error:  # for example of the sign
            raise _no_derivative(expression) from error
        if isinstance(slope, ParameterExpression):
            if slope.parameters:
                return None
            slope = slope.numeric()
        slopes[parameter] = _real(slope, expression)
    return _real(expression.bind(dict.fromkeys(slopes, 0.0)).numeric(), expression), slopes


def _real(value: complex, expression: ParameterExpression) -> float:
    if abs(complex(value).imag) > 1e-12:
        raise EngineError(f"the angle '{expression}' is not real; a gate's angle must be a real expression")
    return float(complex(value).real)


def _torch_function(expression: ParameterExpression, used: Sequence[Parameter]) -> Callable[..., torch.Tensor]:
    """Return ``expression`` as a function of the tensors of its parameters ``used``."""
    import sympy

    try:
        symbolic = expression.sympify()
        by_name = {str(symbol): symbol for symbol in symbolic.free_symbols}
        arguments = [by_name.get(p.name, sympy.Dummy()) for p in used]
        code = sympy.lambdify(arguments, symbolic, modules=[_TORCH], dummify=True)
        # In some versions of Qiskit the symbolic form of an expression has another value than its binding.
        points = np.random.default_rng(len(used)).uniform(0.5, 1.5, (2, len(used)))
        for point in points:
            bound = complex(expression.bind(dict(zip(used, point.tolist(), strict=True))).numeric())
            if not np.isclose(complex(code(*torch.from_numpy(point))), bound, rtol=1e-9, atol=1e-9, equal_nan=True):
                raise ValueError("the symbolic form has another value")
    except Exception as error:
        raise _no_derivative(expression) from error
    return code


def _no_derivative(expression: ParameterExpression) -> EngineError:
    return EngineError(
        f"the angle '{expression}' cannot be differentiated; use sums, products, powers, sin, cos, tan, exp, log of "
        "parameters"
    )


_TORCH = {
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": torch.tan,
    "asin": torch.asin,
    "acos": torch.acos,
    "atan": torch.atan,
    "exp": torch.exp,
    "log": torch.log,
    "Abs": torch.abs,
    "sign": torch.sign,
    "sqrt": torch.sqrt,
    "conjugate": lambda x: x,
    "pi": np.pi,
    "E": np.e,
}
