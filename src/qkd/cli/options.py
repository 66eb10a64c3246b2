"""Options that several commands share, options generated from the fields of ``Config``, and their help in panels."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand

from qkd.core.config import Config, fields
from qkd.core.errors import ConfigError
from qkd.core.specs import Spec

PANELS = {
    "data": "Data",
    **dict.fromkeys(("teacher", "prompt", "api", "lora", "models"), "Teacher"),
    "encoder": "Encoder",
    **dict.fromkeys(("student", "loss"), "Student"),
    "train": "Training",
    "engine": "Simulation",
    "device": "Device",
    "run": "Run",
}
"""Title of the options of each section of ``Config``."""
FIRST = {
    *("data", "text_column", "label_column", "teacher", "encoder", "circuit", "qubits", "epochs", "sim", "device"),
    *("name", "config", "resume", "out", "students", "seeds", "tune", "over", "trials", "help", "help_all"),
}
"""Options on the first help page of a command that has those of ``Config``; ``--help-all`` shows the others."""
_debug = False


def debug() -> bool:
    """Return whether ``--debug`` was given: exceptions show their traceback."""
    return _debug


def _set_debug(value: bool) -> bool:
    global _debug
    _debug = _debug or value
    return value


def _set_quiet(value: bool) -> bool:
    from qkd.core.console import set_quiet

    set_quiet(value)
    return value


Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print results only.", callback=_set_quiet)]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.", callback=_set_debug, is_eager=True)]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Defer = Annotated[
    str | None,
    typer.Option(
        help="Error rate allowed, or 'teacher' for the teacher's; texts of which the student is less sure are deferred."
    ),
]
RunArgument = Annotated[Path, typer.Argument(help="A run folder.", show_default=True)]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="A TOML file with any of these settings.", rich_help_panel="Run")
]


def risk_of(defer: str | None) -> float | Literal["teacher"] | None:
    """Return the value of ``--defer``.

    Raises:
        ConfigError: It is neither a number nor ``teacher``.
    """
    try:
        return None if defer is None else "teacher" if defer == "teacher" else float(defer)
    except ValueError:
        raise ConfigError(f"--defer {defer}: give an error rate such as 0.05, or 'teacher'") from None


class PanelCommand(TyperCommand):
    """A command whose help shows the first options in panels, and all of them with ``--help-all``."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, grouped by panel."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            is_argument = parameter.param_type_name == "argument"
            record = parameter.get_help_record(ctx)
            if record and (is_argument or ctx.meta.get("all") or parameter.name in FIRST):
                panel = "Arguments" if is_argument else getattr(parameter, "rich_help_panel", None) or "Other options"
                panels.setdefault(panel, []).append(record)
        order = ["Arguments", *dict.fromkeys(PANELS.values()), "Other options"]
        for panel in sorted(panels, key=order.index):
            with formatter.section(panel):
                formatter.write_dl(panels[panel])


def _show_all(ctx: typer.Context, value: bool) -> bool:
    if value:
        ctx.meta["all"] = True
        typer.echo(ctx.get_help())
        raise typer.Exit
    return value


HelpAll = Annotated[
    bool, typer.Option("--help-all", help="Show all options and exit.", callback=_show_all, is_eager=True)
]


def help_of(spec: type[Spec], key: str) -> str:
    """Return the sentence of a setting."""
    return str(spec.model_fields[key].description)


def with_config_options(
    command: Callable[..., None], sections: Container[str] = tuple(Config.model_fields)
) -> Callable[..., None]:
    """Return ``command`` with an option for every field of ``Config``, or of some of its ``sections``.

    ``command`` receives the options that were typed as the keyword argument ``given``, a dictionary by field.
    """
    hints = get_type_hints(command, include_extras=True)
    own = [
        p.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, p in inspect.signature(command).parameters.items()
        if name != "given"
    ]
    made = []
    for section, name, field in fields():
        if section not in sections:
            continue
        default = "" if field.default is None else f" [default: {_shown(field.default)}]"
        flag = f"--{name.replace('_', '-')}"
        kind = typer.Option(
            f"{flag}/--no-{flag[2:]}" if field.annotation is bool else flag,
            help=f"{field.description}{default}",
            show_default=False,
            metavar=_metavar(field.annotation),
            rich_help_panel=PANELS[section],
        )
        annotation: Any = Annotated[plain_type(field.annotation) | None, kind]
        made.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))

    made.append(inspect.Parameter("help_all", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=HelpAll))

    def run(**arguments: Any) -> None:
        arguments.pop("help_all")
        given = {p.name: arguments.pop(p.name) for p in made[:-1]}
        command(**arguments, given={name: value for name, value in given.items() if value is not None})

    signature = inspect.Signature(own + made)
    run.__signature__ = signature  # type: ignore[attr-defined]
    run.__annotations__ = {name: p.annotation for name, p in signature.parameters.items()}
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run


def _shown(default: Any) -> str:
    """Return a default as a user would type it."""
    if isinstance(default, bool):
        return "yes" if default else "no"
    return ", ".join(default) if isinstance(default, tuple) else str(default)


def _metavar(annotation: Any) -> str | None:
    """Return the words to choose from, or the kind of value."""
    if get_origin(annotation) is Literal:
        return "|".join(map(str, get_args(annotation)))
    names = {int: "NUMBER", float: "NUMBER", Path: "PATH", bool: None}
    return names.get(plain_type(annotation), "TEXT")


def plain_type(annotation: Any) -> Any:
    """Return the type of a typed word; the spec itself checks bounds and choices."""
    if get_origin(annotation) is tuple:
        return list[str]
    if get_origin(annotation) is Literal:
        return str
    inner = [argument for argument in get_args(annotation) if argument is not type(None)]
    if inner:
        return plain_type(inner[0])
    return annotation if annotation in (int, float, Path, bool) else str
