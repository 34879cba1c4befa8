"""The study in a notebook: what is displayed of runs in every state."""

import html

import pytest
from IPython.display import Image
from run_tree import config_of, curve, write_cell, write_experiment

from optsweep.config.checks import InputError
from optsweep.study import notebook
from optsweep.study.notebook import read_study


@pytest.fixture
def shown(monkeypatch):
    """All that is displayed, in order: text, and images."""
    displayed: list = []
    monkeypatch.setattr(notebook, "display", displayed.append)
    return displayed


def said(shown) -> str:
    return html.unescape("\n".join(each.data for each in shown if not isinstance(each, Image)))


def test_cells_of_every_status_are_told(tree, shown):
    reader = read_study(tree)
    reader.summary()
    for status in ("partly diverged", "missing", "partial", "corrupt"):
        assert f"- {status}: 1 cell: " in said(shown)
    assert "- **Initialisation**: The runs do not decide whether Gaussian weights" in said(shown)

    shown.clear()
    reader.question("r1_init")
    assert sum(isinstance(each, Image) for each in shown) == 1
    for row in ("| default | 3 |", "| gaussian | 3, 1 diverged |", "| xavier | missing |"):
        assert row in said(shown)
    assert "- ? **undecided**: Gaussian initialisation lowers the loss more slowly" in said(shown)
    assert "- – **not tested here**: Xavier converges faster" in said(shown)


def test_a_figure_that_cannot_be_drawn_is_told(tree, shown):
    read_study(tree).question("r1_init", "r1_init_nothing")
    assert not [each for each in shown if isinstance(each, Image)]
    assert "No run is there from which r1_init_nothing could be drawn." in said(shown)


def test_without_runs_everything_can_be_shown(tmp_path, shown):
    reader = read_study(tmp_path)
    assert said(shown).startswith(f"**{tmp_path}: no runs in it; cells are expected in")
    reader.summary()
    reader.question("lr_grid", "lr_grid_best")
    reader.others()
    assert "0 trained cells of 0" in said(shown)
    assert "Fewer than two optimizers have been trained here" in said(shown)
    assert "Of 37 tests of causes, 37 are not tested here." in said(shown)


def test_an_unknown_question_is_a_mistake(tree):
    with pytest.raises(InputError, match="r1_inti: there is no such question"):
        read_study(tree).question("r1_inti")


@pytest.fixture
def searched(tmp_path):
    """A user's own search over ten learning rates, with a name that means something elsewhere."""
    cells = {}
    for tenth in range(1, 11):
        config = config_of(lr=tenth / 10, val_size=100, epochs=1)
        curves = {}
        for seed in range(3):
            curves[seed] = curve((2.3, 0.1), (1.0, 0.5 + tenth / 100))
            for scores in curves[seed]:
                scores |= {"val_loss": 1.0, "val_accuracy": scores["test_accuracy"] - 0.01}
        cells[write_cell(tmp_path, config, curves)] = f"optimizer.lr={tenth / 10}"
    write_experiment(tmp_path, "<b>$mine_*|", cells)
    return tmp_path


def test_a_search_shows_its_best_and_text_stays_text(searched, shown):
    read_study(searched).others()
    text = said(shown)
    assert "a search on validation images, its best 8 of 10 settings" in text
    assert "| lr 1 | 3 | 0.5900 |" in text
    assert "| lr 0.2 |" not in text
    raw = "\n".join(each.data for each in shown if not isinstance(each, Image))
    assert "### &#60;b&#62;&#36;mine" in raw
    assert "<b>" not in raw
