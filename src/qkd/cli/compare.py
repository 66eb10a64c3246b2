"""``qkd compare``, ``qkd reproduce`` and ``qkd sweep``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from qkd.cli.options import ConfigFile, Json, print_json
from qkd.core.config import read_config
from qkd.core.console import is_quiet, write
from qkd.core.specs import Spec, option
from qkd.experiments.specs import CompareSpec, SweepSpec
from qkd.pipeline.settings import Options

if TYPE_CHECKING:
    from qkd.reports.pages import Report
    from qkd.results import Comparison, Sweep

S = TypeVar("S", "Comparison", "Sweep")
Ray = Annotated[str | None, typer.Option(help="Ray cluster for the trials: its address, or 'local'.")]
Base = Annotated[Path | None, typer.Argument(help="A run folder or a TOML file to start from.")]


class ReproduceSpec(Spec):
    """Settings of ``qkd reproduce`` in addition to the paper's recipe."""

    seeds: int = option(10, CompareSpec.model_fields["seeds"].description or "")
    students: tuple[str, ...] = option(("hardware", "linear", "logreg"), "Other students, as for compare.")
    deviations: tuple[str, ...] = option(
        ("padding", "js", "carried"), "Deviations of the public code to run: padding, js, carried, or none."
    )
    tune: int = option(0, CompareSpec.model_fields["tune"].description or "")


def compare(base: Base = None, *, spec: CompareSpec, ray: Ray = None, json_: Json = False, given: Options) -> None:
    """Compare students over several seeds.

    All students train on the same texts, and intervals decide which differences are significant.

    Example: qkd compare runs/latest --students hardware,linear,logreg --seeds 5
    """
    from qkd import studies
    from qkd.reports.comparison import report

    _show(studies.compare(base, spec, ray=ray, **given), report, json_)


def reproduce(
    recipe: Annotated[str, typer.Argument(help="The recipe: qdllm.")] = "qdllm",
    *,
    spec: ReproduceSpec,
    config: ConfigFile = None,
    ray: Ray = None,
    json_: Json = False,
    given: Options,
) -> None:
    """Reproduce the paper's recipe.

    The recipe, the deviations of its public code and other students train on the same texts.

    Example: qkd reproduce qdllm --data qdllm:FOLDER
    """
    from qkd import studies
    from qkd.reports.comparison import report

    base = read_config(config) if config else None
    deviations = () if spec.deviations == ("none",) else spec.deviations
    options: dict[str, Any] = {**dict(spec), "deviations": deviations, **given}
    _show(studies.reproduce(recipe, base, ray=ray, **options), report, json_)


def sweep(base: Base = None, *, spec: SweepSpec, ray: Ray = None, json_: Json = False, given: Options) -> None:
    """Search settings of the student.

    The validation texts select the best trial, and the test texts judge it.

    Example: qkd sweep runs/latest --over lr=0.001..0.1 --over layers=1..3 --trials 30
    """
    from qkd import studies
    from qkd.reports.sweep import report

    _show(studies.sweep(base, spec, ray=ray, **given), report, json_)


def _show(study: S, report: Callable[[S], Report], json_: bool) -> None:
    """Print the result of a study, as text or JSON."""
    if json_:
        print_json(study.to_dict())
        return
    write(report(study).to_text())
    if not is_quiet():
        write(f"report: {study.report}")
