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
from optsweep.report.language import Text, listing, say
from optsweep.report.outline import Question
from optsweep.report.statistics import Interval, mean_interval
from optsweep.report.wording import count, number, short

# Of each verdict: the message that tells it, and which forks decided.
_SAID: dict[str, tuple[str, Sequence[str]]] = {
    EDGE: ("edge", (FASTER, FREED, SLOWER[1])),
    RATE_TOO_LARGE: ("rate_too_large", (SLOWER[0], SLOWER[1], BATCH)),
    NOISE: ("noise", (BATCH, SLOWER[1])),
    RATE_TOO_SMALL: ("rate_too_small", (FASTER, SLOWER[1])),
    SADDLE: ("saddle", (KICKED, FASTER)),
    GRADIENT_FLAT: ("gradient_flat", (PROJECTED, FASTER, SLOWER[1])),
    MINIMUM: ("minimum", (KICKED, FASTER, SLOWER[1])),
    NO_SIGNAL: ("no_signal", (KICKED, FASTER)),
    NOT_SLOW: ("not_slow", (FASTER, SLOWER[1], BATCH)),
    INCONCLUSIVE: ("inconclusive", (FASTER, SLOWER[1], BATCH, KICKED)),
}
_MOST = 0.5  # of a seed's checkpoints
_FORKS = {
    FASTER: "faster",
    SLOWER[0]: "slower",
    SLOWER[1]: "slowest",
    BATCH: "batch",
    PROJECTED: "projected",
    FREED: "freed",
    KICKED: "kicked",
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
    return [
        say(
            "cause.sentence",
            network=question.network or say("cause.the_network"),
            described=described(one),
            cause=say(f"cause.{said}"),
            frequency=_frequency(shares),
        ),
        _readings(typical(collection, one.cells)),
        _interventions(collection, one, forks),
    ]


def _frequency(shares: pd.Series) -> str:
    num_most = int((shares >= _MOST).sum())
    return say(
        "cause.frequency",
        share=f"{shares.mean():.0%}",
        num=num_most,
        seeds=count(len(shares), "seed"),
    )


def _readings(middle: pd.Series) -> str:
    """What excludes or confirms each cause, as medians over seeds and checkpoints."""
    read = {name: float(middle.get(name, math.nan)) for name in _READ}
    ratio = read["smallest"] / read["largest"] if read["largest"] else math.nan
    own = say("cause.own_sharpness", stability=number(read["stability"], 2))
    return say(
        "cause.readings",
        sharpness=number(read["sharpness"], 2),
        own=Text("") if math.isnan(read["stability"]) else own,
        critical=number(read["critical_multiple"], 1),
        promise=_percent(read["promise"]),
        limit=_percent(CRITICAL),
        ratio=short(ratio, digits=2),
        noise=number(read["noise_scale"], 0),
        batch=number(read["batch_size"], 0),
    )


_READ = (
    *("sharpness", "stability", "critical_multiple", "promise", "smallest", "largest"),
    *("noise_scale", "batch_size"),
)


def _interventions(collection: Collection, one: Setting, forks: Sequence[str]) -> str:
    gains = {fork: mean_interval(usual_gain(collection, one.cells, fork)) for fork in forks}
    told = [
        say("cause.intervention", gain=_told(gain), fork=say(f"cause.fork_{_FORKS[fork]}"))
        for fork, gain in gains.items()
        if gain.n
    ]
    if not told:
        return say("cause.no_fork")
    return say("cause.interventions", gains=listing(told))


def _told(gain: Interval) -> str:
    """A gain, as a part of the loss, by its sign: how much lower or higher the loss ends."""
    if math.isinf(gain.estimate):
        return say("cause.unbounded" if gain.estimate < 0 else "cause.base_diverges")
    sign = 100 if gain.estimate > 0 else -100
    low, high = sorted((sign * gain.low, sign * gain.high))
    between = (
        Text("")
        if math.isnan(low)
        else say("cause.between", low=number(low, 1), high=number(high, 1))
    )
    key = "cause.lower" if sign > 0 else "cause.higher"
    return say(key, percent=number(sign * gain.estimate, 1), between=between)


def _percent(value: float) -> str:
    return f"{short(100 * value, digits=2)} %"
