"""Foreign text, such as labels and file names, in Markdown and HTML, without becoming markup."""

from __future__ import annotations

import re

from qkd.core.console import printable

_INLINE = re.compile(r"[\\`*<|~$]|(?<![^\W_])_|_(?![^\W_])|\[(?=[^\]]*\][(\[:])|(?<=\])[(:\[]|!(?=\[)|&(?=#?\w+;)")
_START = re.compile(r"(\d*)([#>+=.)-])(?=\s|$)")


def markdown_text(text: object) -> str:
    """Return one line of Markdown that shows the text without interpretation."""
    line = _INLINE.sub(r"\\\g<0>", " ".join(printable(str(text)).split()))
    return _START.sub(r"\1\\\2", line, count=1) if _START.match(line) and line != "-" else line


def markdown_code(text: object) -> str:
    """Return a text as Markdown code, fenced by one more backtick than it has in a row."""
    line = " ".join(printable(str(text)).split())
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{fence} {line} {fence}" if "`" in line else f"`{line}`"


def markdown_block(text: str) -> list[str]:
    """Return the lines of a Markdown code block, fenced by more backticks than it has in a row."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return [fence, *printable(text).split("\n"), fence]
