"""A local HTTP server for a run, a student folder or an export: ``/predict``, ``/health`` and an OpenAPI page."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from qkd.core.console import held
from qkd.core.errors import ConfigError, DataError, FolderError, require_extra
from qkd.core.version import VERSION
from qkd.data.dataset import validate_texts
from qkd.export import classify
from qkd.export.openapi import MAX_TEXT_CHARACTERS, MAX_TEXTS, describe_server, render_page
from qkd.export.quick import find_quick
from qkd.export.registry import MANIFEST, read_manifest
from qkd.results import Prediction

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

MAX_BODY_BYTES = 2**20
# Texts of simultaneous requests that are classified together, and how long a request waits for others.
BATCH_TEXTS, BATCH_SECONDS = 256, 0.002
# Texts that may wait; more are answered with status 503.
MAX_WAITING_TEXTS = 10_000
BODY_TIMEOUT_SECONDS = 10.0
MAX_CONNECTIONS = 512


@dataclass(frozen=True)
class Model:
    """A classifier that a server runs.

    Attributes:
        name: Its folder.
        classes: The C label names.
        predict_proba: Function from N texts to probabilities (N,C).
        threshold: Smallest probability of an answer that is not deferred, or None.
    """

    name: str
    classes: tuple[str, ...]
    predict_proba: Callable[[Sequence[str]], np.ndarray]
    threshold: float | None = None


def load_model(target: str | Path, defer: float | Literal["teacher"] | None = None) -> Model:
    """Return the classifier of a run, a student folder or an export; code in the folder is not run.

    Args:
        target: The folder.
        defer: Largest error rate among answered texts, or ``teacher`` for the teacher's; an export has its own.

    Raises:
        QkdError: The folder holds none, or an export that was changed or cannot be served, or every text would be
            deferred.
    """
    folder = Path(target)
    if not (folder / MANIFEST).is_file():
        quick = find_quick(folder) if defer is None else None
        if quick is not None:
            return Model(str(folder), quick.classes, quick.predict_proba)
        from qkd.export.runs import find_threshold
        from qkd.student.bundle import Student

        student = Student.load(folder)
        threshold = None if defer is None else find_threshold(student, defer)
        return Model(str(folder), student.classes, student.predict_proba, threshold)
    if defer is not None:
        raise ConfigError(f"{folder}: an export has its own threshold; export with --defer, or name the run")
    manifest = read_manifest(folder)
    kind, threshold = manifest["format"], manifest.get("threshold")
    if kind == "numpy":
        try:
            loaded = classify.read_export(folder)
        except RuntimeError as error:  # its own error, because the loader knows no other
            raise FolderError(str(error)) from None
        return Model(str(folder), loaded.classes, loaded.predict_proba, threshold)
    if kind == "onnx" and (folder / "tokenizer.json").is_file():
        from qkd.export import onnx_classify

        graph = onnx_classify.read_export(folder)
        return Model(str(folder), graph.classes, graph.predict_proba, threshold)
    raise FolderError(
        f"{folder}: an export to {kind} cannot be served; export to numpy, or to onnx with texts as inputs"
    )


def predict_quickly(
    folder: Path, texts: Sequence[str] = (), file: Path | None = None, text_column: str = "text"
) -> list[Prediction]:
    """Classify texts without torch and Qiskit.

    Args:
        folder: An export to numpy or ONNX, or a run that ``find_quick`` reads.
        texts: Texts.
        file: More texts, as for ``qkd.predict``.
        text_column: Column of the file with the texts.

    Raises:
        QkdError: There are no texts, or the export is damaged or of another format.
    """
    from qkd.data.loading import load_texts

    inputs = validate_texts([*texts, *(load_texts(file, text_column) if file else ())])
    if not inputs:
        raise DataError("no texts to classify: give them as arguments or with --file")
    model = load_model(folder)
    return [
        Prediction(
            text=text,
            label=model.classes[row.argmax()],
            probability=float(row.max()),
            probabilities=dict(zip(model.classes, row.tolist(), strict=True)),
            deferred=None if model.threshold is None else bool(row.max() < model.threshold),
        )
        for text, row in zip(inputs, model.predict_proba(inputs), strict=True)
    ]


class Batcher:
    """Classifies the texts of simultaneous requests together, in a thread of its own.

    Args:
        model: The classifier.
    """

    def __init__(self, model: Model) -> None:
        self._model, self._waiting = model, 0
        self._queue: asyncio.Queue[tuple[list[str], asyncio.Future[np.ndarray]]] = asyncio.Queue()

    async def predict_proba(self, texts: list[str]) -> np.ndarray:
        """Return probabilities (N,C) of N texts.

        Raises:
            OverflowError: Too many texts are waiting.
        """
        if self._waiting + len(texts) > MAX_WAITING_TEXTS:
            raise OverflowError
        future: asyncio.Future[np.ndarray] = asyncio.get_running_loop().create_future()
        self._waiting += len(texts)
        try:
            await self._queue.put((texts, future))
            return await future
        finally:
            self._waiting -= len(texts)

    async def run(self) -> None:
        """Answer requests until the task is cancelled."""
        while True:
            batch = [await self._queue.get()]
            await asyncio.sleep(BATCH_SECONDS)
            while not self._queue.empty() and sum(len(texts) for texts, _ in batch) < BATCH_TEXTS:
                batch.append(self._queue.get_nowait())
            texts = [text for own, _ in batch for text in own]
            try:
                rows = await asyncio.to_thread(self._model.predict_proba, texts)
            except Exception as error:  # one request's failure must not stop the server
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            start = 0
            for own, future in batch:
                if not future.done():
                    future.set_result(rows[start : start + len(own)])
                start += len(own)


def make_app(model: Model) -> Starlette:
    """Return the ASGI application of a classifier.

    Raises:
        ConfigError: starlette or uvicorn is not installed.
    """
    require_extra("a server", "serve", "starlette", "uvicorn")
    from starlette.applications import Starlette
    from starlette.responses import HTMLResponse, JSONResponse
    from starlette.routing import Route

    batcher, started = Batcher(model), time.monotonic()
    schema = describe_server(model.classes)

    async def predict(request: Request) -> Response:
        try:
            texts = _texts(await _body(request))
            rows = await batcher.predict_proba(texts)
        except _Refusal as refusal:
            return JSONResponse({"error": str(refusal)}, refusal.status)
        except OverflowError:
            return JSONResponse({"error": "the server is busy; try again later"}, 503, {"Retry-After": "1"})
        except DataError as error:
            return JSONResponse({"error": str(error)}, 422)
        return JSONResponse({"predictions": [_prediction(model, row) for row in rows]})

    async def health(request: Request) -> Response:
        about = {"status": "ok", "qkd": VERSION, "classes": list(model.classes), "threshold": model.threshold}
        return JSONResponse({**about, "uptime_seconds": round(time.monotonic() - started, 3)})

    async def describe(request: Request) -> Response:
        return JSONResponse(schema)

    async def page(request: Request) -> Response:
        return HTMLResponse(render_page(model.classes, schema, str(request.base_url)))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(batcher.run())
        yield
        task.cancel()

    routes = [
        Route("/predict", predict, methods=["POST"]),
        Route("/health", health),
        Route("/openapi.json", describe),
        Route("/", page),
        Route("/docs", page),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


def serve(
    target: str | Path, host: str = "127.0.0.1", port: int = 8000, defer: float | Literal["teacher"] | None = None
) -> None:
    """Serve a classifier until it is interrupted.

    Args:
        target: A run, a student folder or an export.
        host: Address; the default is reachable from this machine alone.
        port: Port.
        defer: As in ``load_model``.

    Raises:
        QkdError: There is no classifier to serve, or starlette or uvicorn is missing.
    """
    app = make_app(load_model(target, defer))
    import uvicorn

    with held():
        uvicorn.run(
            app, host=host, port=port, limit_concurrency=MAX_CONNECTIONS, timeout_keep_alive=5, log_level="warning"
        )


class _Refusal(Exception):
    """A request that is answered with an error status."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


async def _body(request: Request) -> bytes:
    """Return a request's body.

    Raises:
        _Refusal: It is too large or comes too slowly.
    """

    async def read() -> bytes:
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > MAX_BODY_BYTES:
                raise _Refusal(413, f"the body has more than {MAX_BODY_BYTES:,} bytes; send fewer or shorter texts")
            parts.append(part)
        return b"".join(parts)

    try:
        return await asyncio.wait_for(read(), BODY_TIMEOUT_SECONDS)
    except TimeoutError:
        raise _Refusal(408, f"the body has not arrived within {BODY_TIMEOUT_SECONDS:g} s") from None


def _texts(body: bytes) -> list[str]:
    """Return the texts of a request.

    Raises:
        _Refusal: The body is not ``{"text": ...}`` or ``{"texts": [...]}``, or a limit is exceeded.
    """
    usage = 'send {"text": "..."} or {"texts": ["...", "..."]}'
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise _Refusal(400, f"the body is not JSON; {usage}") from None
    given = value if isinstance(value, dict) else {}
    texts = [given["text"]] if "text" in given else given.get("texts")
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise _Refusal(422, f"the body has no text or texts; {usage}")
    if len(texts) > MAX_TEXTS:
        raise _Refusal(413, f"{len(texts):,} texts are more than {MAX_TEXTS:,}; send several requests")
    longest = max(map(len, texts), default=0)
    if longest > MAX_TEXT_CHARACTERS:
        raise _Refusal(413, f"a text has {longest:,} characters, more than {MAX_TEXT_CHARACTERS:,}; shorten it")
    # A lone surrogate is valid JSON but no text that an encoder reads.
    return [text.encode("utf-8", "replace").decode("utf-8") for text in texts]


def _prediction(model: Model, row: np.ndarray) -> dict[str, Any]:
    top = int(row.argmax())
    shares = {name: round(float(share), 8) for name, share in zip(model.classes, row, strict=True)}
    deferred = None if model.threshold is None else bool(row[top] < model.threshold)
    return {
        "label": model.classes[top],
        "probability": shares[model.classes[top]],
        "probabilities": shares,
        "deferred": deferred,
    }
