"""The command line: parse, call, print. ``qkd --help`` must stay quick, so commands import what they need."""

from __future__ import annotations

import gc
import io
import os
import sys
from typing import Annotated

import typer

from qkd.cli import circuits, compare, devices, doctor, export, hardware, jobs, options, students
from qkd.cli.options import command
from qkd.core import console
from qkd.core.config import Config
from qkd.core.errors import QkdError, speak_options
from qkd.core.files import as_os_error
from qkd.experiments.specs import CompareSpec, SweepSpec
from qkd.hardware.request import DeviceRunRequest

app = typer.Typer(
    name="qkd",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    help="Distill a large language model's text classifier into a quantum circuit, and run it on a device.",
)
command(app, sections=Config.model_fields)(students.distill)
command(app)(students.evaluate)
command(app, spec=students.PredictSpec)(students.predict)
command(app, spec=students.TeachSpec, sections=students.TEACHING)(students.teach)
command(app, spec=export.FormatSpec)(export.export)
command(app)(export.serve)
command(app, spec=CompareSpec, sections=Config.model_fields, commas=True)(compare.compare)
command(app, spec=compare.ReproduceSpec, sections=Config.model_fields, commas=True)(compare.reproduce)
command(app, spec=SweepSpec, sections=Config.model_fields)(compare.sweep)
command(app)(doctor.doctor)
app.add_typer(doctor.app, name="cache")
app.add_typer(circuits.app, name="circuits")
app.add_typer(devices.app, name="devices")
command(app, spec=devices.TranspileSpec)(devices.transpile)
command(app, "run-hardware", spec=DeviceRunRequest)(hardware.run_hardware)
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
"""Exit code that a shell expects after Ctrl-C."""
UNREAD = 1
"""Exit code when standard output was closed before the end of the results."""
UNFORESEEN = 70


def main() -> None:
    """Run the command line; every foreseen mistake ends as one sentence on standard error."""
    speak_options()
    _open_streams()
    try:
        code = app(standalone_mode=False)
    except QkdError as error:
        _fail(str(error), 1)
    except KeyboardInterrupt:
        _fail("interrupted", INTERRUPTED)
    except MemoryError:
        _fail("out of memory; ask for fewer --qubits or a smaller --batch-size", 1)
    except BrokenPipeError:
        sys.exit(UNREAD)
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # a malformed command line
            error.show()
            if type(error).__name__ == "NoSuchOption" and sys.argv[1:2] == ["predict"]:
                console.fail("write 'qkd predict -- TEXT' for a text that starts with '-'")
            sys.exit(error.exit_code)
        if type(error).__name__ == "Abort":
            _fail("interrupted", INTERRUPTED)
        if isinstance(system := as_os_error(error), OSError):
            _fail(f"{system.filename}: {system.strerror}" if system.filename else str(system.strerror or system), 1)
        _fail(f"{type(error).__name__}: {error} (unforeseen; run again with --debug to see where)", UNFORESEEN)
    else:
        sys.exit(code or (UNREAD if console.is_closed() else 0))
    finally:
        gc.freeze()  # the end of a process would else search millions of objects of libraries for cycles


def _open_streams() -> None:
    """Give the process three standard streams: a closed one would become the first file that is opened."""
    for name, descriptor in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, os.fdopen(descriptor, "r" if descriptor == 0 else "w", encoding="utf-8", closefd=False))
        elif isinstance(stream, io.TextIOWrapper) and descriptor:
            stream.reconfigure(errors="replace")  # a terminal of another encoding shows '?'


def _fail(sentence: str, code: int) -> None:
    if options.debug():
        raise  # the exception being handled, with its traceback
    console.fail(sentence)
    sys.exit(code)
