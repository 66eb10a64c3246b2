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

HOW = (
    "save one once with QiskitRuntimeService.save_account(token=..., instance=...), or set QISKIT_IBM_TOKEN and "
    "QISKIT_IBM_INSTANCE"
)


BELIEVED = 300.0
"""The longest ``Retry-After`` in seconds that is waited out."""


def has_account() -> bool:
    """Return whether Qiskit's store or the environment holds an account, without a request."""
    if os.environ.get("QISKIT_IBM_TOKEN"):
        return True
    from qiskit_ibm_runtime import QiskitRuntimeService

    return bool(QiskitRuntimeService.saved_accounts())


@contextmanager
def asking() -> Iterator[None]:
    """Ask IBM's client for something, which may not wait longer than ``BELIEVED`` for an answer.

    Its own retries take any ``Retry-After`` (urllib3: up to six hours), and it makes the sessions that they belong to
    while it is asked, so they are bounded where all of them are: in its class of retries, until the asking is over.
    """
    from qiskit_ibm_runtime.api.session import PostForcelistRetry

    before, refused = PostForcelistRetry.get_retry_after, list[float]()

    def bounded(retry: PostForcelistRetry, response: Any) -> float | None:
        try:
            seconds: float | None = before(retry, response)
        except InvalidHeader:
            return None
        if seconds is not None and seconds > BELIEVED:
            refused.append(seconds)
            raise TooLong(f"asks to wait {seconds:,.0f} s")
        return seconds

    PostForcelistRetry.get_retry_after = bounded
    try:
        yield
    except Exception:
        if not refused:
            raise
    finally:
        PostForcelistRetry.get_retry_after = before
    if refused:  # the client hides what it comes upon while it looks for devices
        raise ServiceError(
            f"IBM Quantum asks to wait {refused[0]:,.0f} s, and qkd waits {BELIEVED:,.0f} s at most; nothing is lost, "
            "try again later"
        )


class TooLong(Exception):
    """The service asks to wait longer than it is believed."""


def service(**options: Any) -> QiskitRuntimeService:
    """Return IBM's client with the stored account."""
    from qiskit_ibm_runtime import QiskitRuntimeService

    if not has_account():
        raise ServiceError(f"there is no IBM Quantum account here; {HOW}")
    try:
        with asking():
            return QiskitRuntimeService(**options)
    except ServiceError:
        raise
    except Exception as error:  # the client raises errors of many types, of the network's too
        raise ServiceError(f"IBM Quantum cannot be reached with this account: {first_line(error)}") from None


def names(client: QiskitRuntimeService | None = None) -> list[str]:
    """Return the names of the devices that the account sees.

    Args:
        client: to ask; a new one when left out.
    """
    try:
        with asking():
            return sorted(backend.name for backend in (client or service()).backends(simulator=False))
    except QkdError:
        raise
    except Exception as error:
        raise ServiceError(f"IBM Quantum did not list its devices: {first_line(error)}") from None


def instance_of(backend: Any) -> str | None:
    """Return the CRN of the instance under which a live backend is reached."""
    crn = getattr(backend, "_instance", None)
    return str(crn) if crn else None


def require_instance(client: QiskitRuntimeService, crn: str, what: str) -> None:
    """Refuse to go on with something under another instance than the one it was begun under.

    Args:
        client: with the account as it is now.
        crn: the instance that ``what`` belongs to.
    """
    try:
        with asking():
            known = {
                str(instance["crn"]): str(instance.get("name") or instance["crn"]) for instance in client.instances()
            }
    except ServiceError:
        raise
    except Exception as error:
        raise ServiceError(f"IBM Quantum did not list the account's instances: {first_line(error)}") from None
    named = f"'{known[crn]}' ({crn})" if crn in known else crn
    active = client.active_instance() if client._default_instance else None  # noqa: SLF001 - tells whether one was set
    if active is not None and active != crn:
        raise ServiceError(
            f"{what} was sent under the instance {named}, and the account is set to '{known.get(active, active)}' "
            f"({active}); set QISKIT_IBM_INSTANCE to the former"
        )
    if crn not in known:
        here = ", ".join(f"'{name}' ({other})" for other, name in known.items()) or "none"
        raise ServiceError(
            f"{what} was sent under the instance {named}, which this account does not have; it has {here}"
        )


def backend(
    name: str, client: QiskitRuntimeService | None = None, fractional: bool | None = False, instance: str | None = None
) -> Any:
    """Return the live backend called ``name``.

    Args:
        client: to ask; a new one when left out.
        fractional: with its gates of a free angle; None is with everything it has.
        instance: the CRN of the instance that it is reached under; any when left out.
    """
    client = client or service()
    seen = names(client)
    if name not in seen:
        raise ServiceError(f"{name} is not among the devices of this account ({', '.join(seen) or 'it has none'})")
    try:
        with asking():
            return client.backend(name, instance=instance, use_fractional_gates=fractional)
    except ServiceError:
        raise
    except Exception as error:
        raise ServiceError(f"{name} cannot be read from IBM Quantum: {first_line(error)}") from None


def first_line(error: BaseException) -> str:
    """Return an error's first line, without any token in it."""
    message = (str(error).strip("'\" ") or type(error).__name__).splitlines()[0]
    message = message.partition(" {")[0].rstrip(". ")[:300]  # the raw answer behind the client's sentence says it again
    for token in _tokens():
        message = message.replace(token, "***")
    return message


def _tokens() -> list[str]:
    """Return every token of the environment and of Qiskit's store."""
    tokens = [os.environ.get("QISKIT_IBM_TOKEN", "")]
    try:
        from qiskit_ibm_runtime import QiskitRuntimeService

        tokens += [str(account.get("token", "")) for account in QiskitRuntimeService.saved_accounts().values()]
    except Exception:  # a damaged store keeps no error from being told
        pass
    return [token for token in tokens if token]
