"""``qkd run-hardware``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from qkd.cli.device_output import Window, ask, print_device_runs, retry_policy
from qkd.cli.options import Debug, Json, Quiet, plain_type
from qkd.core.specs import Spec, validated
from qkd.hardware.request import DeviceRunRequest

DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the cost and stop; needs no account.")]
NewPlan = Annotated[
    bool, typer.Option("--new-plan", help="Make another plan although one of the same request is unfinished.")
]
Detach = Annotated[bool, typer.Option("--detach", help="Return once the jobs are submitted.")]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Submit without asking.")]


def with_request_options(
    kind: type[Spec], arguments: tuple[str, ...] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that gives a command an option for each field of a request; it receives ``request``.

    Args:
        kind: The kind of request.
        arguments: Fields that are arguments instead of options.
    """
    fields = {name: field for name, field in kind.model_fields.items() if name != "kind"}

    def parameter(name: str) -> inspect.Parameter:
        field, required = fields[name], name in arguments
        text: Any = (
            typer.Argument(help=field.description)
            if required
            else typer.Option(f"--{name.replace('_', '-')}", help=field.description)
        )
        mixed = any(get_origin(part) is Literal for part in get_args(field.annotation))  # a number or a word
        annotation = str if mixed else plain_type(field.annotation)
        optional = annotation if required or field.default is not None else annotation | None
        default = inspect.Parameter.empty if required else field.default
        return inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[optional, text]
        )

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [p for name, p in inspect.signature(command, eval_str=True).parameters.items() if name != "request"]

        def run(**values: Any) -> None:
            request = validated(kind, {name: values.pop(name) for name in fields})
            command(**values, request=request)

        signature = inspect.Signature([*map(parameter, [*arguments, *(f for f in fields if f not in arguments)]), *own])
        run.__signature__ = signature  # type: ignore[attr-defined]
        run.__annotations__ = {name: p.annotation for name, p in signature.parameters.items()}
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        return run

    return decorate


@with_request_options(DeviceRunRequest)
def run_hardware(
    *,
    request: DeviceRunRequest,
    dry_run: DryRun = False,
    new_plan: NewPlan = False,
    window: Window = None,
    detach: Detach = False,
    yes: Yes = False,
    json_: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run a student on a device, or rehearse that: compile, estimate, confirm, submit, collect, report.

    Example: qkd run-hardware --run runs/latest --device ibm_fez --local --samples 20
    """
    from qkd.hardware.run import run as run_

    confirm = ask(skip=dry_run or request.local or yes, silent=quiet or json_)
    policy = retry_policy(window)
    device_runs = run_(request, confirm, detach=detach, dry_run=dry_run, new_plan=new_plan, policy=policy)
    print_device_runs(device_runs, json_)
