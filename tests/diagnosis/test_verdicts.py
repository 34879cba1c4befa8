"""Verdicts on functions of which the answer is known, and on readings that contradict each other.

`python tests/diagnosis/test_verdicts.py 200` draws so many fresh instances of each function and
prints the confusion table; one is kept beside it, in confusion.csv.
"""

import csv
import io
import sys
from collections import Counter
from pathlib import Path

import pytest
from functions import EXPECTED, Draw

from optsweep.diagnosis.readings import (
    BASE,
    BATCH,
    FASTER,
    FREED,
    KICKED,
    PROJECTED,
    SLOWER,
    Readings,
)
from optsweep.diagnosis.verdicts import (
    EDGE,
    GRADIENT_FLAT,
    INCONCLUSIVE,
    MINIMUM,
    NO_SIGNAL,
    NOISE,
    NOT_SLOW,
    RATE_TOO_LARGE,
    RATE_TOO_SMALL,
    SADDLE,
    VERDICTS,
    judge,
)

TABLE = Path(__file__).with_name("confusion.csv")
NUM_INSTANCES = 4  # of each, in a test; the kept table has more
FRESH = 1_000_000  # first seed of the kept table's instances, on which no rule was developed


def confusion(num_instances, functions=tuple(EXPECTED), first=0):
    """How often each function gets each verdict."""
    seeds = range(first, first + num_instances)
    return {
        function.__name__: Counter(function(Draw(seed)).verdict(seed).cause for seed in seeds)
        for function in functions
    }


def as_csv(table):
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["function", "expected", *VERDICTS])
    expected = {function.__name__: verdict for function, verdict in EXPECTED.items()}
    for name, counts in table.items():
        writer.writerow([name, expected[name], *(counts[verdict] for verdict in VERDICTS)])
    return text.getvalue()


@pytest.mark.parametrize("function", EXPECTED, ids=lambda function: function.__name__)
def test_constructed_functions_get_the_right_verdict(function):
    counts = confusion(NUM_INSTANCES, [function])[function.__name__]
    assert counts == {EXPECTED[function]: NUM_INSTANCES}


def test_the_kept_table_has_few_false_saddles_and_minima():
    """At most 2 % of what is neither; the table is printed by this file, run as a program."""
    with TABLE.open() as file:
        rows = list(csv.DictReader(file))
    assert {row["function"]: row["expected"] for row in rows} == {
        function.__name__: verdict for function, verdict in EXPECTED.items()
    }
    for row in rows:
        counts = {verdict: int(row[verdict]) for verdict in VERDICTS}
        drawn = sum(counts.values())
        assert drawn >= 200
        assert counts[row["expected"]] >= 0.95 * drawn
        for critical in (SADDLE, MINIMUM):
            if row["expected"] != critical:
                assert counts[critical] <= 0.02 * drawn


# --- rules on readings alone


def falls(base, faster=None, slower=None, batch=None, out=None, freed=None, kick=None):
    """What forks lower the loss by at 50 steps and after an epoch; those not given, as the base."""
    given = {
        BASE: base, FASTER: faster, SLOWER[0]: slower, SLOWER[1]: slower,
        BATCH: batch, PROJECTED: out, FREED: freed, KICKED: kick,
    }  # fmt: skip
    return {
        name: {50: base if fall is None else fall, 235: base if fall is None else fall}
        for name, fall in given.items()
    }


EDGE_READINGS = {"stability": 1.0, "critical_multiple": 1.0, "curvature": 2.0, "noise": 1.0}
SADDLE_READINGS = {"promise": 1e-5, "smallest": -0.1, "largest": 1.0, "escape_drop": 0.1}

MINIMUM_READINGS = {"promise": 1e-6, "slope_drop": 1e-4, "decrement": 1e-6}


@pytest.mark.parametrize(
    ("expected", "readings", "forked"),
    [
        (RATE_TOO_LARGE, EDGE_READINGS, falls(0.0, faster=-9, slower=0.16, batch=0.01)),
        (INCONCLUSIVE, {"stability": 0.1}, falls(0.0, slower=0.16)),  # below its limit
        # Without the sharpest directions it falls further, and they allow no larger rate.
        (EDGE, EDGE_READINGS, falls(0.07, faster=-0.2, out=0.12)),
        # Too large for the sharpest directions alone: without them a larger one is better still.
        (EDGE, EDGE_READINGS, falls(0.0, faster=-9, slower=0.06, out=0.06, freed=0.09)),
        (RATE_TOO_LARGE, EDGE_READINGS, falls(0.0, faster=-9, slower=0.06, out=0.06, freed=-9)),
        # The larger rate needs but the sharpest directions out, however little it all is.
        (EDGE, EDGE_READINGS, falls(0.07, faster=-0.2, freed=0.15)),
        (EDGE, EDGE_READINGS, falls(0.004, faster=-0.2, out=0.003, freed=0.009)),
        (INCONCLUSIVE, EDGE_READINGS, falls(0.004, faster=-0.2, out=0.003, freed=0.003)),
        (NOT_SLOW, EDGE_READINGS, falls(0.07, faster=-0.2)),
        (NOISE, EDGE_READINGS | {"noise": 5.0}, falls(0.0, slower=0.16, batch=0.15)),
        # Larger batches help too, but the budget tells of curvature.
        (RATE_TOO_LARGE, EDGE_READINGS, falls(0.0, slower=0.16, batch=0.15)),
        (INCONCLUSIVE, {"stability": 0.1}, falls(0.0, slower=0.16, batch=0.15)),
        # One gradient happens to be long; those after it are mostly noise.
        (NOISE, {"noise_scale": 0.8, "swing": 0.5}, falls(0.0, slower=0.16, batch=0.15)),
        (INCONCLUSIVE, {"noise_scale": 0.8, "swing": 2}, falls(0.0, slower=0.16, batch=0.15)),
        (NOT_SLOW, {"critical_multiple": 30}, falls(0.5, faster=0.6)),
        (NOT_SLOW, {}, falls(0.3, freed=0.6)),  # a way to look, not to train
        (INCONCLUSIVE, {}, falls(0.3, batch=0.6)),
        (RATE_TOO_SMALL, {"critical_multiple": 30}, falls(0.1, faster=0.3, slower=0.03)),
        (INCONCLUSIVE, {"critical_multiple": 1.4}, falls(0.1, faster=0.3, slower=0.03)),
        (SADDLE, SADDLE_READINGS, falls(0.0, kick=0.2)),
        # A slope that leads nowhere is as good as none.
        (SADDLE, SADDLE_READINGS | {"promise": 2e-3, "slope_drop": 2e-3}, falls(0.0, kick=0.2)),
        (INCONCLUSIVE, SADDLE_READINGS | {"promise": 2e-3}, falls(0.0, kick=0.2)),
        (INCONCLUSIVE, SADDLE_READINGS, falls(0.0)),  # a kick does nothing
        # What falls at a smaller rate is at no critical point.
        (RATE_TOO_LARGE, SADDLE_READINGS | EDGE_READINGS, falls(0.0, slower=0.16, kick=0.2)),
        (GRADIENT_FLAT, {"flatness": 1e-5}, falls(0.02, faster=0.05, slower=0.005)),
        (INCONCLUSIVE, {"flatness": 1e-5}, falls(0.02, out=0.2)),  # it hung on the sharpest
        (MINIMUM, MINIMUM_READINGS, falls(0.0)),
        (INCONCLUSIVE, MINIMUM_READINGS, falls(0.0, kick=0.015)),
        (INCONCLUSIVE, MINIMUM_READINGS | {"smallest": -0.1}, falls(0.0)),
        (INCONCLUSIVE, MINIMUM_READINGS | {"decrement": 0.1}, falls(0.0)),  # a long flat way left
        (NO_SIGNAL, {"dead_units": 1.0}, falls(0.0)),
        (NO_SIGNAL, {"constant_inputs": 1.0}, falls(0.0)),
        (NO_SIGNAL, {"weight_effect": 1e-6}, falls(0.0)),
        (INCONCLUSIVE, {"weight_effect": 1e-6}, falls(0.0, kick=0.2)),
        (NOT_SLOW, {"dead_units": 1.0}, falls(0.3, slower=0.2)),  # it learns all the same
        (NOT_SLOW, {}, falls(0.3, faster=-9, slower=0.1)),
        (INCONCLUSIVE, {}, falls(0.02)),  # slow, and nothing tells why
        (INCONCLUSIVE, {"loss": float("nan")}, {}),
    ],
)
def test_a_verdict_needs_readings_and_forks_that_agree(expected, readings, forked):
    found = judge(Readings(**({"loss": 1.0} | readings), falls=forked))
    assert (found.cause, found.decided_by != "") == (expected, True)


def test_a_smaller_rate_has_to_help_at_every_horizon():
    forked = falls(0.1, slower=0.2)
    forked = {name: dict(ends) for name, ends in forked.items()}
    for name in SLOWER:
        forked[name][235] = 0.05  # at once it falls, in the long run it is slower
    readings = {"loss": 1.0, **EDGE_READINGS}
    assert judge(Readings(**readings, falls=forked)).cause == NOT_SLOW


if __name__ == "__main__":
    print(as_csv(confusion(int(sys.argv[1]), first=FRESH)), end="")
