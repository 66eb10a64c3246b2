"""The client's connection to one instance of the service, which sends every request once and reports submissions."""

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
