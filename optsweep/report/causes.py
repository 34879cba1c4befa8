"""Why a network trains slowly, in three sentences written from verdicts and readings alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from optsweep.diagnosis.readings import BATCH, FASTER, FREED, KICKED, PROJECTED, SLOWER
from optsweep.diagnosis.verdicts import (
    CRITICAL,
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
)
from optsweep.report.collection import Collection, Setting
from optsweep.report.diagnosis import (
    cause_of,
    described,
    diagnosed,
    typical,
    usual_gain,
)
from optsweep.report.outline import Question
from optsweep.report.statistics import Interval, mean_interval
from optsweep.report.wording import count, listing, number, short

# Of each verdict: what is said of the network, and which forks decided.
_SAID: dict[str, tuple[str, Sequence[str]]] = {
    EDGE: (
        "trains slowly because it is at the edge of stability: its sharpest directions allow no "
        "larger rate, and all others need one",
        (FASTER, FREED, SLOWER[1]),
    ),
    RATE_TOO_LARGE: (
        "trains slowly because its learning rate is too large: a smaller one lowers the loss "
        "further",
        (SLOWER[0], SLOWER[1], BATCH),
    ),
    NOISE: (
        "trains slowly because of the noise of its batches: a larger batch lowers the loss further "
        "at the same rate",
        (BATCH, SLOWER[1]),
    ),
    RATE_TOO_SMALL: (
        "trains slowly because its learning rate is too small: a larger one is stable and lowers "
        "the loss further",
        (FASTER, SLOWER[1]),
    ),
    SADDLE: (
        "trains slowly because it is on a plateau beside a saddle: a kick along a way down helps "
        "and a slope does not",
        (KICKED, FASTER),
    ),
    GRADIENT_FLAT: (
        "trains slowly because the loss falls evenly and gently where it is, and no curvature "
        "ends that",
        (PROJECTED, FASTER, SLOWER[1]),
    ),
    MINIMUM: (
        "trains no further because it is at a local minimum: no way leads down",
        (KICKED, FASTER, SLOWER[1]),
    ),
    NO_SIGNAL: (
        "does not train because no signal reaches its weights",
        (KICKED, FASTER),
    ),
    NOT_SLOW: (
        "does not train slowly: the loss falls, and nothing that was tried falls half as far again",
        (FASTER, SLOWER[1], BATCH),
    ),
    INCONCLUSIVE: (
        "trains slowly for no single reason: what is read and what interventions do not agree",
        (FASTER, SLOWER[1], BATCH, KICKED),
    ),
}
_MOST = 0.5  # of a seed's checkpoints
_FORKS = {
    FASTER: "at three times the rate",
    SLOWER[0]: "at three tenths of the rate",
    SLOWER[1]: "at a tenth of the rate",
    BATCH: "with eight times the batch",
    PROJECTED: "without the ten sharpest directions",
    FREED: "at three times the rate without the ten sharpest directions",
    KICKED: "after a kick along the most negative curvature",
}


def causes(collection: Collection, question: Question, experiments: Sequence[str]) -> list[str]:
    """Three sentences on the setting with most seeds: the cause, its readings, what decided.

    Empty if nothing was diagnosed.
    """
    settings = diagnosed(collection, experiments)
    if not settings:
        return []
    one, *_ = settings
    cause, shares = cause_of(collection, one.cells)
    said, forks = _SAID[cause]
    network = f"{question.network or 'The network'} ({described(one)})"
    return [
        f"{network} {said}; {_frequency(shares)}.",
        _readings(typical(collection, one.cells)),
        _interventions(collection, one, forks),
    ]


def _frequency(shares: pd.Series) -> str:
    num_most = int((shares >= _MOST).sum())
    return (
        f"so say {shares.mean():.0%} of the checkpoints after the start, and half of them or more "
        f"for {num_most} of {count(len(shares), 'seed')}"
    )


def _readings(middle: pd.Series) -> str:
    """What excludes or confirms each cause, as medians over seeds and checkpoints."""
    read = {name: float(middle.get(name, math.nan)) for name in _READ}
    ratio = read["smallest"] / read["largest"] if read["largest"] else math.nan
    own = f" and the batches' own sharpness at {number(read['stability'], 2)} of it"
    batch = "" if math.isnan(read["stability"]) else own
    return (
        f"In the median, the largest eigenvalue is at {number(read['sharpness'], 2)} of what the "
        f"rate allows{batch}, and steps of {number(read['critical_multiple'], 1)} times the size "
        f"begin to raise the loss; a step along the gradient could lower it by "
        f"{_percent(read['promise'])}, where it is less than {_percent(CRITICAL)} beside a saddle "
        f"or at a minimum; the smallest eigenvalue is {short(ratio, digits=2)} of the largest, and "
        f"the noise scale is {number(read['noise_scale'], 0)} at batches of "
        f"{number(read['batch_size'], 0)}."
    )


_READ = (
    *("sharpness", "stability", "critical_multiple", "promise", "smallest", "largest"),
    *("noise_scale", "batch_size"),
)


def _interventions(collection: Collection, one: Setting, forks: Sequence[str]) -> str:
    gains = {fork: mean_interval(usual_gain(collection, one.cells, fork)) for fork in forks}
    told = [f"{_told(gain)} {_FORKS[fork]}" for fork, gain in gains.items() if gain.n]
    if not told:
        return "No fork was taken to its end."
    return (
        "Going on from the same checkpoints on the same images decided: against the training as it "
        f"was, the loss ends {listing(told)}."
    )


def _told(gain: Interval) -> str:
    """A gain, as a part of the loss, by its sign: how much lower or higher the loss ends."""
    if math.isinf(gain.estimate):
        return "without bound" if gain.estimate < 0 else "where the training as it was diverges"
    sign = 100 if gain.estimate > 0 else -100
    low, high = sorted((sign * gain.low, sign * gain.high))
    between = "" if math.isnan(low) else f" (95 % {number(low, 1)} to {number(high, 1)})"
    return f"{number(sign * gain.estimate, 1)} % {'lower' if sign > 0 else 'higher'}{between}"


def _percent(value: float) -> str:
    return f"{short(100 * value, digits=2)} %"
