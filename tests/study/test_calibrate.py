"""The rules keep their promise, in studies whose truth is known; a quick form of the full count."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from optsweep.report.calibration import ERRORS, MOST, MOST_HIGH, RATES_FILE, SEEDS_FILE, worst
from optsweep.report.multiplicity import LEVEL
from optsweep.report.rules import RULES
from optsweep.study.calibrate import DRAWS, main
from optsweep.study.calibration import SCENARIOS, any_right, nothing_differs, real, simulated
from optsweep.study.content import outline

KEPT = Path(__file__).resolve().parents[2] / "notebooks" / "study" / "calibration"
# A rule that keeps its promise fails one of some thousand counts with this chance: once in ten.
SURELY = 1e-4


@pytest.fixture(scope="module")
def kept_seeds() -> pd.DataFrame:
    return pd.read_csv(KEPT / SEEDS_FILE)


def broken(rows) -> list[tuple]:
    """The counts that are surely of a rule that is wrong more often than it may be."""
    found = []
    for row in rows:
        counted = row.as_dict()
        for error in ERRORS:
            wrong, draws = counted[f"false_{error}"], counted["draws"]
            if stats.binomtest(wrong, draws, MOST, alternative="greater").pvalue < SURELY:
                found.append((row.what, row.noise, row.effect, error, wrong, draws))
    return found


def test_every_rule_but_that_of_identity_is_tried():
    assert set(RULES) - {scenario.rule for scenario in SCENARIOS} == {"identical"}


def test_rules_are_right_on_made_up_noise():
    rows = list(simulated(150, np.random.default_rng(0)))
    assert broken(rows) == []
    # Far from a margin, nearly all studies come to a verdict: a rule that is never wrong
    # because it never says anything would be of no use.
    decided = [
        np.mean(row.outcome.verdict >= 0)
        for row in rows
        if abs(row.effect) == 2 and row.noise != "two modes"
    ]
    assert np.mean(decided) > 0.9


def test_rules_are_right_on_real_noise(kept_seeds):
    assert kept_seeds.groupby("setting")["seed"].nunique().eq(200).all()
    assert kept_seeds["setting"].nunique() == 15
    assert broken(real(kept_seeds, 60, np.random.default_rng(0))) == []


def test_claims_are_right_where_nothing_differs():
    wrong_questions = []
    for _, rows in nothing_differs(outline().claims, 200, np.random.default_rng(0)):
        assert broken(rows) == []
        tests = [row.wrong() for row in rows if not row.is_figure]
        wrong_questions += [np.mean(np.any(tests, axis=0))] if tests else []
    assert np.mean(wrong_questions) < LEVEL


def test_what_was_counted_is_accepted():
    rates = pd.read_csv(KEPT / RATES_FILE)
    assert set(rates["draws"]) == {DRAWS}
    counted = rates.dropna(subset=["false_holds"])
    assert set(counted["part"]) == {"simulated", "real", "nothing differs"}
    for error in ERRORS:
        of_rules = counted.groupby(["part", "what"])[[f"false_{error}", "draws"]].sum()
        assert (of_rules[f"false_{error}"] <= MOST * of_rules["draws"]).all()
        # The most of a thousand counts is above their mean: not more than chance has it.
        for wrong in counted[f"false_{error}"].astype(int):
            assert stats.binomtest(wrong, DRAWS, MOST, alternative="greater").pvalue > SURELY
    found = worst(rates)
    assert (found.loc[found["error"] != "any", "high"] <= MOST_HIGH).all()
    assert (found.loc[found["error"] == "any", "rate"] <= LEVEL).all()


def test_what_is_right_under_any_reading():
    assert any_right([{"holds"}, {"reversed"}]) == {"holds"}
    assert any_right([{"negligible"}, {"reversed"}]) == {"negligible", "reversed"}
    assert any_right([set(), {"reversed"}]) == set()  # one of them may hold just not


def test_the_command_writes_its_tables_and_figure(tmp_path, kept_seeds, capsys):
    few = kept_seeds[kept_seeds["setting"].isin(kept_seeds["setting"].unique()[:4])]
    few.to_csv(tmp_path / "few.csv", index=False)
    arguments = ["--seeds", str(tmp_path / "few.csv"), "--draws", "4", "--out", str(tmp_path)]
    assert main(arguments) == 0
    assert "Each share is of 4 studies." in capsys.readouterr().out
    assert set(pd.read_csv(tmp_path / RATES_FILE)["draws"]) == {4}
    assert (tmp_path / "calibration_rates.svg").exists()


def test_without_the_experiment_it_says_what_trains_it(tmp_path, tree, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--runs", str(tree), "--out", str(tmp_path)])
    assert stopped.value.code == 2
    told = (
        f"optsweep: error: {tree} has no calibration; optsweep experiment=calibration trains it\n"
    )
    assert capsys.readouterr().err == told
