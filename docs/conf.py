"""Configuration of the documentation site; the reference of commands and settings is generated here."""

import re
from pathlib import Path
from typing import Any

from typer.main import get_command

from qkd.cli import app
from qkd.core.config import Config
from qkd.core.version import VERSION

HERE = Path(__file__).parent

project = "qkd"
author = "The qkd developers"
release = VERSION
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "qiskit_sphinx_theme"]
html_theme = "qiskit-ecosystem"
html_title = f"qkd {release}"
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # the test suite runs every snippet
autodoc_typehints = "description"
autodoc_member_order = "bysource"
suppress_warnings = ["myst.xref_missing"]


def command_pages() -> str:
    """Return Markdown about every command of the application."""
    lines = ["# Command line", ""]

    def walk(command: Any, words: list[str]) -> None:
        children = getattr(command, "commands", None)
        if children:
            for name in sorted(children):
                walk(children[name], [*words, name])
            return
        lines.extend([f"## `{' '.join(words)}`", "", (command.help or "").strip(), ""])
        rows = [one for one in command.params if getattr(one, "help", None)]
        if rows:
            lines.extend(["| option | meaning |", "| --- | --- |"])
            for one in rows:
                names = ", ".join(f"`{name}`" for name in [*one.opts, *one.secondary_opts])
                lines.append(f"| {names} | {cell(one.help)} |")
            lines.append("")

    walk(get_command(app), ["qkd"])
    return "\n".join(lines)


def configuration_page() -> str:
    """Return Markdown about every field of the configuration."""
    lines = ["# Configuration", "", "Every option of `qkd distill` is also a key of a TOML file (`--config FILE`).", ""]
    for section, holder in Config.model_fields.items():
        lines.extend([f"## `[{section}]`", "", "| key | default | meaning |", "| --- | --- | --- |"])
        for key, field in holder.annotation.model_fields.items():
            lines.append(f"| `{key}` | `{field.get_default(call_default_factory=True)}` | {cell(field.description)} |")
        lines.append("")
    return "\n".join(lines)


def cell(text: str | None) -> str:
    """Return a text for one cell of a table."""
    return re.sub(r"\s+", " ", text or "").replace("|", "\\|")


(HERE / "reference" / "cli.md").write_text(command_pages(), "utf8")
(HERE / "reference" / "configuration.md").write_text(configuration_page(), "utf8")
