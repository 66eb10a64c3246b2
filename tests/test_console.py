"""Messages during work, quiet mode, and the display of foreign text."""

import logging
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress

import pytest

from qkd.core.console import log, one_line, printable, progress, set_quiet, suppressed_output

HOSTILE = "\x1b[31mred\x1b[0m\rover\nforged: 0.99\tx\x9b2J\u202eback\u2028line\ud800\x00\x7f"


def test_a_silence_ends_where_it_began(capsys):
    @suppressed_output()
    def quietly():
        log.info("unheard")

    quietly()
    quietly()
    log.info("heard")
    assert capsys.readouterr().err == "heard\n"
    set_quiet(True)
    quietly()
    log.info("unheard still")
    log.warning("heard nevertheless")
    assert capsys.readouterr().err == "warning: heard nevertheless\n"


def test_no_text_moves_the_cursor_or_forges_a_line(capsys):
    for shown in (one_line(HOSTILE), printable(HOSTILE).replace("\n", "").replace("\t", "")):
        assert shown.isprintable() and r"\x1b[31mred" in shown and r"\u202e" in shown
    assert "\n" not in one_line(HOSTILE) and "\n" in printable(HOSTILE)
    assert one_line("Ünïcode, 中文, emoji 🙂 and a tab") == "Ünïcode, 中文, emoji 🙂 and a tab"
    log.error("%s", HOSTILE)
    with progress(HOSTILE, 1, HOSTILE) as bar:
        bar.advance(1, HOSTILE)
    lines = capsys.readouterr().err.split("\n")
    assert len(lines) == 3 and all(line.isprintable() for line in lines)


def test_the_log_is_one_that_a_program_can_read(said):
    log.info("one")
    logging.getLogger("qkd").warning("%d texts", 3)
    assert said() == ["one", "3 texts"]


WORK = (
    "import sys; from pathlib import Path; from qkd.core.console import log, progress, write\n"
    "for number in range(3000): log.info(f'{number} ' * 20)\n"
    "log.warning('almost done')\n"
    "with progress('work', 3) as bar: bar.advance(3)\n"
    "for number in range(3000): write(f'{number} ' * 20)\n"
    "Path(sys.argv[1]).write_text('done')\n"
)


@pytest.mark.parametrize("closed", ["2>&-", ">&-", ">&- 2>&- <&-", "2>&1 | head -1", "2>&1 >/dev/full", ">/dev/full"])
def test_work_ends_though_nobody_reads_what_it_says(tmp_path, closed):
    done = tmp_path / "done"
    command = ["sh", "-c", f'"$0" -c "$1" "$2" {closed}', sys.executable, WORK, str(done)]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert done.read_text() == "done" and "Traceback" not in ended.stderr


def test_a_command_whose_streams_are_closed_keeps_its_files_clean(tmp_path):
    out = tmp_path / "fez.qasm"
    words = f"transpile hardware --qubits 2 --device fake_manila --out {out}"
    ended = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m qkd {words} >&- 2>&- <&-"], capture_output=True, text=True
    )
    assert ended.returncode == 0, ended
    assert "OPENQASM 3" in out.read_text() and "equal to the logical" not in out.read_text()


SILENT = (
    "import time; from qkd.core.console import heartbeat, held, log, write\n"
    "with heartbeat():\n"
    "    log.info('begin'); time.sleep(2.2); write('end')\n"
    "    with held(): time.sleep(2.2)\n"
)


def test_a_silent_command_counts_seconds_on_a_terminal_and_nowhere_else():
    master, slave = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", SILENT], stdout=slave, stderr=slave) as process:
        os.close(slave)
        shown = b""
        with suppress(OSError):  # the end of a terminal
            while part := os.read(master, 1000):
                shown += part
    os.close(master)
    begin, *counts, end = shown.decode().split("\r")
    assert process.returncode == 0 and begin == "begin" and (end, counts[-1]) == ("\n", "\x1b[Kend")
    assert counts[1:-1] and all(re.fullmatch(r"\x1b\[Kworking: \d s", line) for line in counts[1:-1])
    done = subprocess.run([sys.executable, "-c", SILENT], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("end\n", "begin\n")
