"""A qkd in a process of its own that gets a signal at a point of its work, however fast the machine is."""

import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

SCRIPT = """
import importlib, signal, sys
number, target, times, words = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4:]
module, _, path = target.partition(":")
*parents, name = path.split(".")
holder = importlib.import_module(module)
for part in parents:
    holder = getattr(holder, part)
real = getattr(holder, name)

def then_signal(*arguments, **options):
    global times
    value = real(*arguments, **options)
    times -= 1
    if times == 0:
        signal.raise_signal(number)
    return value

setattr(holder, name, then_signal)
sys.argv = ["qkd", *words]
from qkd.cli import main
main()
"""


def signalled(
    words: Sequence[str],
    after: str,
    times: int = 1,
    number: signal.Signals = signal.SIGKILL,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess:
    """Run ``qkd WORDS`` and send it a signal right after the call number ``times`` of ``MODULE:FUNCTION``."""
    script = [sys.executable, "-c", SCRIPT, str(int(number)), after, str(times), *words]
    done = subprocess.run(script, capture_output=True, text=True, env=env)
    if number == signal.SIGKILL:
        assert done.returncode == -signal.SIGKILL, f"it ended before it could be killed\n{done.stderr}"
    return done
