"""Every notebook runs from top to bottom with the real models, shows pictures, and is in step with its text."""

from pathlib import Path

import jupytext
import pytest
from nbclient import NotebookClient

from qkd import QkdError
from qkd.models import weights

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.fixture(scope="session")
def models():
    """Fetch the default models unless they are cached; without either, there is nothing to run."""
    try:
        for name in ("smollm2-135m", "minilm"):
            weights.resolve(name)
    except QkdError as error:
        pytest.skip(str(error))


@pytest.mark.slow
@pytest.mark.models
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_notebook_runs(path, tmp_path, models):
    notebook = jupytext.read(path)
    NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_notebook_is_in_step_with_its_text(path):
    text, kept = jupytext.read(path), jupytext.read(path.with_suffix(".ipynb"))
    assert [cell.source for cell in kept.cells] == [cell.source for cell in text.cells]
    assert "site-packages" not in path.with_suffix(".ipynb").read_text("utf8")  # no library's warning, no one's folders
    assert any("image/png" in output.get("data", {}) for cell in kept.cells for output in cell.get("outputs", []))
