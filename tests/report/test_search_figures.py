"""What a search's figures tell, against numbers that are known."""

import math

import numpy as np
import optuna
import pytest

from optsweep.report.search_figures import importances
from optsweep.report.search_report import search_sections
from optsweep.report.searches import whole_search


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    """Of 30 trials: the rate decides most, the momentum nothing, one kind of weights fails."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    folder.mkdir()
    study = optuna.create_study(
        study_name="mine",
        storage=f"sqlite:///{folder / 'study.db'}",
        direction="maximize",
        sampler=optuna.samplers.RandomSampler(0),
    )

    def objective(trial):
        rate = trial.suggest_float("optimizer.lr", 1e-4, 1.0, log=True)
        trial.suggest_float("momentum", 0.0, 0.9)
        init = trial.suggest_categorical("init", ["default", "gaussian"])
        trial.set_user_attr("cell", f"cell_{trial.number}")
        return 0.9 - 0.1 * (math.log10(rate) + 2) ** 2 - 0.3 * (init == "gaussian")

    study.optimize(objective, n_trials=30)
    return folder


def test_every_figure_is_drawn(search, tmp_path):
    (section,), damaged = search_sections([search], tmp_path)
    names = [f"mine_{each}" for each in ("history", "slice", "importance", "parallel", "contour")]
    assert [picture.name for picture in section.pictures] == names
    assert not damaged
    texts = {picture.name: picture.svg for picture in section.pictures}
    assert "trials in random order" in texts["mine_history"]
    assert texts["mine_parallel"].count("gaussian") == 1


def test_importances_are_optunas_and_right(search):
    pytest.importorskip("sklearn", reason="optsweep[fanova] is not installed")
    (variant,) = whole_search(search).variants
    found = importances(variant)
    assert list(found) == ["fANOVA", "PED-ANOVA"]
    assert list(found["fANOVA"]) == ["optimizer.lr", "init", "momentum"]
    assert found["fANOVA"]["optimizer.lr"] > 0.5
    assert found["fANOVA"]["momentum"] < 0.1
    assert sum(found["fANOVA"].values()) == pytest.approx(1)
    assert importances(variant) == found  # the same at every call


def test_the_band_is_that_of_the_same_trials_in_other_orders(search):
    from optsweep.report.search_figures import reordered

    (variant,) = whole_search(search).variants
    low, _, high = reordered(variant)
    values = np.sort(variant.trials["objective"].to_numpy())
    assert low[-1] == high[-1] == values[-1]
    # The first trial is any of them: the quartiles of 1,000 draws are within 4 % of the ranks.
    ranks = np.searchsorted(values, (low[0], high[0])) / len(values)
    assert ranks == pytest.approx((0.25, 0.75), abs=0.08)
    assert (low <= high).all()
