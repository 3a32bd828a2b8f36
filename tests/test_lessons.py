"""Every lesson from top to bottom in a kernel of its own, without a browser, within its time."""
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

LESSONS = sorted((Path(__file__).parents[1] / "nbs/lessons").glob("*.ipynb"))
SECONDS = 180     # for a cell, on a slow machine; a lesson takes some 20 s on a quiet one


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_lesson(path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    notebook = nbformat.read(path, 4)
    NotebookClient(notebook, timeout=SECONDS, resources=dict(metadata=dict(path=path.parent))).execute()
    said = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    assert "No answer yet" in said, "a lesson ends with exercises that are still open"


def test_lessons_open_with_what_they_are_about():
    for path in LESSONS:
        first = nbformat.read(path, 4).cells[0].source
        assert first.startswith("# ") and "\n> " in first, path.name
