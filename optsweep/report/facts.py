"""Sentences that only one question has: the cost of a step, coupling, what slows training."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from optsweep.report import timing
from optsweep.report.gradients import SIGNAL, gradient_size, of_quantity, remaining_gradient
from optsweep.report.grids import best_of, interaction, is_search
from optsweep.report.measures import score
from optsweep.report.questions import Question
from optsweep.report.settings import family
from optsweep.report.statistics import bootstrap_interval
from optsweep.report.study import Setting, Study
from optsweep.report.wording import interval, listing, number, short

_CORNER = "linear1.weight[0,725]"


def _step_cost(study: Study, question: Question, experiments: Sequence[str]) -> list[str]:
    if "timing" not in question.figures:
        return []
    settings = [one for name in experiments for one in study.settings_of(name)]
    times = timing.step_times(study, settings).median()
    if len(times) < 3:
        return []
    fit = timing.fit_step_time(list(times.index), list(times))
    equal = fit.overhead / fit.per_example if fit.per_example else math.inf
    rates = times.index / times
    first, last = times.index[0], times.index[-1]
    shares = [fit.overhead / fit.seconds(size) for size in (first, last)]
    return [
        f"A step costs {short(fit.overhead * 1e6)} µs whatever its size and "
        f"{short(fit.per_example * 1e6)} µs for each image; both weigh the same at a batch of "
        f"{number(equal, 0)}. From batch size {first:,} to {last:,}, the fixed cost falls from "
        f"{shares[0]:.0%} to {shares[1]:.0%} of a step, and images per second go from "
        f"{number(rates.iloc[0], 0)} to {number(rates.iloc[-1], 0)}."
    ]


def _coupling(study: Study, question: Question, experiments: Sequence[str]) -> list[str]:
    if "weight_norms" not in question.figures:
        return []
    told = []
    for name in experiments:
        settings = [one for one in study.settings_of(name) if one.trained]
        if is_search(settings):
            found = bootstrap_interval(interaction(study, settings, ("lr", "weight_decay")))
            if found.n:
                told.append(
                    f"{number(found.mean, 3)} ({interval(found.low, found.high, 3)}) in {name}"
                )
    if not told:
        return []
    return [f"Of the map's variation, {listing(told)} is interaction of learning rate and decay."]


def _slowness(study: Study, question: Question, experiments: Sequence[str]) -> list[str]:
    if "gradient_traces" not in question.figures:
        return []
    told = []
    for name in experiments:
        for one in study.settings_of(name):
            if not one.trained or of_quantity(study, one.cells, "gradient_norm").empty:
                continue
            left = remaining_gradient(study, one.cells).mean()
            told.append(
                f"After the last epoch, the norm of the whole gradient is {short(left)} times the "
                "untrained network's."
            )
            corner = gradient_size(study, one.cells, _CORNER).mean()
            signal = gradient_size(study, one.cells, SIGNAL).mean()
            if corner > 0:
                told.append(
                    f"The gradient of the weight from pixel 725 is {short(signal / corner)} times "
                    "smaller than that of a weight whose pixel carries signal."
                )
    return told


def _ranking(study: Study, question: Question, experiments: Sequence[str]) -> list[str]:
    if "performance_profile" not in question.figures:
        return []
    families: dict[str, list[Setting]] = {}
    for name in experiments:
        for one in study.settings_of(name):
            if one.trained:
                families.setdefault(family(one.facets), []).append(one)
    tested = {}
    for name, settings in families.items():
        best = best_of(study, settings)
        if best is not None:
            tested[name] = score(study, best.cells, "test_accuracy").mean()
    if len(tested) < 2:
        return []
    order = sorted(tested, key=lambda name: -tested[name])
    told = [f"{name} {number(tested[name], 4)}" for name in order]
    return [f"Each at its best setting, they end with a test accuracy of {listing(told)}."]


FACTS: tuple[Callable[[Study, Question, Sequence[str]], list[str]], ...] = (
    _step_cost,
    _coupling,
    _slowness,
    _ranking,
)
