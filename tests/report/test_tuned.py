"""The comparison of tuned optimizers over tasks, against numbers worked out by hand."""

import json
import math

import numpy as np
import optuna
import pandas as pd
import pytest

from optsweep import runs
from optsweep.report.language import CHINESE, language
from optsweep.report.searches import Final, Search, Variant
from optsweep.report.statistics import Location
from optsweep.report.tuned import (
    comparisons,
    draw,
    profile,
    scores_table,
    sentences,
    times_to_target,
)

# Optimizer -> per task the test accuracies of its best setting on fresh seeds.
TESTS = {
    "optimizer=sgd": ([0.80, 0.82, 0.84, 0.86], [0.70, 0.72, 0.74, 0.76]),
    "optimizer=adam": ([0.88, 0.88, 0.89, 0.89], [0.70, 0.70, 0.90, 0.90]),
}
# Optimizer -> per task the validation accuracy of its trials, and when each has reached it.
TRIALS = {"optimizer=sgd": ([0.5, 0.8], [0.7, 0.6]), "optimizer=adam": ([0.85, 0.9], [0.6, 0.65])}


def variant(root, task, name):
    """A search of two trials, with the cells that the report reads."""
    study = optuna.create_study(direction="maximize", study_name=f"task{task}: {name}")
    rows = []
    for number, value in enumerate(TRIALS[name][task]):
        cell = f"{task}-{name}-{number}"
        study.add_trial(
            optuna.trial.create_trial(value=value, user_attrs={"cell": cell, "epochs": 2})
        )
        rows.append({"trial": number, "status": "completed", "objective": value, "cell": cell})
        (root / runs.CELLS_FOLDER / cell).mkdir(parents=True)
        test = {"per_seed": [{"test_accuracy": value - 0.1}, {"test_accuracy": value}]}
        (root / runs.CELLS_FOLDER / cell / runs.RESULT_FILE).write_text(json.dumps(test))
        history = "epoch,seed,val_accuracy\n0,0,0.1\n"
        history += f"1,0,{value / 2}\n2,0,{value}\n"
        (root / runs.CELLS_FOLDER / cell / runs.HISTORY_FILE).write_text(history)
    return Variant(name, study, pd.DataFrame(rows), 0.0, 0, 0)


def search(root, task, name):
    finals = []
    for optimizer, tests in TESTS.items():
        values = pd.Series(tests[task], index=range(1000, 1004))
        test = Location.of(values).interval()
        finals.append(Final(optimizer, "best", "", "", values, test))
    folder = root / name
    return Search(name, folder, [variant(root, task, each) for each in TESTS], finals)


@pytest.fixture
def tuned(tmp_path, monkeypatch):
    # Results without their seals are read as they are.
    monkeypatch.setattr(
        runs, "read_result", lambda cell: json.loads((cell / runs.RESULT_FILE).read_text())
    )
    found = [search(tmp_path, task, name) for task, name in enumerate(("mine", "mine_deep"))]
    (one,) = comparisons(found)
    return one


def test_searches_with_the_same_variants_are_tasks_of_one_comparison(tuned, tmp_path):
    assert list(tuned.tasks) == ["default", "deep"]
    assert tuned.optimizers == ["adam", "sgd"]
    assert tuned.num_trials == 2
    running = search(tmp_path / "other", 0, "mine")
    assert not comparisons([Search("mine", running.folder, running.variants, [])])


def test_scores_are_interquartile_means_with_the_spread_of_runs(tuned):
    # Of 0.70 … 0.76 and 0.80 … 0.86 the middle four; of the other eight too.
    assert tuned.score("sgd").estimate == pytest.approx((0.74 + 0.76 + 0.80 + 0.82) / 4)
    assert tuned.score("adam").estimate == pytest.approx((0.88 + 0.88 + 0.89 + 0.89) / 4)
    low, high = tuned.score("sgd").low, tuned.score("sgd").high
    assert 0.70 < low < 0.78 < high < 0.86


def test_a_chance_to_be_better_counts_pairs_within_tasks(tuned):
    # On the first task adam always wins; on the second 8 pairs of 16, none is a tie but 2 halves.
    second = np.mean(
        [(a > s) + (a == s) / 2 for a in (0.7, 0.7, 0.9, 0.9) for s in (0.70, 0.72, 0.74, 0.76)]
    )
    chance = tuned.improvement("adam", "sgd")
    assert chance.estimate == pytest.approx((1 + second) / 2)
    assert tuned.improvement("sgd", "adam").estimate == pytest.approx(1 - chance.estimate)
    assert chance.low < chance.estimate < chance.high <= 1


def test_searches_are_repeated_by_drawing_their_trials_anew(tuned):
    # The better of two trials is drawn with 3/4; the two differ by 0.05, 0.05, 0.3 and 0.1.
    spread = math.sqrt(3) / 4
    assert tuned.spreads("adam")["searches"] == pytest.approx(0.05 * spread, rel=0.05)
    assert tuned.spreads("sgd")["searches"] == pytest.approx((0.3 + 0.1) / 2 * spread, rel=0.05)
    assert tuned.spreads("adam")["seeds"] == pytest.approx(
        np.mean([np.std(each, ddof=1) for each in TESTS["optimizer=adam"]])
    )


def test_targets_are_what_half_of_the_optimizers_reach(tuned):
    # 0.85 on the first task, which adam reaches in its second epoch, and 0.675 on the second.
    times = times_to_target(tuned)
    assert times.to_dict("index") == {
        "default": {"sgd": math.inf, "adam": 2},
        "deep": {"sgd": 2, "adam": math.inf},
    }
    assert profile(times).loc[1.0].to_dict() == {"sgd": 0.5, "adam": 0.5}


def test_the_table_and_the_words_have_them(tuned):
    table = scores_table(tuned)
    assert list(table["optimizer"]) == ["adam", "sgd"]
    assert list(table["deep"]) == ["0.8000", "0.7300"]
    assert table["chance that the first is better"][0] == "–"
    spoken = language(CHINESE)
    assert all(spoken.tell(column) != column for column in table.columns.drop("deep"))
    assert sentences(tuned)[0].startswith("2 tasks, 2 optimizers with 2 trials each, and 4 fresh")


def test_every_figure_is_drawn(tuned):
    budgets, profiles = draw(tuned)
    assert [axes.get_title(loc="left") or axes.get_title() for axes in budgets.figure.axes][:2] == [
        "default",
        "deep",
    ]
    assert "2 tasks" in profiles.caption
