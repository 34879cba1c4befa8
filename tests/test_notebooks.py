"""The notebooks: executed in a kernel of their own, and as they are committed."""

import html
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from optsweep import runs
from optsweep.study.content import outline

TESTS = Path(__file__).resolve().parent
NOTEBOOKS = TESTS.parent / "notebooks"
NAMES = ("quickstart", "study")
EXPERIMENTS = ("r1_init", "b5_gradients", "lr_grid")
MAX_BYTES = 2_500_000


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """`execute(name, **environment)`: the notebook, executed in a copy of its folder."""

    def executed(name: str, **environment: str):
        for key, value in environment.items():
            monkeypatch.setenv(key, value)
        monkeypatch.setenv("PYTHONPATH", str(TESTS.parent))
        monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
        folder = tmp_path / "notebooks"
        folder.mkdir()
        notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
        # Workers of xdist share the cores, so that a kernel may be long in starting.
        patience = {"timeout": 600, "startup_timeout": 300}
        where = {"metadata": {"path": str(folder)}}
        NotebookClient(notebook, kernel_name="python3", resources=where, **patience).execute()
        return notebook

    return executed


def outputs(notebook, cell: str = "") -> list:
    """The outputs of all code cells, or of one."""
    cells = [one for one in notebook.cells if one.cell_type == "code" and cell in ("", one.id)]
    return [output for one in cells for output in one.outputs]


def text(found: list) -> str:
    """All that outputs say, as a reader sees it."""
    said = []
    for output in found:
        kinds = output.get("data", {})
        said.append(output.get("text") or kinds.get("text/markdown") or kinds.get("text/html", ""))
    return html.unescape("\n".join(said))


def pictures(found: list) -> int:
    return sum("image/png" in output.get("data", {}) for output in found)


def test_quickstart_runs(execute, slice_settings, tmp_path):
    notebook = execute("quickstart", OPTSWEEP_QUICK="1", OPTSWEEP_SETTINGS=" ".join(slice_settings))
    assert not [each for each in outputs(notebook) if each.output_type == "error"]
    assert not [each for each in outputs(notebook) if each.get("name") == "stderr"]
    assert pictures(outputs(notebook, "plot")) == 1
    assert "n=5" in text(outputs(notebook, "compare"))
    assert "4 cells" in text(outputs(notebook, "sweep"))
    table = text(outputs(notebook, "collect"))
    assert table.count("<tr") == 1 + 4
    assert "adam, cosine" in table
    assert len(list((tmp_path / "multirun" / "quickstart" / "cells").iterdir())) == 4


def test_the_study_runs_on_trained_cells(execute, slice_settings, tmp_path):
    few = ["dataset.train_size=500", "dataset.val_size=100", "trainer.epochs=2"]
    arguments = [
        "--quick",
        "--num-seeds",
        "5",
        "--only",
        *EXPERIMENTS,
        "--set",
        *slice_settings,
        *few,
    ]
    script = TESTS.parent / "scripts" / "reproduce.py"
    subprocess.run([sys.executable, script, *arguments], cwd=tmp_path, check=True)

    notebook = execute("study", OPTSWEEP_RUNS=str(tmp_path / runs.RUNS_FOLDER / runs.QUICK_FOLDER))
    assert not [each for each in outputs(notebook) if each.output_type in ("error", "stream")]
    assert "Quick settings" in text(outputs(notebook, "read"))
    summary = text(outputs(notebook, "show-summary"))
    assert "3 experiments" in summary
    assert "**Initialisation**: " in summary
    trained = text(outputs(notebook, "show-r1-init"))
    assert re.search(
        r"\| gaussian \| 5[^|]* \| 0\.\d{4} \| 0\.\d{4}\u00a0±\u00a00\.\d{4} \|", trained
    )
    assert pictures(outputs(notebook, "show-r1-init")) == 1
    assert pictures(outputs(notebook, "show-b5-gradients")) == 2
    grid = outputs(notebook, "show-lr-grid")
    assert pictures(grid) == 2
    assert "sgd with nesterov momentum" in text(grid)
    absent = outputs(notebook, "show-r2-init")
    assert "Nothing of this question has been trained yet." in text(absent)
    assert pictures(absent) == 0
    said = text(outputs(notebook))
    assert all(claim.claim in said for claim in outline().claims)
    assert len(nbformat.writes(notebook)) < MAX_BYTES


def test_the_study_runs_without_any_run(execute):
    notebook = execute("study")
    assert not [each for each in outputs(notebook) if each.output_type in ("error", "stream")]
    assert text(outputs(notebook, "read")).startswith("**../multirun: there is no such folder.**")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_committed(name):
    path = NOTEBOOKS / f"{name}.ipynb"
    assert path.stat().st_size < MAX_BYTES
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for output in outputs(notebook):
        assert output.output_type != "error"
        output.get("data", {}).pop("image/png", None)  # base64 has slashes
    absolute = r"(?<![\w.:/])/(?:home|root|tmp|usr|opt|var|mnt|work|Users|private)/|[A-Z]:\\\\"
    assert not re.search(absolute, nbformat.writes(notebook))


def test_the_quickstart_is_ten_cells_each_after_a_sentence():
    kinds = [cell.cell_type for cell in nbformat.read(NOTEBOOKS / "quickstart.ipynb", 4).cells]
    assert kinds == ["markdown", "code"] * 10


def test_the_study_asks_every_question_and_states_no_result_in_prose():
    cells = nbformat.read(NOTEBOOKS / "study.ipynb", as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    asked = re.findall(r'study\.question\("(\w+)"', code)
    assert asked == [question.id for question in outline().questions]
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    titles = "".join(f"{question.title} {question.part}" for question in outline().questions)
    assert not set(re.findall(r"\d\S*", prose)) - set(re.findall(r"\d\S*", titles))
