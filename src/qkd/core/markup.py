"""Foreign text, such as labels and file names, in Markdown and HTML, without becoming markup."""

from __future__ import annotations

import re

_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_INLINE = re.compile(r"[\\`*<|~$]|(?<![^\W_])_|_(?![^\W_])|\[(?=[^\]]*\][(\[:])|(?<=\])[(:\[]|!(?=\[)|&(?=#?\w+;)")
_START = re.compile(r"(\d*)([#>+=.)-])(?=\s|$)")


def visible(text: str) -> str:
    """Return a text with control characters and reordering marks as visible escapes."""
    return _CONTROLS.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


def markdown_text(text: object) -> str:
    """Return a text as one line of Markdown that shows it as it is."""
    line = _INLINE.sub(r"\\\g<0>", " ".join(visible(str(text)).split()))
    return _START.sub(r"\1\\\2", line, count=1) if _START.match(line) and line != "-" else line


def markdown_code(text: object) -> str:
    """Return a text as Markdown code, fenced by one more backtick than it has in a row."""
    line = " ".join(visible(str(text)).split())
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{fence} {line} {fence}" if "`" in line else f"`{line}`"


def markdown_block(text: str) -> list[str]:
    """Return the lines of a Markdown code block, fenced by more backticks than it has in a row."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return [fence, *visible(text).split("\n"), fence]
