"""``qkd export`` and ``qkd serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qkd.cli.options import LATEST, Defer, RunArgument, risk_of
from qkd.core.console import write
from qkd.core.specs import Spec, option


class FormatSpec(Spec):
    """Settings of single export formats."""

    int8: bool = option(False, "Store tables and weights as 8-bit integers.")
    inputs: str = option("texts", "onnx: texts, or embeddings to leave the encoder outside.")
    device: str | None = option(None, "qasm: also compile the circuit for this device.")


def export(
    run: RunArgument = LATEST,
    *,
    spec: FormatSpec,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format", help="numpy, onnx, page or qasm; else numpy, or onnx for an encoder that is a transformer."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The folder of the export; else RUN/exports/FORMAT.")] = None,
    defer: Defer = None,
    check: Annotated[bool, typer.Option(help="Compare the export with the student on the test texts.")] = True,
) -> None:
    """Write a student for software without qkd and torch.

    Example: qkd export runs/latest --out classifier
    """
    from qkd.export.runs import export_run

    done = export_run(run, format_, out, check, risk_of(defer), **dict(spec))
    write(done.describe())


def serve(
    target: Annotated[
        Path, typer.Argument(help="A run, a student, or an export to numpy or onnx.", show_default=True)
    ] = LATEST,
    host: Annotated[str, typer.Option(help="The address; other than loopback is open to the network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port.")] = 8000,
    defer: Defer = None,
) -> None:
    """Answer HTTP requests with a student.

    POST /predict classifies, GET /health returns the state, and / describes both.

    Example: qkd serve runs/latest --port 8000
    """
    from qkd.core.console import log
    from qkd.export import server

    if host not in ("127.0.0.1", "::1", "localhost"):
        log.warning(f"--host {host}: everybody who reaches this address can send texts; there are no accounts")
    log.info(f"http://{host}:{port} (Ctrl-C stops)")
    server.serve(target, host, port, risk_of(defer))
