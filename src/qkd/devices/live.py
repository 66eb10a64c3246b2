"""Live devices of an account, through IBM's client and its stored accounts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from urllib3.exceptions import InvalidHeader

from qkd.core.errors import QkdError, ServiceError

if TYPE_CHECKING:
    from qiskit_ibm_runtime import QiskitRuntimeService

MAX_RETRY_AFTER = 300.0
"""The longest ``Retry-After`` in seconds that qkd obeys."""


def has_account() -> bool:
    """Return whether Qiskit's store or the environment holds an account, without a request."""
    if os.environ.get("QISKIT_IBM_TOKEN"):
        return True
    from qiskit_ibm_runtime import QiskitRuntimeService

    return bool(QiskitRuntimeService.saved_accounts())


class TooLong(Exception):
    """The service requests a longer wait than ``MAX_RETRY_AFTER``."""


@contextmanager
def requests(failure: str = "") -> Iterator[None]:
    """Bound the waits of requests to IBM's client, and turn its errors into sentences.

    The client's own retries obey any ``Retry-After`` (urllib3: up to six hours). It makes the sessions that they belong
    to during a request, so their class bounds them until the requests end.

    Args:
        failure: The beginning of the sentence about another error; without it the error is raised as it is.
    """
    from qiskit_ibm_runtime.api.session import PostForcelistRetry

    before, refused = PostForcelistRetry.get_retry_after, list[float]()

    def bounded(retry: PostForcelistRetry, response: Any) -> float | None:
        try:
            seconds: float | None = before(retry, response)
        except InvalidHeader:
            return None
        if seconds is not None and seconds > MAX_RETRY_AFTER:
            refused.append(seconds)
            raise TooLong(f"asks to wait {seconds:,.0f} s")
        return seconds

    PostForcelistRetry.get_retry_after = bounded
    try:
        yield
    except QkdError:
        if not refused:
            raise
    except Exception as error:  # the client and the network raise errors of many types
        if not refused and failure:
            raise ServiceError(f"{failure}: {first_line(error)}") from None
        if not refused:
            raise
    finally:
        PostForcelistRetry.get_retry_after = before
    if refused:  # the client hides errors while it looks for devices
        raise ServiceError(
            f"IBM Quantum asks to wait {refused[0]:,.0f} s, and qkd waits {MAX_RETRY_AFTER:,.0f} s at most; nothing is "
            "lost, try again later"
        )


def service(**options: Any) -> QiskitRuntimeService:
    """Return IBM's client with the stored account."""
    from qiskit_ibm_runtime import QiskitRuntimeService

    if not has_account():
        raise ServiceError(
            "there is no IBM Quantum account here; save one once with QiskitRuntimeService.save_account(token=..., "
            "instance=...), or set QISKIT_IBM_TOKEN and QISKIT_IBM_INSTANCE"
        )
    with requests("IBM Quantum cannot be reached with this account"):
        return QiskitRuntimeService(**options)


def names(client: QiskitRuntimeService | None = None) -> list[str]:
    """Return the names of the devices that the account of a client, or the stored one, has."""
    client = client or service()
    with requests("IBM Quantum did not list its devices"):
        return sorted(backend.name for backend in client.backends(simulator=False))


def instance_of(backend: Any) -> str | None:
    """Return the CRN of the instance to which a live backend belongs."""
    crn = getattr(backend, "_instance", None)
    return str(crn) if crn else None


def require_instance(client: QiskitRuntimeService, crn: str, what: str) -> None:
    """Refuse to continue ``what``, which belongs to the instance ``crn``, with an account that lacks that instance."""
    with requests("IBM Quantum did not list the account's instances"):
        known = {str(instance["crn"]): str(instance.get("name") or instance["crn"]) for instance in client.instances()}
    named = f"'{known[crn]}' ({crn})" if crn in known else crn
    active = client.active_instance() if client._default_instance else None  # noqa: SLF001 - tells whether one was set
    if active is not None and active != crn:
        raise ServiceError(
            f"{what} was sent under the instance {named}, and the account is set to '{known.get(active, active)}' "
            f"({active}); set QISKIT_IBM_INSTANCE to the former"
        )
    if crn not in known:
        existing = ", ".join(f"'{name}' ({other})" for other, name in known.items()) or "none"
        raise ServiceError(
            f"{what} was sent under the instance {named}, which this account does not have; it has {existing}"
        )


def backend(
    name: str, client: QiskitRuntimeService | None = None, fractional: bool | None = False, instance: str | None = None
) -> Any:
    """Return the live backend called ``name``.

    Args:
        fractional: Whether it has its gates with a free angle; None means all its gates.
        instance: The CRN of the instance; None means any.
    """
    client = client or service()
    existing = names(client)
    if name not in existing:
        raise ServiceError(f"{name} is not among the devices of this account ({', '.join(existing) or 'it has none'})")
    with requests(f"{name} cannot be read from IBM Quantum"):
        return client.backend(name, instance=instance, use_fractional_gates=fractional)


def first_line(error: BaseException) -> str:
    """Return an error's first line, without any token in it."""
    message = (str(error).strip("'\" ") or type(error).__name__).splitlines()[0]
    message = message.partition(" {")[0].rstrip(". ")[:300]  # the raw answer follows the client's sentence
    for token in _tokens():
        message = message.replace(token, "***")
    return message


def _tokens() -> list[str]:
    """Return every token of the environment and of Qiskit's store."""
    tokens = [os.environ.get("QISKIT_IBM_TOKEN", "")]
    try:
        from qiskit_ibm_runtime import QiskitRuntimeService

        tokens += [str(account.get("token", "")) for account in QiskitRuntimeService.saved_accounts().values()]
    except Exception:  # a damaged store must not hide the error
        pass
    return [token for token in tokens if token]
