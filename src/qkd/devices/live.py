"""Devices that an account can reach, through IBM's client and the account that it has stored."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from qkd.errors import QkdError

if TYPE_CHECKING:
    from qiskit_ibm_runtime import QiskitRuntimeService

HOW = (
    "save one once with QiskitRuntimeService.save_account(token=..., instance=...), or set QISKIT_IBM_TOKEN and "
    "QISKIT_IBM_INSTANCE"
)


def has_account() -> bool:
    """Whether Qiskit's own store or the environment names an account; asks nobody."""
    if os.environ.get("QISKIT_IBM_TOKEN"):
        return True
    from qiskit_ibm_runtime import QiskitRuntimeService

    return bool(QiskitRuntimeService.saved_accounts())


def service(**options: Any) -> QiskitRuntimeService:
    """Return IBM's client with the stored account.

    Raises:
        QkdError: there is no account, or the service refuses it or cannot be reached.
    """
    from qiskit_ibm_runtime import QiskitRuntimeService

    if not has_account():
        raise QkdError(f"there is no IBM Quantum account here; {HOW}")
    try:
        return QiskitRuntimeService(**options)
    except Exception as error:  # the client raises errors of many types, of the network's too
        raise QkdError(f"IBM Quantum cannot be reached with this account: {_first(error)}") from None


def names() -> list[str]:
    """Return the names of the devices that the account sees.

    Raises:
        QkdError: as ``service``.
    """
    try:
        return sorted(backend.name for backend in service().backends(simulator=False))
    except QkdError:
        raise
    except Exception as error:
        raise QkdError(f"IBM Quantum did not list its devices: {_first(error)}") from None


def backend(name: str) -> Any:
    """Return the live backend called ``name``.

    Raises:
        QkdError: the account does not see it, or as ``service``.
    """
    seen = names()
    if name not in seen:
        raise QkdError(f"{name} is not among the devices of this account ({', '.join(seen) or 'it has none'})")
    try:
        return service().backend(name)
    except Exception as error:
        raise QkdError(f"{name} cannot be read from IBM Quantum: {_first(error)}") from None


def _first(error: Exception) -> str:
    """Return an error's first line, without any token in it."""
    said = (str(error).strip() or type(error).__name__).splitlines()[0]
    token = os.environ.get("QISKIT_IBM_TOKEN")
    return said.replace(token, "***") if token else said
