"""The page that leads from a defect to its test names tests that there are."""

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent


def test_every_test_that_the_page_names_is_there():
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", (HERE / "README.md").read_text("utf8"))
    assert len(named) > 80
    for file, test in named:
        functions = {node.name for node in ast.parse((HERE / file).read_text("utf8")).body if hasattr(node, "name")}
        assert test in functions, f"{file}::{test}"
