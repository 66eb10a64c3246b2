"""The command line: parse, call, print. ``qkd --help`` must stay quick, so commands import what they need."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated

import typer

from qkd.cli import circuits, compare, devices, export, hardware, jobs, options, students, sweep, teach
from qkd.core.errors import QkdError

app = typer.Typer(
    name="qkd",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    help="Distil a large language model's text classifier into a quantum circuit, and run it on a device.",
)
students.register(app)
teach.register(app)
export.register(app)
compare.register(app)
sweep.register(app)
app.add_typer(circuits.app, name="circuits")
app.add_typer(devices.app, name="devices")
app.command()(devices.transpile)
app.command("run-hardware")(hardware.run_hardware)
app.add_typer(jobs.app, name="jobs")


def _show_version(asked: bool) -> None:
    if asked:
        from qkd.core.version import VERSION

        typer.echo(f"qkd {VERSION}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None: ...


INTERRUPTED = 130
"""What a shell expects of a program that Ctrl-C ended."""


def main() -> None:
    """Run the command line; every foreseen mistake ends as one sentence on standard error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # what a terminal of another encoding cannot show becomes a '?'
    try:
        code = app(standalone_mode=False)
    except QkdError as error:
        _fail(str(error), 1)
    except KeyboardInterrupt:
        _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:  # whoever read the results has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error), 1)
    except MemoryError:
        _fail("out of memory; ask for fewer --qubits or a smaller --batch-size", 1)
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # what typer raises for a malformed command line
            error.show()
            sys.exit(error.exit_code)
        if type(error).__name__ == "Abort":
            _fail("interrupted", INTERRUPTED)
        _fail(f"{type(error).__name__}: {error} (unforeseen; run again with --debug to see where)", 70)
    else:
        sys.exit(code or 0)


def _fail(sentence: str, code: int) -> None:
    if options.debug():
        raise  # the exception being handled, with its traceback
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(code)
