"""The client's connection to one instance of the service, over which every request is sent once and watched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from requests import ConnectionError as NoConnection
from requests import ConnectTimeout, PreparedRequest, Response
from requests.adapters import HTTPAdapter
from urllib3.exceptions import NewConnectionError

from qkd.core.errors import ServiceError

if TYPE_CHECKING:
    from qiskit_ibm_runtime import QiskitRuntimeService

Fate = Literal["unsent", "refused", "made", "unknown"]
REFUSED = (400, 403, 404, 405, 409, 411, 413, 415, 422, 429)
"""Answers to a submission after which there is no job: the service read it and said no."""


class OnceAdapter(HTTPAdapter):
    """Sends every request once, and knows what became of the last submission.

    The client sends a POST again after 5xx on its own, because the service is said to allow it
    (``api.session.PostForcelistRetry``); a user has seen six jobs come of one submission in that way
    (qiskit-ibm-runtime#1114). So nothing is repeated here, and qkd looks for a job before it sends one.

    fate: of the last submission: ``unsent`` (it never left), ``refused``, ``made``, or ``unknown``.
    made: the id of the job, where it was made.
    """

    def __init__(self) -> None:
        super().__init__(max_retries=0)
        self.fate: Fate = "unsent"
        self.made: str | None = None

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        """Send a request; of submissions, note what became of them."""
        path = urlsplit(str(request.url)).path.rstrip("/")
        if request.method != "POST" or not path.endswith("/jobs"):
            return super().send(request, *args, **kwargs)
        self.fate, self.made = "unknown", None
        try:
            response = super().send(request, *args, **kwargs)
        except ConnectTimeout:
            self.fate = "unsent"
            raise
        except NoConnection as error:
            if error.args and isinstance(getattr(error.args[0], "reason", None), NewConnectionError):
                self.fate = "unsent"
            raise
        if response.status_code in REFUSED:
            self.fate = "refused"
        elif response.ok:
            try:
                self.made = str(response.json()["id"])
                self.fate = "made"
            except (ValueError, KeyError, TypeError):  # an answer that was cut short
                pass
        return response


def watched(service: QiskitRuntimeService, instance: str | None) -> tuple[Any, OnceAdapter]:
    """Return the client's own object for one instance's requests, and the adapter that sends them.

    Every other instance's requests are sent once too. The client looks for a job that is gone in all of an account's
    instances and stays with the last one; with the object returned here no list of another instance is ever read.

    Args:
        service: the client.
        instance: its CRN; None takes the active one.

    Raises:
        QkdError: the account does not reach that instance.
    """
    apis = service._api_clients
    api = apis.get(instance or service.active_instance(), None if instance else service._active_api_client)
    if api is None:
        raise ServiceError(f"this account has no instance {instance}; it has {', '.join(map(str, apis)) or 'none'}")
    for client in {id(each): each for each in (api, service._active_api_client, *apis.values())}.values():
        session = client._session
        if not isinstance(session.get_adapter(session.base_url), OnceAdapter):
            session.mount(session.base_url, OnceAdapter())
        session._timeout = (10.0, 120.0)  # the client would wait for an answer forever
    service._active_api_client = api
    return api, api._session.get_adapter(api._session.base_url)
