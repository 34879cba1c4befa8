"""Every rule with a case for each of its verdicts."""

import math

import numpy as np
import pandas as pd
import pytest

from optsweep.report.findings import HOLDS, NEGLIGIBLE, REVERSED, UNDECIDED, Sample
from optsweep.report.rules import RULES, Options

INF = math.inf
SPREAD = np.linspace(-1, 1, 10)  # its mean's interval, about -0.4 … 0.4, decides nothing near 0


def sample(centre: float, spread: float = 0.0) -> pd.Series:
    return pd.Series(centre + spread * SPREAD, index=range(10))


def found_by(kind: str, *values: pd.Series, **options: float):
    samples = [Sample(*each) for each in zip("abcdefgh", values, strict=False)]
    return RULES[kind](samples, Options(**options))


def ruled(kind: str, *values: pd.Series, **options: float):
    return found_by(kind, *values, **options).verdict(0.05)


# kind, options, samples by their centres (or centre and spread), verdict
CASES = [
    ("greater", {"margin": 0.1}, [1, 0], HOLDS),
    ("greater", {"margin": 0.1}, [0, 1], REVERSED),
    ("greater", {"margin": 0.1}, [0.05, 0], NEGLIGIBLE),  # too little to matter
    ("greater", {"margin": 0.1}, [0, 0], NEGLIGIBLE),
    ("greater", {"margin": 0.1}, [(0.2, 1), 0], UNDECIDED),
    ("greater", {"margin": 0.5}, [1, 0], HOLDS),
    ("greater", {"margin": 0.5}, [0.4, 0], NEGLIGIBLE),  # greater, but not by far
    ("greater", {"margin": 0.5}, [(0.6, 1), 0], UNDECIDED),
    ("greater", {}, [INF, 0], HOLDS),
    ("greater", {}, [-INF, 0], REVERSED),
    ("less", {"margin": 0.1}, [0, 1], HOLDS),
    ("less", {"margin": 0.1}, [1, 0], REVERSED),
    ("less", {"margin": 0.1}, [(0, 1), 0], UNDECIDED),
    ("less", {}, [0, INF], HOLDS),
    ("similar", {"margin": 0.1}, [0.05, 0, 0.02], HOLDS),
    ("similar", {"margin": 0.1}, [0.05, 0, 0.2], REVERSED),
    ("similar", {"margin": 0.1}, [0, (0, 1)], UNDECIDED),
    ("highest", {"margin": 0.1}, [1, 0, 0.5], HOLDS),
    ("highest", {"margin": 0.1}, [1, 0, 2], REVERSED),
    ("highest", {"margin": 0.1}, [1, 0, 0.95], NEGLIGIBLE),  # as good is not best
    ("highest", {"margin": 0.1}, [1, 0, (0.9, 1)], UNDECIDED),
    ("highest", {"margin": 0.1, "ties": True}, [1, 0, 1.05], HOLDS),
    ("highest", {"margin": 0.1, "ties": True}, [1, 0, 1.2], REVERSED),
    ("highest", {"margin": 0.1, "ties": True}, [1, 0, (1, 1)], UNDECIDED),
    ("lowest", {"margin": 0.1}, [0, 1, 2], HOLDS),
    ("lowest", {"margin": 0.1}, [1, 0, 2], REVERSED),
    ("lowest", {"margin": 0.1}, [0, 2, (0.1, 1)], UNDECIDED),
    ("less", {"margin": 0.1}, [0.05, 0], NEGLIGIBLE),
    ("lowest", {"margin": 0.1}, [0.95, 1, 2], NEGLIGIBLE),
    ("rising", {"margin": 0.1}, [0, 1, 1.05], NEGLIGIBLE),
    ("falling", {"margin": 0.1}, [2, 1, 1], NEGLIGIBLE),
    ("gains_shrink", {"margin": 0.1}, [10, 8, 6], NEGLIGIBLE),
    ("only_less", {"margin": 0.1}, [0, 0, 1], NEGLIGIBLE),
    ("lowest", {"margin": 0.1, "ties": True}, [0, INF, 0], HOLDS),
    ("rising", {}, [0, 1, 2], HOLDS),
    ("rising", {}, [0, 2, 1], REVERSED),
    ("rising", {}, [0, 2, (2, 1)], UNDECIDED),
    ("falling", {}, [2, 1, 0], HOLDS),
    ("falling", {}, [2, 0, 1], REVERSED),
    ("falling", {}, [2, 0, (0, 1)], UNDECIDED),
    ("gains_shrink", {}, [10, 4, 2, 1], HOLDS),
    ("gains_shrink", {}, [10, 8, 2], REVERSED),
    ("gains_shrink", {}, [10, 6, (2, 1)], UNDECIDED),
    ("gains_more", {"margin": 0.1}, [5, 6, 0, 0], HOLDS),
    ("gains_more", {"margin": 0.1}, [5, 6, 0, 1], NEGLIGIBLE),
    ("gains_more", {"margin": 0.1}, [5, 4, 0, 0], REVERSED),
    ("gains_more", {"margin": 0.1}, [5, (5.2, 1), 0, 0], UNDECIDED),
    ("gains_more", {"margin": 0.1}, [5, 6, 6, -99, 0, 0, 0, 0], HOLDS),  # one fails
    ("at_least", {"value": 0.5}, [0.5], HOLDS),
    ("at_least", {"value": 0.5}, [0.4], REVERSED),
    ("at_least", {"value": 0.5}, [(0.5, 1)], UNDECIDED),
    ("at_least", {"value": 0.5}, [INF], HOLDS),
    ("at_most", {"value": 0.5}, [0.5], HOLDS),
    ("at_most", {"value": 0.5}, [0.6], REVERSED),
    ("at_most", {"value": 0.5}, [(0.5, 1)], UNDECIDED),
    ("near", {"value": 0.6, "rounding": 0.05}, [0.63], HOLDS),
    ("near", {"value": 0.6, "rounding": 0.05}, [(0.7, 0.01)], REVERSED),
    (
        "near",
        {"value": 0.6, "rounding": 0.05},
        [0.7],
        HOLDS,
    ),  # ten alike: of eleven, one may be odd
    ("near", {"value": 0.6}, [(0.7, 0.01)], REVERSED),
    ("near", {"value": 0.6, "rounding": 0.05}, [INF], REVERSED),
    ("near", {"value": 0.6, "rounding": 0.05}, [(0.7, 0.1)], HOLDS),
    ("times", {"value": 3}, [8, 2], HOLDS),
    ("times", {"value": 3}, [4, 2], REVERSED),
    ("times", {"value": 3}, [(6, 4), 2], UNDECIDED),
    ("only", {"margin": 0.1}, [1, 0, 0, -1], HOLDS),
    ("only", {"margin": 0.1}, [0, 0, 0], NEGLIGIBLE),  # not even the first
    ("only", {"margin": 0.1}, [1, 0, 1], REVERSED),  # another one too
    ("only", {"margin": 0.1}, [1, 0, (0, 1)], UNDECIDED),
    ("only_less", {"margin": 0.1}, [-1, 0, 0], HOLDS),
    ("only_less", {"margin": 0.1}, [-1, 0, -1], REVERSED),
    ("only_less", {"margin": 0.1}, [(-0.1, 1), 0, 0], UNDECIDED),
    ("only_at_least", {"value": 0.5}, [0.6, 0.4, 0.3], HOLDS),
    ("only_at_least", {"value": 0.5}, [0.6, 0.7], REVERSED),
    ("only_at_least", {"value": 0.5}, [0.3, 0.4], REVERSED),
    ("only_at_least", {"value": 0.5}, [0.6, (0.5, 1)], UNDECIDED),
    ("fails", {"value": 0.2}, [0.1], HOLDS),
    ("fails", {"value": 0.2}, [0.8], REVERSED),
    ("fails", {"value": 0.2}, [(0.2, 0.1)], UNDECIDED),
    ("mostly", {"value": 0.5}, [0.6], HOLDS),
    ("mostly", {"value": 0.5}, [0.4], REVERSED),
    ("mostly", {"value": 0.5}, [(0.5, 0.1)], UNDECIDED),
    ("identical", {}, [1, 1], HOLDS),
    ("identical", {}, [1, 1 + 1e-9], REVERSED),
]


@pytest.mark.parametrize(("kind", "options", "samples", "verdict"), CASES)
def test_rules(kind, options, samples, verdict):
    values = [sample(*each) if isinstance(each, tuple) else sample(each) for each in samples]
    assert ruled(kind, *values, **options) == verdict


# Rules about a threshold, or that two are alike, know nothing that is too small to matter.
WITHOUT_NEGLIGIBLE = {
    *("similar", "at_least", "at_most", "near", "times", "only_at_least", "fails"),
    *("mostly", "identical"),
}


def test_every_rule_has_cases_for_each_verdict():
    tested = {(kind, verdict) for kind, _, _, verdict in CASES}
    expected = {(kind, verdict) for kind in RULES for verdict in (HOLDS, REVERSED, UNDECIDED)}
    expected |= {(kind, NEGLIGIBLE) for kind in RULES if kind not in WITHOUT_NEGLIGIBLE}
    # Only too few seeds leave the last open: the next test.
    assert tested == expected - {("identical", UNDECIDED), ("near", UNDECIDED)}


@pytest.mark.parametrize("num_seeds", [4, 0])  # none where cells wait for their diagnosis
@pytest.mark.parametrize("kind", RULES)
def test_four_seeds_decide_nothing(kind, num_seeds):
    few = [sample(centre).iloc[:num_seeds] for centre in (4, 3, 2, 1)]
    wanted = {
        "gains_more": 4,
        "near": 1,
        "fails": 1,
        "mostly": 1,
        "greater": 2,
        "less": 2,
        "times": 2,
        "identical": 2,
    }
    found = found_by(kind, *few[: wanted.get(kind, 3)], margin=0.1, value=1)
    assert found.verdict(0.05) == UNDECIDED
    assert found.effect.n == num_seeds


def test_the_effect_is_the_first_less_the_second():
    for kind in ("greater", "less"):
        found = found_by(kind, sample(1.0), sample(3.0))
        assert found.effect == (-2.0, -2.0, -2.0, 10)
        assert found.of == "a − b"


def test_the_deciding_comparison_is_told():
    assert found_by("highest", sample(5), sample(1, 3), sample(4, 3)).of == "a − c"
    assert found_by("lowest", sample(5), sample(1), sample(4)).of == "a − b"
    assert found_by("similar", sample(0), sample(1), sample(9), margin=0.1).of == "a − c"
    assert found_by("only", sample(1), sample(0), sample(2), margin=0.1).of == "c − b"


def test_that_all_hold_needs_no_correction_and_that_one_does_not_needs_it():
    rival, worse = sample(0, 2), sample(3, 2)
    alone = found_by("highest", sample(1.5), rival).p
    assert found_by("highest", sample(1.5), rival, rival).p[HOLDS] == alone[HOLDS]
    alone = found_by("highest", sample(1.5), worse).p
    assert found_by("highest", sample(1.5), worse, worse).p[REVERSED] == 2 * alone[REVERSED]


def test_a_verdict_is_given_where_the_whole_interval_is():
    # Student's interval of ten values: mean ± 2.262 s / √10.
    values = sample(0.6, 1)
    low, high = found_by("greater", values, sample(0.0)).effect[1:3]
    reach = 2.2622 * values.std() / math.sqrt(10)
    assert (low, high) == pytest.approx((0.6 - reach, 0.6 + reach), rel=1e-4)
    for margin, verdict in ((low - 0.001, HOLDS), (low + 0.001, UNDECIDED)):
        assert ruled("greater", values, sample(0.0), margin=margin) == verdict
    for margin, verdict in ((high + 0.001, NEGLIGIBLE), (high - 0.001, UNDECIDED)):
        assert ruled("greater", values, sample(0.0), margin=margin) == verdict


def test_a_figure_is_not_decided_by_runs_of_which_some_diverged():
    assert ruled("near", sample(0.6).replace({0.6: INF}), value=0.6) == REVERSED
    assert ruled("near", pd.Series([INF, *[0.6] * 9]), value=0.6) == UNDECIDED


def test_a_figure_is_held_against_the_seeds_that_are_like_it():
    values = pd.Series([0.1, 0.11, 0.12, 0.1, 0.09, 0.8, 0.81, 0.82, 0.8, 0.79])
    one = Sample("a", values, (values < 0.5).astype(int))
    for value, verdict in ((0.805, HOLDS), (0.105, HOLDS), (0.7, REVERSED), (0.2, HOLDS)):
        found = RULES["near"]([one], Options(value=value))
        assert found.verdict(0.005) == verdict
        assert found.effect.n == 5
    few = Sample("a", values[:9], one.modes[:9])  # four that learned
    assert RULES["near"]([few], Options(value=0.7)).verdict(0.005) == UNDECIDED


def test_two_modes_are_compared_by_the_median():
    collapsed = pd.Series([0.1, 0.1, 0.1, *[0.85] * 7])
    modes = (collapsed < 0.5).astype(int)
    samples = [Sample("a", collapsed, modes), Sample("b", sample(0.8))]
    found = RULES["greater"](samples, Options(margin=0.01))
    assert found.effect.estimate == pytest.approx(0.05)  # the mean is below 0
    assert found.by_median
    assert found.verdict(0.05) == UNDECIDED  # seven of ten coins may well be heads
    one = [Sample("a", pd.Series([0.1, *[0.85] * 9]), pd.Series([1] + [0] * 9)), samples[1]]
    assert RULES["greater"](one, Options(margin=0.01)).verdict(0.05) == HOLDS


def test_values_that_are_not_known_are_left_out():
    values = sample(1.0).where(lambda one: one.index > 2)
    assert found_by("greater", values, sample(0.0)).effect.n == 7
    assert ruled("greater", values.where(values.index > 5), sample(0.0)) == UNDECIDED
