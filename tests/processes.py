"""``qkd`` in a process of its own, forked from a server that has imported what is slow; killed at a point of its work.

Such a process differs from ``python -m qkd`` in nothing but the seconds that imports take; ``test_cli.py`` starts real
ones. A signal comes right after a call, so no test depends on how fast the machine is.
"""

import importlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

SERVER = get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "qkd.cli",
        "qkd.pipeline.distillation",
        "qkd.studies",
        "qkd.device_runs",
        "qkd.teachers.labeling",
        "qkd.reports.plots",
    ]
)
Moment = tuple[str, int, signal.Signals | OSError | Callable[[int], object]]
"""A function, a number of calls, and what happens then; see ``at_call``."""


def qkd(
    *words: str, check: bool = False, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess:
    """Run ``qkd WORDS`` to its end; with ``check`` it must end well."""
    done = _run(words, cwd, env, None)
    assert not check or done.returncode == 0, f"{done.returncode} {' '.join(words)}\n{done.stderr}"
    return done


def signalled(
    *words: str,
    after: str,
    times: int = 1,
    number: signal.Signals = signal.SIGKILL,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess:
    """Run ``qkd WORDS`` and send it a signal right after the call number ``times`` of ``MODULE:FUNCTION``."""
    done = _run(words, None, env, (after, times, number))
    if number == signal.SIGKILL:
        assert done.returncode == -signal.SIGKILL, f"it ended before it could be killed\n{done.stderr}"
    return done


def at_call(
    *words: str,
    after: str,
    times: int,
    then: signal.Signals | OSError | Callable[[int], object],
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess:
    """Run ``qkd WORDS`` with a fault.

    Args:
        words: the command.
        after: ``MODULE:FUNCTION``.
        times: a number of calls of it.
        then: a signal right after that call; an error in its place and in that of all later ones; or a function of the
            number of calls, which runs after every call.
        env: its environment; the test's when left out.
    """
    return _run(words, None, env, (after, times, then))


def start(
    words: Sequence[str],
    outputs: Sequence[Path] = (),
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    moment: Moment | None = None,
) -> BaseProcess:
    """Start ``qkd WORDS``.

    Args:
        words: the command.
        outputs: files for standard output and standard error; without them they go where the test's go.
        cwd: its working folder; the test's when left out.
        env: its environment; the test's when left out.
        moment: after which call, at which time, it gets which signal.
    """
    arguments = (words, outputs, str(cwd or Path.cwd()), dict(os.environ if env is None else env), moment)
    process = SERVER.Process(target=_main, args=arguments)
    process.start()
    return process


def _run(
    words: Sequence[str], cwd: Path | None, env: Mapping[str, str] | None, moment: Moment | None
) -> subprocess.CompletedProcess:
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder) / name for name in ("stdout", "stderr")]
        process = start(words, outputs, cwd, env, moment)
        process.join()
        stdout, stderr = (path.read_text("utf8") if path.exists() else "" for path in outputs)
        return subprocess.CompletedProcess(words, process.exitcode, stdout, stderr)


def _main(words: Sequence[str], outputs: Sequence[Path], cwd: str, env: dict[str, str], moment: Moment | None) -> None:
    """Be ``python -m qkd WORDS``, in the forked process."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for descriptor, path in enumerate(outputs, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background process begins without it
    if moment is not None:
        _signal_after(*moment)
    sys.argv = ["qkd", *words]
    from qkd.cli import main

    main()


def _signal_after(target: str, times: int, then: signal.Signals | OSError | Callable[[int], object]) -> None:
    module, _, path = target.partition(":")
    *parents, name = path.split(".")
    holder = importlib.import_module(module)
    for parent in parents:
        holder = getattr(holder, parent)
    real, done = getattr(holder, name), 0

    def then_signal(*arguments: object, **options: object) -> object:
        nonlocal done
        done += 1
        if isinstance(then, OSError) and done >= times:
            raise then
        value = real(*arguments, **options)
        if callable(then):
            then(done)
        elif done == times and not isinstance(then, OSError):
            signal.raise_signal(then)
        return value

    setattr(holder, name, then_signal)
