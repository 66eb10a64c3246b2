"""``qkd teach``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from qkd.cli.options import ConfigFile, Debug, Json, PanelCommand, Quiet, with_config_options
from qkd.core.console import write
from qkd.pipeline.settings import Options

SECTIONS = ("data", "teacher", "prompt", "api", "lora", "models", "encoder")


def teach(
    *,
    out: Annotated[Path, typer.Option(help="Parquet file of the logits, for --teacher logits:FILE.")],
    config: ConfigFile = None,
    torch_device: Annotated[str | None, typer.Option(help="Device of torch: cpu, cuda, cuda:1, ...")] = None,
    ray: Annotated[
        str | None,
        typer.Option(help="Ray cluster for the work: its address, or 'local' (needs qkd-llm[ray])."),
    ] = None,
    embed: Annotated[
        bool, typer.Option("--embed", help="Embed the texts too, so that distill finds both cached.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the tokens and the cost of an api: teacher and stop.")
    ] = False,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    given: Options,
) -> None:
    """Let a teacher label texts; the logits are cached, so an interrupted labeling continues.

    Example: qkd teach --data texts.csv --teacher probe:smollm2-135m --out logits.parquet
    """
    from qkd import api
    from qkd.core.config import read_config

    base = read_config(config) if config else None
    if dry_run:
        write(api.estimate_cost(base, **given))
        return
    done = api.teach(out, base, torch_device=torch_device, ray=ray, embed=embed, **given)
    if json_:
        write(json.dumps(done.to_dict(), indent=2))
        return
    counts = ", ".join(f"{name} {count:,}" for name, count in done.predicted.items())
    write(
        f"{done.file}: logits of {done.texts:,} texts and {len(done.classes)} classes by "
        f"{done.teacher.name}, accuracy on the validation split {done.valid_accuracy:.3f} "
        f"(chance, the most frequent label: {done.valid_chance:.3f}), "
        f"{done.seconds:.1f} s ({done.texts / max(done.seconds, 1e-9):,.0f} texts/s)\n"
        f"labels given: {counts}"
    )


def register(app: typer.Typer) -> None:
    """Add this file's command to ``app``."""
    app.command("teach", cls=PanelCommand)(with_config_options(teach, SECTIONS))
