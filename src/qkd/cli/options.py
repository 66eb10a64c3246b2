"""Commands whose options are generated from the fields of specs, options that they share, and their help in panels."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Callable, Collection
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from typer.core import TyperCommand
from typer.models import ArgumentInfo

from qkd.core import workers
from qkd.core.config import fields
from qkd.core.console import heartbeat, set_quiet, write
from qkd.core.errors import ConfigError
from qkd.core.specs import Spec, validated

F = TypeVar("F", bound=Callable[..., None])
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
OWN = "Options of this command"
"""Title of the options of a command's own spec."""
FIRST = {
    *("data", "text_column", "label_column", "teacher", "encoder", "circuit", "qubits", "epochs", "sim", "device"),
    *("name", "config", "resume", "out", "students", "seeds", "tune", "over", "trials", "help", "help_all"),
}
"""Options on the first help page of a command that has those of ``Config``; ``--help-all`` shows the others."""
SHORTER = {"continue_from": ("--continue",)}
"""Further spellings of options whose name is a keyword of Python without a suffix."""
LATEST = Path("runs/latest")
_debug = False


def debug() -> bool:
    """Return whether ``--debug`` was given: exceptions show their traceback."""
    return _debug


def _set_debug(value: bool) -> bool:
    global _debug
    _debug = _debug or value
    return value


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
    """A command whose help has panels. With many options it shows the first ones, and all with ``--help-all``."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, grouped by panel."""
        panels: dict[str, list[tuple[str, str]]] = {}
        parameters = self.get_params(ctx)
        is_long = any(one.name == "help_all" for one in parameters)
        rest = "Other options" if is_long else "Options"
        # a command with a spec of its own simulates as that says, and not as --sim
        ignored = {"sim"} if any(getattr(one, "rich_help_panel", None) == OWN for one in parameters) else set()
        for parameter in parameters:
            is_argument = parameter.param_type_name == "argument"
            record = parameter.get_help_record(ctx)
            if record and (is_argument or not is_long or ctx.meta.get("all") or parameter.name in FIRST - ignored):
                panel = "Arguments" if is_argument else getattr(parameter, "rich_help_panel", None) or rest
                panels.setdefault(panel, []).append(
                    (record[0].partition(" <")[0] if is_argument else record[0], record[1])
                )
        order = ["Arguments", OWN, *dict.fromkeys(PANELS.values()), rest]
        for panel in sorted(panels, key=order.index):
            with formatter.section(panel):
                formatter.write_dl(panels[panel])


def _show_all(ctx: typer.Context, value: bool) -> bool:
    if value:
        ctx.meta["all"] = True
        typer.echo(ctx.get_help())
        raise typer.Exit
    return value


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
_COMMON = {
    "quiet": typer.Option("-q", "--quiet", help="Print results only.", callback=lambda value: set_quiet(value)),
    "debug": typer.Option("--debug", help="Show tracebacks.", callback=_set_debug, is_eager=True),
}
_HELP_ALL = typer.Option("--help-all", help="Show all options and exit.", callback=_show_all, is_eager=True)


def print_json(value: Any) -> None:
    """Print a JSON value on several lines."""
    write(json.dumps(value, indent=2))


def command(
    app: typer.Typer,
    name: str | None = None,
    spec: type[Spec] | None = None,
    arguments: Collection[str] = (),
    sections: Collection[str] = (),
    commas: bool = False,
) -> Callable[[F], F]:
    """Return a decorator that adds a command to an application, with ``--quiet``, ``--debug`` and generated options.

    Args:
        app: The application.
        name: The command's name; else that of the function.
        spec: A kind of spec; the function receives one of the typed options as ``spec``.
        arguments: Fields of the spec that are arguments instead of options.
        sections: Sections of ``Config``; the function receives the options that were typed as ``given``, by field.
        commas: Whether a list of the spec is one option with commas, and not one that is repeated.
    """

    def decorate(function: F) -> F:
        own = inspect.signature(function, eval_str=True).parameters.values()
        of_spec = {key: field for key, field in spec.model_fields.items() if key != "kind"} if spec else {}
        of_config = [row for row in fields() if row[0] in sections]
        required = [_parameter(key, of_spec.pop(key), is_argument=True) for key in arguments]
        made = [_parameter(key, field, OWN if sections else None) for key, field in of_spec.items()]
        made += [_parameter(key, field, PANELS[section]) for section, key, field in of_config]
        common = {**_COMMON, "help_all": _HELP_ALL} if sections else _COMMON
        flags = [_keyword(key, Annotated[bool, option], False) for key, option in common.items()]

        def run(**values: Any) -> None:
            given = {p.name: value for p in [*required, *made] if (value := values.pop(p.name)) not in (None, [])}
            if spec is not None:
                mine = {key: given.pop(key) for key in [*arguments, *of_spec] if key in given}
                if commas:
                    mine = {key: _words(value) if isinstance(value, list) else value for key, value in mine.items()}
                values["spec"] = validated(spec, mine)
            for key in common:
                values.pop(key)
            with heartbeat():
                function(**values, **({"given": given} if sections else {}))
                workers.shut_down()  # the end of the process would wait for them without a sign of life

        rest = [_with_metavar(p).replace(kind=p.KEYWORD_ONLY) for p in own if p.name not in ("spec", "given")]
        signature = inspect.Signature([*required, *rest, *made, *flags])
        run.__signature__ = signature  # type: ignore[attr-defined]
        run.__annotations__ = {key: p.annotation for key, p in signature.parameters.items()}
        run.__name__, run.__doc__ = function.__name__, function.__doc__
        app.command(name, cls=PanelCommand)(run)
        return function

    return decorate


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _parameter(name: str, field: FieldInfo, panel: str | None = None, is_argument: bool = False) -> inspect.Parameter:
    """Return the option of a field, or its argument; None means that it was not typed."""
    kind = plain_type(field.annotation)
    if is_argument:
        argument = typer.Argument(help=field.description, metavar=name.upper())
        return _keyword(name, Annotated[kind, argument], inspect.Parameter.empty)
    flag = f"--{name.replace('_', '-')}"
    default = f" [default: {_shown(field.default)}]" if field.default not in (None, ()) else ""
    option = typer.Option(
        f"{flag}/--no-{flag[2:]}" if kind is bool else flag,
        *SHORTER.get(name, ()),
        help=f"{field.description}{default}",
        show_default=False,
        metavar=_metavar(field.annotation),
        rich_help_panel=panel,
    )
    return _keyword(name, Annotated[kind | None, option], None)


def _with_metavar(parameter: inspect.Parameter) -> inspect.Parameter:
    """Return a declared option or argument that names its kind of value as the generated ones do."""
    kind, *infos = get_args(parameter.annotation)
    info = copy.copy(infos[0])
    if not isinstance(info, ArgumentInfo):
        info.metavar = info.metavar or _metavar(kind)
    else:
        info.metavar = parameter.name.upper() + "..." * (get_origin(kind) is list)
    return parameter.replace(annotation=Annotated[kind, info])


def _words(texts: list[str]) -> list[str]:
    return [word.strip() for text in texts for word in text.split(",") if word.strip()]


def _shown(default: Any) -> str:
    """Return a default as a user would type it."""
    if isinstance(default, bool):
        return "yes" if default else "no"
    return ", ".join(map(str, default)) if isinstance(default, tuple) else str(default)


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
    parts = [part for part in get_args(annotation) if part is not NoneType]
    if Literal in (get_origin(annotation), *map(get_origin, parts)):  # words, or a number or a word
        return str
    if parts:
        return plain_type(parts[0])
    return annotation if annotation in (int, float, Path, bool) else str
