"""Statistics against values worked out by hand and against SciPy."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from optsweep.report.statistics import (
    Location,
    holm,
    mean_interval,
    paired_differences,
    prediction,
    smallest_p,
    time_to_target,
    wilcoxon_p,
)

INF = math.inf


def test_the_interval_of_a_mean_is_scipys_t_interval():
    values = np.random.default_rng(3).normal(size=10)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    found = mean_interval(values)
    assert found == (*map(pytest.approx, (values.mean(), expected.low, expected.high)), 10)


def test_the_p_values_of_a_mean_are_scipys_one_sided_ones_doubled():
    where = Location.of(np.random.default_rng(3).normal(0.3, size=10))
    for side, p in (("greater", where.p_above(0.1)), ("less", where.p_below(0.1))):
        expected = stats.ttest_1samp(where.values, 0.1, alternative=side).pvalue
        assert p == pytest.approx(min(1.0, 2 * expected))


def test_the_interval_of_a_median_is_that_of_order_statistics():
    # Of ten values the second from either end: P(fewer than two heads of ten) = 11/1024 < 2.5 %.
    where = Location.of(range(10), two_modes=True)
    assert where.interval() == (4.5, 1.0, 8.0, 10)
    # Nine of ten are above 0.5: 2 · P(nine or more heads).
    assert where.p_above(0.5) == pytest.approx(2 * 11 / 1024)
    assert where.p_above(0) == pytest.approx(2 * 11 / 1024)  # a tie speaks against
    assert where.p_above(0, or_equal=True) == pytest.approx(2 / 1024)
    assert where.p_below(0.5) == 1.0


@pytest.mark.parametrize("n", range(6, 51, 4))
def test_the_interval_of_a_median_is_where_its_p_values_are_small(n):
    where = Location.of(range(n), two_modes=True)
    low, high = where.interval()[1:3]
    assert where.p_above(low - 0.5) <= 0.05 < where.p_above(low + 0.5)
    assert where.p_below(high + 0.5) <= 0.05 < where.p_below(high - 0.5)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([2.0, 2.0, 2.0], (2.0, 2.0, 2.0, 3)),
        ([1.0, math.nan, 1.0], (1.0, 1.0, 1.0, 2)),
        ([INF, *range(6)], (3.0, 0.0, INF, 7)),
        ([-INF] * 6, (-INF, -INF, -INF, 6)),
    ],
)
def test_intervals_of_special_values(values, expected):
    assert mean_interval(values) == expected


def test_too_few_values_have_no_interval():
    assert mean_interval([]).n == 0
    mean, low, _, n = mean_interval([0.5])
    assert (mean, n) == (0.5, 1)
    assert math.isnan(low)
    assert math.isnan(mean_interval([INF, -INF]).estimate)
    assert math.isnan(mean_interval([INF, 0, 1, 2, 3]).low)  # five values: 1 in 16 lies outside
    assert Location.of([0.5]).p_above(0) == 1


def test_one_more_run_lies_in_the_prediction_interval():
    values = np.random.default_rng(0).normal(size=(4000, 11))
    found = [(row[10], *prediction(row[:10], row[10])) for row in values]
    inside = [where.low < one < where.high for one, where, _ in found]
    assert np.mean(inside) == pytest.approx(0.998, abs=0.0022)  # three standard errors
    assert inside == [p > 0.002 for _, _, p in found]


def test_a_rounded_figure_may_be_anything_that_rounds_to_it():
    values = [0.80, 0.81, 0.82]
    outside = prediction(values, 0.9)[1]
    assert outside == pytest.approx(prediction(values, 0.95, rounding=0.05)[1])
    assert prediction(values, 0.85, rounding=0.05)[1] == 1.0
    assert [prediction([1.0, 1.0], each)[1] for each in (1.0, 1.1)] == [1.0, 2 / 3]


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
