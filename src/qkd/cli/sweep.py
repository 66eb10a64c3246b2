"""``qkd sweep``."""

from __future__ import annotations

from typing import Annotated

import typer

from qkd.cli.compare import Base, Ray, show
from qkd.cli.options import Debug, Json, PanelCommand, Quiet, help_of, with_config_options
from qkd.core.specs import validated
from qkd.experiments.specs import SweepSpec
from qkd.pipeline.settings import Options


def sweep(
    base: Base = None,
    *,
    over: Annotated[list[str] | None, typer.Option(help=help_of(SweepSpec, "over"))] = None,
    trials: Annotated[int, typer.Option(help=help_of(SweepSpec, "trials"))] = 50,
    goal: Annotated[str, typer.Option(help=help_of(SweepSpec, "goal"))] = "accuracy",
    prune: Annotated[bool, typer.Option(help=help_of(SweepSpec, "prune"))] = True,
    parallel: Annotated[int, typer.Option(help=help_of(SweepSpec, "parallel"))] = 8,
    seeds: Annotated[int, typer.Option(help=help_of(SweepSpec, "seeds"))] = 5,
    sweep_seed: Annotated[int, typer.Option(help=help_of(SweepSpec, "sweep_seed"))] = 0,
    ray: Ray = None,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    given: Options,
) -> None:
    """Search settings of the student by the validation texts, and compare the best on the test texts.

    Example: qkd sweep runs/latest --over lr=0.001..0.1 --over layers=1..3 --trials 30
    """
    from qkd import studies
    from qkd.reports import sweep as pages

    values = {
        "trials": trials,
        "goal": goal,
        "prune": prune,
        "parallel": parallel,
        "seeds": seeds,
        "sweep_seed": sweep_seed,
    }
    spec = validated(SweepSpec, values | ({"over": over} if over else {}))
    show(studies.sweep(base, spec, ray=ray, **given), pages.sweep_text, json_, quiet)


def register(app: typer.Typer) -> None:
    """Add this file's command to ``app``."""
    app.command("sweep", cls=PanelCommand)(with_config_options(sweep))
