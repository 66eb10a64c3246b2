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
        raise QkdError(f"IBM Quantum cannot be reached with this account: {first_line(error)}") from None


def names(client: QiskitRuntimeService | None = None) -> list[str]:
    """Return the names of the devices that the account sees.

    Args:
        client: to ask; a new one when left out.

    Raises:
        QkdError: as ``service``.
    """
    try:
        return sorted(backend.name for backend in (client or service()).backends(simulator=False))
    except QkdError:
        raise
    except Exception as error:
        raise QkdError(f"IBM Quantum did not list its devices: {first_line(error)}") from None


def backend(name: str, client: QiskitRuntimeService | None = None, fractional: bool | None = False) -> Any:
    """Return the live backend called ``name``.

    Args:
        name: of the device.
        client: to ask; a new one when left out.
        fractional: with its gates of a free angle; None is with everything it has.

    Raises:
        QkdError: the account does not see it, or as ``service``.
    """
    client = client or service()
    seen = names(client)
    if name not in seen:
        raise QkdError(f"{name} is not among the devices of this account ({', '.join(seen) or 'it has none'})")
    try:
        return client.backend(name, use_fractional_gates=fractional)
    except Exception as error:
        raise QkdError(f"{name} cannot be read from IBM Quantum: {first_line(error)}") from None


def without_retries(client: QiskitRuntimeService) -> None:
    """Let every request of a client be sent once.

    The client sends a POST again after some errors on its own, without knowing whether the first one made a job; qkd
    looks for the job first.
    """
    from requests.adapters import HTTPAdapter

    for one in {id(api): api for api in (client._active_api_client, *client._api_clients.values())}.values():
        session = one._session
        session.mount(session.base_url, HTTPAdapter(max_retries=0))
        session._timeout = (10.0, 120.0)  # the client would wait for an answer forever


def first_line(error: BaseException) -> str:
    """Return an error's first line, without any token in it."""
    said = (str(error).strip("'\" ") or type(error).__name__).splitlines()[0]
    said = said.partition(" {")[0].rstrip(". ")[:300]  # the raw answer behind the client's sentence says it again
    for token in _tokens():
        said = said.replace(token, "***")
    return said


def _tokens() -> list[str]:
    """Return every token of the environment and of Qiskit's store."""
    found = [os.environ.get("QISKIT_IBM_TOKEN", "")]
    try:
        from qiskit_ibm_runtime import QiskitRuntimeService

        found += [str(account.get("token", "")) for account in QiskitRuntimeService.saved_accounts().values()]
    except Exception:  # a damaged store keeps no error from being told
        pass
    return [token for token in found if token]
