"""HTTP requests to OpenAI-compatible servers: bounded concurrency, retries, rate limits, tokens and cost."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from qkd.core.errors import ModelError, QkdError, ServiceError, nearest
from qkd.teachers.api.usage import Usage, current_usage, reported_usage, texts_of

if TYPE_CHECKING:
    import httpx

DEFAULT_URL = "https://api.openai.com/v1"
MAX_ATTEMPTS = 8
TEST_ATTEMPTS = 4  # of a request of the test that fails inside the server
MAX_WAIT_SECONDS = 300.0
MAX_RESPONSE_BYTES = 4 * 2**20
# Length of a part of an error message that is looked for in the request, whose texts no message may contain.
QUOTE_CHARACTERS = 20
RETRIED_STATUS = {408, 409, 425, 429, 500, 502, 503, 504, 529}


class Unavailable(ServiceError):
    """A server that does not answer any more; another one may."""


class Refused(QkdError):
    """A request that the server understands and rejects; repeating it is useless.

    Attributes:
        status: The HTTP status code.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Endpoint:
    """One server.

    Args:
        url: The base URL, which usually ends in ``/v1``. Credentials in it are sent and never shown.
        key_env: The environment variable that contains the API key.
        concurrency: The maximum number of simultaneous requests.
        timeout: Seconds until a request counts as failed, however slowly its answer arrives.
        sleep: Waits a number of seconds; tests use a virtual clock.
        clock: Returns seconds.
        transport: An httpx transport; tests connect a server in the same process.

    Attributes:
        usage: Tokens and requests so far; several endpoints may share it.
        server: The model name and ``system_fingerprint`` of the latest response, empty where the server omits them.
        testing: Whether requests test what the server supports, so that fewer attempts follow HTTP 500 or a URL at
            which nothing listens.
    """

    url: str
    key_env: str = "OPENAI_API_KEY"
    concurrency: int = 16
    timeout: float = 120.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    clock: Callable[[], float] = time.monotonic
    transport: Any = None
    usage: Usage = field(default_factory=Usage)
    server: tuple[str, str] = ("", "")
    testing: bool = False
    _client: Any = None
    _paused_until: float = 0.0

    def __post_init__(self) -> None:
        if urlsplit(self.url).scheme not in ("http", "https"):
            raise ModelError(f"--api-url '{safe_url(self.url)}' is no http or https URL; write http://HOST:PORT/v1")

    @property
    def name(self) -> str:
        """The URL without credentials."""
        return safe_url(self.url)

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the JSON object that the server answers.

        Args:
            path: Relative to the base URL; a leading slash means relative to the host.
            body: The JSON request.

        Raises:
            Refused: the server rejects the request.
            Unavailable: it did not answer after all retries.
            QkdError: it rejects the key.
        """
        from tenacity import AsyncRetrying, retry_if_exception_type

        failures: list[_Retry] = []

        def hopeless(state: Any) -> bool:
            failures.append(state.outcome.exception())
            return self._hopeless(failures)

        async for attempt in AsyncRetrying(
            stop=hopeless,
            retry=retry_if_exception_type(_Retry),
            wait=_wait,
            sleep=self.sleep,
            retry_error_callback=lambda state: self._give_up(failures),
        ):
            with attempt:
                answer = await self._once("POST", path, body)
                usage = reported_usage(body, answer)
                self.usage += usage
                if (current := current_usage.get()) is not None:
                    current += usage
                if isinstance(answer.get("model"), str):
                    self.server = (answer["model"], str(answer.get("system_fingerprint") or ""))
            if attempt.retry_state.outcome is not None and not attempt.retry_state.outcome.failed:
                return answer
        raise Unavailable(f"{self.name} did not answer")

    async def models(self) -> list[str]:
        """Return the model names that the server lists; none if it has no list."""
        try:
            listed = (await self._once("GET", "models", None)).get("data")
        except (QkdError, _Retry):
            return []
        return (
            [str(one["id"]) for one in listed if isinstance(one, Mapping) and "id" in one]
            if isinstance(listed, list)
            else []
        )

    async def check_model(self, model: str) -> None:
        """Raise a ModelError if the server has a list of models without ``model``."""
        known = await self.models()
        if known and model not in known:
            raise ModelError(f"the server {self.name} has no model '{model}'{nearest(model, known)}")

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _breaks(self, failures: Sequence[_Retry]) -> bool:
        """Return whether a request of the test fails inside the server each time; another form of it may not."""
        return self.testing and len(failures) >= TEST_ATTEMPTS and all(one.status == 500 for one in failures)

    def _hopeless(self, failures: Sequence[_Retry]) -> bool:
        absent = self.testing and len(failures) > 1 and all(one.absent for one in failures)
        return absent or self._breaks(failures) or len(failures) >= MAX_ATTEMPTS

    def _give_up(self, failures: Sequence[_Retry]) -> None:
        if self._breaks(failures):
            raise Refused(f"{self.name} fails on the request: {failures[-1]}", 500)
        raise Unavailable(f"{self.name} did not answer after {len(failures)} attempts: {failures[-1]}")

    def _open(self) -> httpx.AsyncClient:
        import httpx

        if self._client is None:
            parts = urlsplit(self.url)
            key = os.environ.get(self.key_env)
            auth = (parts.username, parts.password or "") if parts.username else None
            self._client = httpx.AsyncClient(
                base_url=safe_url(self.url).rstrip("/") + "/",
                headers={"Authorization": f"Bearer {key}"} if key and not auth else {},
                auth=auth,
                timeout=self.timeout,
                limits=httpx.Limits(max_connections=self.concurrency),
                transport=self.transport,
            )
        return self._client

    async def _once(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        """Send one request and return its JSON object."""
        import httpx

        client = self._open()
        wait = self._paused_until - self.clock()
        if wait > 0:
            await self.sleep(wait)
        if path.startswith("/"):
            parts = urlsplit(safe_url(self.url))
            path = urlunsplit((parts.scheme, parts.netloc, path, "", ""))
        try:
            status, headers, content = await asyncio.wait_for(_read(client, method, path, body), self.timeout)
        except TimeoutError:
            raise _Retry(f"no complete answer within {self.timeout:g} s") from None
        except (httpx.HTTPError, OSError) as error:
            absent = isinstance(error, httpx.ConnectError)
            raise _Retry(f"{type(error).__name__}: {error}", absent=absent) from None
        self._learn_limits(headers)
        if status in RETRIED_STATUS:
            raise _Retry(f"HTTP {status}: {_reason(content, body)}", _seconds(headers.get("retry-after")), status)
        if status in (401, 403):
            raise ServiceError(
                f"{self.name} rejects the key (HTTP {status}); set the environment variable {self.key_env}, "
                "or name another one with --api-key-env"
            )
        if status >= 400:
            raise Refused(f"{self.name} rejects the request (HTTP {status}): {_reason(content, body)}", status)
        if status >= 300:
            to = safe_url(headers.get("location", ""))
            raise Refused(f"{self.name} redirects to '{to}' (HTTP {status}); give that URL as --api-url", status)
        try:
            answer = json.loads(content)
        except ValueError:
            shown = _reason(content[:80], body)
            raise Refused(f"{self.name} answers no JSON but '{shown}'; is the URL right?", status) from None
        if not isinstance(answer, dict):
            raise Refused(f"{self.name} answers JSON that is no object; is the URL right?", status)
        return answer

    def _learn_limits(self, headers: Mapping[str, str]) -> None:
        """Pause until the reset that a server announces once no request or token remains."""
        for kind in ("requests", "tokens"):
            if headers.get(f"x-ratelimit-remaining-{kind}") == "0":
                wait = _seconds(headers.get(f"x-ratelimit-reset-{kind}"))
                self._paused_until = max(self._paused_until, self.clock() + min(wait or 0.0, MAX_WAIT_SECONDS))


class _Retry(Exception):
    """A failure that may pass.

    Attributes:
        after: Seconds that the server asks to wait, if it does.
        status: The HTTP status code, if there is one.
        absent: Whether nothing listens at the URL.
    """

    def __init__(
        self, message: str, after: float | None = None, status: int | None = None, absent: bool = False
    ) -> None:
        super().__init__(message)
        self.after, self.status, self.absent = after, status, absent


def _wait(state: Any) -> float:
    """Return the seconds before the next attempt: the server's wish, or exponential backoff with jitter."""
    error = state.outcome.exception()
    if isinstance(error, _Retry) and error.after is not None:
        return min(error.after, MAX_WAIT_SECONDS)
    return random.uniform(0.5, 1.0) * min(2.0**state.attempt_number, 60.0)


async def _read(
    client: httpx.AsyncClient, method: str, path: str, body: Mapping[str, Any] | None
) -> tuple[int, Mapping[str, str], bytes]:
    """Return status, headers and at most ``MAX_RESPONSE_BYTES`` of the content."""
    content = bytearray()
    async with client.stream(method, path, json=body) as response:
        async for part in response.aiter_bytes():
            content += part
            if len(content) > MAX_RESPONSE_BYTES:
                raise Refused(f"the answer exceeds {MAX_RESPONSE_BYTES:,} bytes", response.status_code)
        return response.status_code, response.headers, bytes(content)


def safe_url(url: str) -> str:
    """Return ``url`` without user name, password, query and fragment."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return urlunsplit((parts.scheme, host + (f":{parts.port}" if parts.port else ""), parts.path, "", ""))


def _reason(content: bytes, body: Mapping[str, Any] | None) -> str:
    """Return the message of an error response, shortened; one that quotes the request ``body`` is not shown."""
    text = content[:20_000].decode("utf8", "replace")
    try:
        answer = json.loads(text)
        error = answer.get("error") or answer.get("message") or answer.get("detail") or ""  # detail is FastAPI's
        errors = error if isinstance(error, list) else [error]
        text = "; ".join(
            str(one.get("message") or one.get("msg") or "") if isinstance(one, dict) else str(one) for one in errors
        )
    except (ValueError, AttributeError):
        pass
    text = " ".join(text.split())[:200] or "no reason given"
    sent = " ".join(" ".join(texts_of(body or {})).split())
    quoted = any(text[start : start + QUOTE_CHARACTERS] in sent for start in range(len(text) - QUOTE_CHARACTERS + 1))
    return "the reason quotes the request" if quoted else text


def _seconds(value: str | None) -> float | None:
    """Return the seconds of a ``Retry-After`` header or of a duration such as ``1m30s``; dates are ignored."""
    if not value:
        return None
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value):
        return float(value)
    units = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
    parts = re.findall(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h)", value)
    return sum(float(number) * units[unit] for number, unit in parts) if parts else None
