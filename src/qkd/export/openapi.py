"""The OpenAPI description of ``qkd serve``, as JSON and as a page that needs no network."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from qkd.core.version import VERSION

# Limits on one request.
MAX_TEXTS, MAX_TEXT_CHARACTERS = 1000, 100_000


def describe_server(classes: Sequence[str]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 description of the server."""
    text = {"type": "string", "maxLength": MAX_TEXT_CHARACTERS}
    prediction = {
        "type": "object",
        "properties": {
            "label": {"type": "string", "enum": list(classes)},
            "probability": {"type": "number"},
            "probabilities": {"type": "object", "additionalProperties": {"type": "number"}},
            "deferred": {
                "type": ["boolean", "null"],
                "description": "Whether the student is too unsure to answer.",
            },
        },
    }
    error = {"type": "object", "properties": {"error": {"type": "string"}}}
    answers = {"type": "object", "properties": {"predictions": {"type": "array", "items": prediction}}}

    def response(description: str, schema: dict[str, Any]) -> dict[str, Any]:
        return {"description": description, "content": {"application/json": {"schema": schema}}}

    one = {"type": "object", "required": ["text"], "properties": {"text": text}}
    many = {
        "type": "object",
        "required": ["texts"],
        "properties": {"texts": {"type": "array", "maxItems": MAX_TEXTS, "items": text}},
    }
    predict = {
        "summary": "Classify one text or many.",
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"oneOf": [one, many]}}}},
        "responses": {
            "200": response("One prediction for each text, in order.", answers),
            "400": response("The body is not JSON.", error),
            "413": response("The body, a text or the number of texts is too large.", error),
            "422": response("The body has no texts.", error),
            "503": response("Too many texts are waiting.", error),
        },
    }
    health = {"summary": "State and label names.", "responses": {"200": {"description": "The server answers."}}}
    info = {"title": "qkd student", "version": VERSION, "description": f"Labels: {', '.join(classes)}."}
    return {"openapi": "3.1.0", "info": info, "paths": {"/predict": {"post": predict}, "/health": {"get": health}}}


def render_page(classes: Sequence[str], schema: dict[str, Any], url: str) -> str:
    """Return the description of the server at ``url`` as a page that needs no network."""
    labels = ", ".join(html.escape(name) for name in classes)
    example = f"""curl -s {url}predict -H 'Content-Type: application/json' -d '{{"text": "a text"}}'"""
    operations = "".join(
        f"<h2>{method.upper()} {path}</h2><p>{html.escape(operation['summary'])}</p>"
        + "".join(
            f"<p><code>{status}</code> {html.escape(answer['description'])}</p>"
            for status, answer in operation["responses"].items()
        )
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    )
    style = (
        ":root { color-scheme: light dark } body { font: 16px/1.5 system-ui, sans-serif; max-width: 48rem;"
        " margin: 2rem auto; padding: 0 1rem } pre { overflow-x: auto; padding: .8rem; border: 1px solid gray;"
        " border-radius: 8px } h2 { font-size: 1.1rem; margin: 1.6rem 0 .2rem } p { margin: .2rem 0 }"
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>qkd student</title><style>{style}</style>"
        f"<h1>qkd student</h1><p>Labels: {labels}.</p><pre>{html.escape(example)}</pre>{operations}"
        '<p>The machine-readable description is <a href="/openapi.json">openapi.json</a>.</p></html>'
    )
