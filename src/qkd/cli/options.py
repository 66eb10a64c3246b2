"""Options: the ones that several commands share, and the ones made from the fields of ``Config``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from qkd.core.config import Config, fields
from qkd.core.specs import Spec

_debug = False


def debug() -> bool:
    """Whether ``--debug`` was given: let exceptions show their traceback."""
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
RunArgument = Annotated[Path, typer.Argument(help="A run folder.", show_default=True)]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="A TOML file with any of these settings.")]


def help_of(spec: type[Spec], key: str) -> str:
    """Return the sentence of a setting."""
    return str(spec.model_fields[key].description)


def with_config_options(
    command: Callable[..., None], sections: Container[str] = tuple(Config.model_fields)
) -> Callable[..., None]:
    """Give ``command`` an option for every field of ``Config``, or of some of its ``sections``.

    ``command`` receives those that were given as the keyword argument ``given``, a dictionary by option name
    with underscores.
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
            rich_help_panel=section,
        )
        annotation: Any = Annotated[_plain(field.annotation) | None, kind]
        made.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))

    def run(**arguments: Any) -> None:
        given = {p.name: arguments.pop(p.name) for p in made}
        command(**arguments, given={name: value for name, value in given.items() if value is not None})

    signature = inspect.Signature(own + made)
    run.__signature__ = signature  # type: ignore[attr-defined]
    run.__annotations__ = {name: p.annotation for name, p in signature.parameters.items()}
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run


def _shown(default: Any) -> str:
    """Return a default as it would be typed."""
    return ", ".join(default) if isinstance(default, tuple) else str(default)


def _plain(annotation: Any) -> Any:
    """Return the type that the shell's word becomes; the spec itself checks bounds and choices."""
    if get_origin(annotation) is tuple:
        return list[str]
    if get_origin(annotation) is Literal:
        return str
    inner = [argument for argument in get_args(annotation) if argument is not type(None)]
    if inner:
        return _plain(inner[0])
    return annotation if annotation in (int, float, Path, bool) else str
