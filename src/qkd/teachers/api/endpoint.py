"""HTTP requests to OpenAI-compatible servers: retries, rate limits, and errors without secrets or texts."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import os
import random
import re
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from qkd.core.console import log
from qkd.core.errors import ModelError, QkdError, ServiceError, nearest
from qkd.core.teacher_config import ApiSpec
from qkd.teachers.api.usage import quotes

if TYPE_CHECKING:
    import httpx

DEFAULT_URL = "https://api.openai.com/v1"
MAX_ATTEMPTS = 8
TEST_ATTEMPTS = 4  # of a request of the test that fails inside the server
MAX_WAIT_SECONDS = 300.0
WAIT_REPORT_SECONDS = 10.0
MAX_RESPONSE_BYTES = 4 * 2**20
RETRIED_STATUS = {408, 409, 425, 429, 500, 502, 503, 504, 529}


class Unavailable(ServiceError):
    """A server that does not answer any more; another one may."""


class Refused(QkdError):
    """A request that the server understands and rejects; repeating it is useless."""


class _Retry(Exception):
    """A failure that may pass.

    Attributes:
        after: Seconds that the server asks to wait.
        status: The HTTP status code, if there is one.
        silent: Whether nothing listens at the URL, or no answer ended in time.
    """

    def __init__(self, message: str, after: float = 0.0, status: int | None = None, silent: bool = False) -> None:
        super().__init__(message)
        self.after, self.status, self.silent = after, status, silent


class Endpoint:
    """One server.

    Args:
        url: The base URL, which usually ends in ``/v1``. Credentials in it are sent and never shown.
        spec: The variable with the API key, the maximum number of simultaneous requests, and the seconds until a
            request counts as failed, however slowly its answer arrives.
        transport: An httpx transport; tests connect a server in the same process.

    Attributes:
        name: The URL without credentials.
        server: The model name and ``system_fingerprint`` of the latest response, empty where the server omits them.
        testing: Whether requests test what the server supports, so that fewer attempts follow HTTP 500.
        waits: Whether more than two attempts follow if the server is silent; another one may take the request.
        on_wait: Receives the seconds of each wait, for the progress.
    """

    def __init__(self, url: str, spec: ApiSpec, transport: Any = None) -> None:
        try:
            self._url = urlsplit(url)
            self.name, absent = safe_url(url), not self._url.hostname
        except ValueError:  # a port or an IPv6 address that is none
            raise ModelError("an --api-url contains a malformed host or port; write http://HOST:PORT/v1") from None
        if absent or self._url.scheme not in ("http", "https"):
            raise ModelError(f"--api-url '{self.name}' is no http or https URL; write http://HOST:PORT/v1")
        self._auth = unquote(self._url.username or ""), unquote(self._url.password or "")
        self.spec, self._transport = spec, transport
        self.server, self.testing, self.waits = ("", ""), False, True
        self.on_wait: Callable[[float], None] = lambda seconds: None
        self._slots = asyncio.Semaphore(spec.api_concurrency)
        self._idle: list[httpx.AsyncClient] = []
        self._paused_until, self._pause_reason, self._reported = -math.inf, "", -math.inf

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the JSON object that the server answers.

        Args:
            path: Relative to the base URL; a leading slash means relative to the host.
            body: The JSON request.

        Raises:
            Refused: the server rejects the request.
            Unavailable: it did not answer after all retries.
            ServiceError: it rejects the key.
        """
        failures: list[_Retry] = []
        while True:
            try:
                answer = await self._once("POST", path, body)
            except _Retry as failure:
                failures.append(failure)
                self._give_up_after(failures)
                self._pause(failure.after, str(failure))  # a limit of the server concerns all requests
                backoff = random.uniform(0.5, 1.0) * min(2.0 ** len(failures), 60.0)
                await self._wait(min(max(backoff, failure.after), MAX_WAIT_SECONDS), str(failure))
                continue
            if isinstance(answer.get("model"), str):
                self.server = (answer["model"], str(answer.get("system_fingerprint") or ""))
            return answer

    async def _wait(self, seconds: float, reason: str) -> None:
        """Wait, and print one line about waits of a second or more in ten seconds."""
        now = asyncio.get_running_loop().time()
        if seconds >= 1 and now - self._reported >= WAIT_REPORT_SECONDS:
            self._reported = now
            log.info(f"{self.name}: waiting {seconds:.0f} s: {reason}")
        self.on_wait(seconds)
        await asyncio.sleep(seconds)

    def _pause(self, seconds: float, reason: str) -> None:
        """Send no request for as long as the server asks, at most ``MAX_WAIT_SECONDS``."""
        until = asyncio.get_running_loop().time() + min(seconds, MAX_WAIT_SECONDS)
        self._paused_until, self._pause_reason = max(self._paused_until, until), reason

    def _give_up_after(self, failures: Sequence[_Retry]) -> None:
        """Raise an error when further attempts are useless."""
        count, latest = len(failures), failures[-1]
        if self.testing and count >= TEST_ATTEMPTS and all(one.status == 500 for one in failures):
            raise Refused(f"{self.name} fails on the request: {latest}")  # another form of it may not
        silent = not self.waits and count > 1 and failures[-2].silent and latest.silent
        if silent or count >= MAX_ATTEMPTS:
            raise Unavailable(f"{self.name} did not answer after {count} attempts: {latest}")

    async def check_model(self, model: str) -> None:
        """Raise a ModelError if the server has a list of models without ``model``."""
        try:
            listed = (await self._once("GET", "models", None)).get("data")
        except (QkdError, _Retry):
            return
        listed = listed if isinstance(listed, list) else []
        known = [str(one["id"]) for one in listed if isinstance(one, Mapping) and "id" in one]
        if known and model not in known:
            raise ModelError(f"the server {self.name} has no model '{model}'{nearest(model, known)}")

    async def close(self) -> None:
        """Close all connections; the next request may come from another event loop."""
        for client in self._idle:
            await client.aclose()
        self._slots, self._idle = asyncio.Semaphore(self.spec.api_concurrency), []

    def _connect(self) -> httpx.AsyncClient:
        """Return a client for one connection. The time that a pool needs grows with the square of its connections."""
        import httpx

        key, auth = os.environ.get(self.spec.api_key_env, "").strip(), self._auth if any(self._auth) else None
        if not (key.isascii() and key.isprintable()):  # httpx would quote it
            raise ModelError(f"the key in {self.spec.api_key_env} contains characters that no key has")
        return httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key and not auth else {},
            auth=auth,
            timeout=None,  # ``_read`` limits the whole
            verify=self._url.scheme == "https" and _tls(),
            transport=self._transport,
        )

    async def _once(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        """Send one request and return its JSON object."""
        while (seconds := self._paused_until - asyncio.get_running_loop().time()) > 0:
            await self._wait(seconds, self._pause_reason)
        url = urljoin(self.name.rstrip("/") + "/", path)
        async with self._slots:
            client = self._idle.pop() if self._idle else self._connect()
            try:
                status, headers, content = await _read(client, method, url, body, self.spec.api_timeout)
            finally:
                self._idle.append(client)
        for kind in ("requests", "tokens"):
            if headers.get(f"x-ratelimit-remaining-{kind}") == "0":
                self._pause(_seconds(headers.get(f"x-ratelimit-reset-{kind}", "")), f"no {kind} remain")
        if status in RETRIED_STATUS:
            raise _Retry(
                f"HTTP {status}: {self._reason(content, body)}", _seconds(headers.get("retry-after", "")), status
            )
        if status in (401, 403):
            raise ServiceError(
                f"{self.name} rejects the key (HTTP {status}); set the environment variable {self.spec.api_key_env}, "
                "or name another one with --api-key-env"
            )
        if status >= 400:
            raise Refused(f"{url} rejects the request (HTTP {status}): {self._reason(content, body)}")
        if status >= 300:
            to = safe_url(headers.get("location", ""))
            raise Refused(f"{self.name} redirects to '{to}' (HTTP {status}); give that URL as --api-url")
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError):
            shown = self._reason(content[:80], body)
            raise Refused(f"{self.name} answers no JSON but '{shown}'; is the URL right?") from None
        if not isinstance(answer, dict):
            raise Refused(f"{self.name} answers JSON that is no object; is the URL right?")
        return answer

    def _reason(self, content: bytes, body: Mapping[str, Any] | None) -> str:
        """Return the message of an error response, shortened; one that quotes the request or the key is not shown."""
        text = content[:20_000].decode("utf8", "replace")
        try:
            answer = json.loads(text)
            error = answer.get("error") or answer.get("message") or answer.get("detail") or ""  # detail is FastAPI's
            errors = error if isinstance(error, list) else [error]
            text = "; ".join(
                str(one.get("message") or one.get("msg") or "") if isinstance(one, dict) else str(one) for one in errors
            )
        except (ValueError, RecursionError, AttributeError):
            pass
        text = " ".join(text.split())[:200] or "no reason given"
        # the key, user name and password, and the form in which httpx sends the latter two
        sent = base64.b64encode(":".join(self._auth).encode()).decode()
        secrets = [
            os.environ.get(self.spec.api_key_env, "").strip(),
            *self._auth,
            *self._url.netloc.split("@")[:-1],
            sent,
        ]
        secret = quotes(text, body) or any(part in text for part in secrets if part)
        return "the reason quotes the request" if secret else text


@cache
def _tls() -> ssl.SSLContext:
    """Return the certificates that httpx trusts; reading them takes as long as dozens of requests."""
    import httpx

    return httpx.create_ssl_context()


async def _read(
    client: httpx.AsyncClient, method: str, url: str, body: Mapping[str, Any] | None, timeout: float
) -> tuple[int, Mapping[str, str], bytes]:
    """Return status, headers and at most ``MAX_RESPONSE_BYTES`` of the content."""
    import httpx

    content = bytearray()
    try:
        async with asyncio.timeout(timeout), client.stream(method, url, json=body) as response:
            async for part in response.aiter_bytes():
                content += part
                if len(content) > MAX_RESPONSE_BYTES:
                    raise Refused(f"the answer exceeds {MAX_RESPONSE_BYTES:,} bytes")
            return response.status_code, response.headers, bytes(content)
    except TimeoutError:
        raise _Retry(f"no complete answer within {timeout:g} s", silent=True) from None
    except (httpx.HTTPError, OSError) as error:
        silent = isinstance(error, httpx.ConnectError)
        raise _Retry(f"{type(error).__name__}: {error}", silent=silent) from None


def safe_url(url: str) -> str:
    """Return ``url`` without user name, password, query and fragment."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return urlunsplit((parts.scheme, host + (f":{parts.port}" if parts.port else ""), parts.path, "", ""))


def _seconds(value: str) -> float:
    """Return the seconds of a number, of a date, as in ``Retry-After``, or of a duration like ``1m30s``; 0 if none."""
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value):
        return float(value)
    units = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
    if re.fullmatch(r"(\d{1,9}(\.\d{1,9})?(ms|s|m|h))+", value):
        return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)(ms|s|m|h)", value))
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0
