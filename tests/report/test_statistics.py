"""Statistics against values worked out by hand and against SciPy."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from optsweep.report.statistics import (
    bootstrap_interval,
    holm,
    paired_differences,
    smallest_p,
    time_to_target,
    wilcoxon_p,
)

INF = math.inf


def test_the_interval_is_scipys_percentile_bootstrap():
    values = np.random.default_rng(3).normal(size=10)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    found = bootstrap_interval(values)
    assert found == (pytest.approx(values.mean()), expected.low, expected.high, 10)
    assert found == bootstrap_interval(values)  # seeded


def test_the_interval_of_three_values_is_known_exactly():
    # The 27 equally likely resamples of 0, 0, 1 have mean k/3 with weights 8, 12, 6, 1 of 27:
    # 0 takes 8/27 > 2.5 %, and 1 takes 1/27 > 2.5 %, so the ends are 0 and 1.
    assert bootstrap_interval([0.0, 0.0, 1.0]) == (pytest.approx(1 / 3), 0.0, 1.0, 3)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([2.0, 2.0, 2.0], (2.0, 2.0, 2.0, 3)),
        ([1.0, math.nan, 1.0], (1.0, 1.0, 1.0, 2)),
        ([INF, 1.0, 2.0], (INF, 1.0, INF, 3)),
        ([-INF, -INF], (-INF, -INF, -INF, 2)),
    ],
)
def test_intervals_of_special_values(values, expected):
    assert bootstrap_interval(values) == expected


def test_too_few_values_have_no_interval():
    assert bootstrap_interval([]).n == 0
    mean, low, _, n = bootstrap_interval([0.5])
    assert (mean, n) == (0.5, 1)
    assert math.isnan(low)
    assert math.isnan(bootstrap_interval([INF, -INF]).mean)


def test_differences_are_paired_by_seed():
    left = pd.Series({0: 1.0, 1: 2.0, 2: INF, 3: INF})
    right = pd.Series({1: 0.5, 2: INF, 3: 7.0, 4: 9.0})
    assert paired_differences(left, right).to_dict() == {1: 1.5, 2: 0.0, 3: INF}


@pytest.mark.parametrize("n", [1, 2, 5, 10, 14])
def test_wilcoxon_is_scipys_exact_test_without_ties(n):
    differences = np.random.default_rng(n).normal(0.3, 1, n)
    expected = stats.wilcoxon(differences, method="exact").pvalue
    assert wilcoxon_p(differences) == pytest.approx(expected, rel=1e-12)


def test_wilcoxon_with_ties_is_the_share_of_sign_patterns_as_extreme():
    differences = np.array([0.1, 0.1, -0.1, 0.2, 0.3])
    ranks = np.array([2, 2, 2, 4, 5])
    sums = [np.dot(signs, ranks) for signs in itertools.product((0, 1), repeat=5)]
    seen = ranks[differences > 0].sum()
    extreme = min(seen, 15 - seen)
    assert wilcoxon_p(differences) == 2 * sum(each <= extreme for each in sums) / 32


def test_zeros_are_left_out_of_wilcoxons_test():
    assert wilcoxon_p([0, 0, 0]) == 1.0
    assert wilcoxon_p([0, 0.1, 0.2, 0, 0.3]) == wilcoxon_p([0.1, 0.2, 0.3]) == 0.25


def test_the_smallest_p_is_reached_when_all_signs_agree():
    for n in range(1, 12):
        assert wilcoxon_p(np.arange(1, n + 1)) == smallest_p(n)


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.5: times 4, 3, 2, 1, never falling.
    by_hand = [
        ([0.02, 0.5, 0.01, 0.03], [0.06, 0.5, 0.04, 0.06]),
        ([0.6, 0.9], [1.0, 1.0]),
        ([math.nan, 0.02], [math.nan, 0.02]),
        ([], []),
    ]
    for p_values, expected in by_hand:
        found = holm(pd.Series(p_values, dtype=float))
        assert found.tolist() == pytest.approx(expected, nan_ok=True)


def test_a_target_that_is_missed_takes_forever():
    history = pd.DataFrame(
        {
            "seed": [0, 0, 0, 1, 1, 1],
            "epoch": [0, 1, 2] * 2,
            "step": [0, 10, 20] * 2,
            "seconds": [0.0, 1.5, 3.0] * 2,
            "test_accuracy": [0.1, 0.8, 0.7, 0.1, 0.5, math.nan],
            "train_loss": [2.0, 1.0, 0.5, 2.0, 1.5, math.nan],
        }
    )
    times = time_to_target(history, "test_accuracy", 0.8)
    assert times.to_numpy().tolist() == [[1.0, 10.0, 1.5], [INF, INF, INF]]
    times = time_to_target(history, "train_loss", 0.5)
    assert times.to_numpy().tolist() == [[2.0, 20.0, 3.0], [INF, INF, INF]]
