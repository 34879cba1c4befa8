"""Studies whose truth is known: what the rules say of them, and whether it is so.

A population has many seeds of every setting; a study draws a few of them. What is right of the
whole population is written down here as contrasts of its settings, without any statistics, so that
it does not rest on what is put to the test. The rules decide thousands of studies at once here;
the tests hold each of their p values against those of `optsweep.report.rules`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from optsweep.report.findings import HOLDS, MIN_VALUES, NEGLIGIBLE, REVERSED
from optsweep.report.multiplicity import LOOKS, NOMINAL
from optsweep.report.rules import Options
from optsweep.report.statistics import PREDICTION_CONFIDENCE

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
DECIDED = (HOLDS, REVERSED, NEGLIGIBLE)
# More noise than any: where a seed ends that collapses.
COLLAPSE = -40.0


@dataclass(frozen=True)
class Population:
    """All seeds that there are, of several settings.

    Attributes:
        values: (settings, seeds) of a measure; NaN where a seed has none.
        collapsed: As large, which seeds have collapsed; None: none can.
    """

    values: Floats
    collapsed: Bools | None = None

    def moved(self, locations: Sequence[float]) -> Population:
        """The same noise about other locations."""
        return Population(self.values + np.array(locations)[:, None], self.collapsed)

    def where(self, contrast: Sequence[float], by_median: bool) -> float:
        """Where a contrast of the settings lies.

        Args:
            contrast: A weight for each setting.
            by_median: Its median over all seeds, or else its mean over those that learned.
        """
        used = np.flatnonzero(contrast)
        each = np.array(contrast)[used] @ self.values[used]
        if by_median:
            return float(np.nanmedian(each))
        if self.collapsed is not None:
            learned = ~self.collapsed[used].any(axis=0)
            each = each[learned] if learned.any() else each
        return float(np.nanmean(each))

    def draw(self, seeds: NDArray[np.intp]) -> Population:
        """Studies that drew these seeds, (studies, n): (settings, studies, n)."""
        collapsed = None if self.collapsed is None else self.collapsed[:, seeds]
        return Population(self.values[:, seeds], collapsed)


class Part(NamedTuple):
    """One of the comparisons that a rule makes, all of which have to hold.

    Attributes:
        contrast: Of the settings.
        kind: What is claimed of it: that it is `greater` than the margin, `not_less` than minus
            the margin, `equivalent` to 0 within it, that it `reaches`, `misses` or `does not
            exceed` the value, that most seeds are not above it (`fails`) or not below it
            (`mostly`), or that another run, moved by the value, could be one of these (`near`).
    """

    contrast: tuple[float, ...]
    kind: str


def parts(rule: str, num_settings: int, ties: bool = False) -> list[Part]:
    """The comparisons of a rule, as `rules` defines them."""
    e = [tuple(row) for row in np.eye(num_settings)]
    first, rest = e[0], e[1:]
    better = "not_less" if ties else "greater"
    steps = [_less(b, a) for a, b in itertools.pairwise(e)]
    found: dict[str, Callable[[], list[Part]]] = {
        "greater": lambda: [Part(_less(first, e[1]), "greater")],
        "less": lambda: [Part(_less(e[1], first), "greater")],
        "similar": lambda: [
            Part(_less(*pair), "equivalent") for pair in itertools.combinations(e, 2)
        ],
        "highest": lambda: [Part(_less(first, one), better) for one in rest],
        "lowest": lambda: [Part(_less(one, first), better) for one in rest],
        "rising": lambda: [Part(step, "greater") for step in steps],
        "falling": lambda: [Part(_minus(step), "greater") for step in steps],
        "gains_shrink": lambda: [
            Part(_less(after, before), "greater") for before, after in itertools.pairwise(steps)
        ],
        "gains_more": lambda: [
            Part(_less(_less(e[1], first), _less(e[3], e[2])), "greater"),
        ],
        "at_least": lambda: [Part(one, "reaches") for one in e],
        "at_most": lambda: [Part(one, "does not exceed") for one in e],
        "times": lambda: [Part(_less(first, e[1]), "reaches")],
        "only": lambda: [
            Part(_less(first, e[1]), "greater"),
            *(Part(_less(e[1], one), "not_less") for one in e[2:]),
        ],
        "only_less": lambda: [
            Part(_less(e[1], first), "greater"),
            *(Part(_less(one, e[1]), "not_less") for one in e[2:]),
        ],
        "only_at_least": lambda: [
            Part(first, "reaches"),
            *(Part(one, "misses") for one in rest),
        ],
        "near": lambda: [Part(first, "near")],
        "fails": lambda: [Part(first, "fails")],
        "mostly": lambda: [Part(first, "mostly")],
    }
    return found[rule]()


def truth(
    population: Population, comparisons: Sequence[Part], options: Options, by_median: bool
) -> set[str]:
    """The verdicts that are right of a population; at a margin itself, none of its two sides is."""
    right = [
        _right_of(part.kind, _where(population, part, options, by_median), options)
        for part in comparisons
    ]
    found = {verdict for each in right for verdict in each if verdict != HOLDS}
    return found | {HOLDS} if all(HOLDS in each for each in right) else found


# Rules about the share of seeds for which something is so.
_SHARES: dict[str, Callable[[Floats, float], Bools]] = {
    "fails": np.less_equal,
    "mostly": np.greater_equal,
}


def _where(population: Population, part: Part, options: Options, by_median: bool) -> float:
    if part.kind in _SHARES:
        return float(_SHARES[part.kind](population.values[0], options.value).mean())
    return population.where(part.contrast, by_median)


def _right_of(kind: str, where: float, options: Options) -> set[str]:
    margin, value = options.margin, options.value
    near = 1e-9 * max(margin, abs(value))
    sides = {
        "greater": {
            HOLDS: where > margin + near,
            REVERSED: where < -margin - near,
            NEGLIGIBLE: abs(where) < margin - near,
        },
        "not_less": {HOLDS: where > -margin + near, REVERSED: where < -margin - near},
        "equivalent": {HOLDS: abs(where) < margin - near, REVERSED: abs(where) > margin + near},
        "reaches": {HOLDS: where > value + near, REVERSED: where < value - near},
        "does not exceed": {HOLDS: where < value - near, REVERSED: where > value + near},
        "misses": {HOLDS: where < value - near, REVERSED: where > value + near},
        # A run that is compatible may be another setting's all the same.
        "near": {HOLDS: True, REVERSED: value != 0},
        **{kind: {HOLDS: where > 0.5, REVERSED: where < 0.5} for kind in _SHARES},
    }
    return {verdict for verdict, is_so in sides[kind].items() if is_so}


class Chances(NamedTuple):
    """P values of many studies.

    Attributes:
        p: (3, studies), for each of `DECIDED`; 1 for one that a rule does not know.
        by_median: As large, whether it would be said of a median, and not of a mean.
    """

    p: Floats
    by_median: Bools


def chances(
    studies: Population, comparisons: Sequence[Part], options: Options, reported: Floats | None
) -> Chances:
    """What a rule finds in many studies at once.

    Args:
        studies: Values of (settings, studies, n).
        comparisons: Of the rule.
        options: Of the claim.
        reported: (studies,) values of the single runs that `near` asks about.
    """
    found = [_compare(studies, part, options, reported) for part in comparisons]
    p, by_median = (
        np.stack([each.p for each in found]),
        np.stack([each.by_median for each in found]),
    )
    weakest, strongest = p[:, :1].argmax(axis=0), p[:, 1:].argmin(axis=0)
    told = np.concatenate([weakest, strongest])[None]  # the comparison that decides
    p = np.take_along_axis(p, told, axis=0)[0]
    p[1:] = np.minimum(1.0, len(found) * p[1:])
    return Chances(p, np.take_along_axis(by_median, told, axis=0)[0])


def any_reading(readings: Sequence[Chances]) -> Chances:
    """What is found of a claim under any of its readings; see `findings.any_holds`."""
    p, by_median = (np.stack(each) for each in zip(*readings, strict=True))
    studies = np.arange(p.shape[2])
    holding = p[:, 0].argmin(axis=0)
    found, medians = np.ones(p.shape[1:]), np.zeros(p.shape[1:], dtype=bool)
    found[0] = np.minimum(1.0, len(readings) * p[holding, 0, studies])
    medians[0] = by_median[holding, 0, studies]
    contrary = p[:, 1:].min(axis=1)
    last = contrary.argmax(axis=0)
    verdict = 1 + p[last, 1:, studies].argmin(axis=1)
    found[verdict, studies] = contrary[last, studies]
    medians[verdict, studies] = by_median[last, verdict, studies]
    return Chances(found, medians)


def _compare(studies: Population, part: Part, options: Options, reported: Floats | None) -> Chances:
    used = np.flatnonzero(part.contrast)
    values = np.tensordot(np.array(part.contrast)[used], studies.values[used], axes=1)
    modes = np.zeros(values.shape, dtype=int)
    if studies.collapsed is not None:
        modes = np.tensordot(2 ** np.arange(len(used)), studies.collapsed[used], axes=1)
    if part.kind == "near":
        return _near(values, modes, options, reported)
    if part.kind in _SHARES:
        return _held_by_most(_SHARES[part.kind](values, options.value))
    where = _Located(values, modes)
    margin, value = options.margin, options.value
    nothing = np.ones(len(values))
    sides: dict[str, Callable[[], tuple[Floats, ...]]] = {
        "greater": lambda: (
            *(where.p_above(margin), where.p_below(-margin)),
            where.p_inside(margin) if margin else nothing,
        ),
        "not_less": lambda: (where.p_above(-margin, or_equal=True), where.p_below(-margin)),
        "equivalent": lambda: (
            where.p_inside(margin),
            np.minimum(where.p_above(margin), where.p_below(-margin)),
        ),
        "reaches": lambda: (where.p_above(value, or_equal=True), where.p_below(value)),
        "does not exceed": lambda: (where.p_below(value, or_equal=True), where.p_above(value)),
        "misses": lambda: (where.p_below(value), where.p_above(value, or_equal=True)),
    }
    found = sides[part.kind]()
    p = np.stack([*found, *[nothing] * (3 - len(found))])
    p = np.where(where.num >= MIN_VALUES, p, 1.0)
    return Chances(p, np.broadcast_to(where.by_median | where.constant, p.shape))


def _near(
    values: Floats, modes: NDArray[np.int_], options: Options, reported: Floats | None
) -> Chances:
    assert reported is not None
    figure = reported + options.value
    kinds = [np.where(modes == mode, values, np.nan) for mode in (0, 1)]
    located = [_Located(each, np.zeros_like(modes)) for each in kinds]
    far = [np.where(each.num > 0, abs(each.mean - figure), np.inf) for each in located]
    learned = far[0] <= far[1]
    of_kind = np.where(learned[:, None], *kinds)
    where = _Located(of_kind, np.zeros_like(modes))
    error = where.spread * np.sqrt(1 + 1 / where.num)
    beyond = np.maximum(0.0, abs(figure - where.mean) - options.rounding)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * special.stdtr(where.num - 1, -beyond / error)
    low, high = np.nanmin(of_kind, axis=1), np.nanmax(of_kind, axis=1)
    outside = np.maximum(low - figure, figure - high) > options.rounding
    by_range = np.where(outside, np.minimum(1.0, 2 / (where.num + 1)), 1.0)
    p = np.where(where.constant | ~learned, by_range, p)
    p = np.where(where.num >= MIN_VALUES, p, 1.0)
    nothing = np.ones(len(values))
    return Chances(np.stack([nothing, p, nothing]), np.zeros((3, len(values)), dtype=bool))


def _held_by_most(which: Bools) -> Chances:
    true, num = which.sum(axis=1), which.shape[1]
    most = np.where(true > 0, special.bdtrc(true - 1, num, 0.5), 1.0)
    p = np.minimum(1.0, 2 * np.stack([most, special.bdtr(true, num, 0.5), np.ones(len(which))]))
    return Chances(p, np.zeros(p.shape, dtype=bool))


class _Located:
    """`statistics.Location` of many studies: values of (studies, n), NaN where there is none."""

    def __init__(self, values: Floats, modes: NDArray[np.int_]) -> None:
        self.values = values
        known = ~np.isnan(values)
        self.num = known.sum(axis=1)
        self.by_median = ((modes > 0) & known).any(axis=1)
        count = np.maximum(self.num, 1)
        self.mean = np.where(known, values, 0.0).sum(axis=1) / count
        excess = np.where(known, values - self.mean[:, None], 0.0)
        self.spread = np.sqrt((excess**2).sum(axis=1) / np.maximum(self.num - 1, 1))
        largest = np.where(known, abs(values), 0.0).max(axis=1)
        self.constant = self.spread <= 1e-9 * largest

    def p_above(self, number: float, or_equal: bool = False) -> Floats:
        return self._p(self.mean - number, self.values - number, or_equal)

    def p_below(self, number: float, or_equal: bool = False) -> Floats:
        return self._p(number - self.mean, number - self.values, or_equal)

    def p_inside(self, margin: float) -> Floats:
        return np.maximum(self.p_above(-margin), self.p_below(margin))

    def _p(self, mean: Floats, excess: Floats, or_equal: bool) -> Floats:
        above = (excess >= 0 if or_equal else excess > 0).sum(axis=1)
        signs = np.where(above > 0, special.bdtrc(above - 1, self.num, 0.5), 1.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = mean / (self.spread / np.sqrt(self.num))
            student = special.stdtr(np.maximum(self.num - 1, 1), -t)
        both = np.where(self.by_median | self.constant, signs, student)
        return np.where(self.num < 2, 1.0, np.minimum(1.0, 2 * both))


class Outcome(NamedTuple):
    """What many studies come to say of a claim.

    Attributes:
        verdict: (studies,), an index of `DECIDED`; -1: undecided.
        by_median: (studies,), whether it is said of a median.
        seeds: (studies,), that it took.
    """

    verdict: NDArray[np.int_]
    by_median: Bools
    seeds: NDArray[np.int_]


def look_again(
    question: Sequence[Sequence[Chances]], of_figures: Bools | None = None
) -> list[Outcome]:
    """Judge the claims of one question; those that stay undecided get more seeds.

    Args:
        question: What each claim finds at each of `LOOKS`.
        of_figures: Which claims ask about a single run, and are not corrected.
    """
    p = np.array([[look.p for look in claim] for claim in question])  # claims, looks, 3, studies
    medians = np.array([[look.by_median for look in claim] for claim in question])
    num_claims, num_looks, _, num_studies = p.shape
    figures = np.zeros(num_claims, dtype=bool) if of_figures is None else of_figures
    figure = figures[:, None]
    at = np.zeros((num_claims, num_studies), dtype=int)
    claims, studies = np.indices(at.shape)
    while True:
        least = p[claims, at, :, studies].min(axis=2)
        corrected = _holm(
            np.where(figures[:, None], 1.0, np.minimum(1.0, num_looks * least)), figures
        )
        given = np.where(figures[:, None], least <= 1 - PREDICTION_CONFIDENCE, corrected <= NOMINAL)
        again = ~given & ~figures[:, None] & (at < num_looks - 1)
        if not again.any():
            break
        at += again
    verdict = np.where(given, p[claims, at, :, studies].argmin(axis=2), -1)
    verdict = np.where(figure & ~given, 0, verdict)
    told = medians[claims, at, verdict, studies]
    seeds = np.array(LOOKS[:num_looks])[at]
    return [Outcome(*each) for each in zip(verdict, told, seeds, strict=True)]


def _holm(p: Floats, left_out: Bools) -> Floats:
    """Holm's correction of (claims, studies) over the claims that are not left out."""
    order = np.argsort(p, axis=0)
    size = int((~left_out).sum())
    factors = np.maximum(size - np.arange(len(p)), 1)[:, None]
    ranked = np.maximum.accumulate(np.take_along_axis(p, order, axis=0) * factors, axis=0)
    corrected = np.empty_like(p)
    np.put_along_axis(corrected, order, np.minimum(1.0, ranked), axis=0)
    return corrected


def at_looks(
    population: Population,
    find: Callable[[Population, Floats | None], Chances],
    draws: int,
    rng: np.random.Generator,
) -> list[Chances]:
    """What studies of a population find at each of `LOOKS`, each keeping the seeds that it has.

    Args:
        population: Whose seeds they draw, with replacement.
        find: What is found in studies, and in the single runs that were reported beside them.
        draws: Studies.
        rng: Draws.
    """
    seeds = rng.integers(population.values.shape[1], size=(draws, LOOKS[-1]))
    # Nobody can tell of a run of a kind that no seed of the study shows: it is of the first's kind.
    first = seeds[:, 0]
    reported = rng.choice(population.values[0], draws)
    if population.collapsed is not None:
        for kind in (False, True):
            of_kind = population.values[0, population.collapsed[0] == kind]
            which = population.collapsed[0, first] == kind
            reported[which] = rng.choice(of_kind, which.sum()) if which.any() else []
    return [find(population.draw(seeds[:, :look]), reported) for look in LOOKS]


def _less(left: tuple[float, ...], right: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(a - b for a, b in zip(left, right, strict=True))


def _minus(one: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(-each for each in one)


def normal(settings: int, rng: np.random.Generator, seeds: int = 4000) -> Population:
    """Normal noise of variance 1, of which settings share a quarter: they share their seeds.

    Every draw is there with both signs, so that each contrast lies exactly at 0.
    """
    shared, own = rng.normal(size=(1, seeds // 2)), rng.normal(size=(settings, seeds // 2))
    half = 0.5 * shared + np.sqrt(0.75) * own
    return Population(np.hstack([half, -half]))


STEP = 1.5  # of tied noise


def tied(settings: int, rng: np.random.Generator) -> Population:
    """Normal noise in steps, of which many values are the same."""
    return Population(np.rint(normal(settings, rng).values / STEP) * STEP)


def two_modes(settings: int, rng: np.random.Generator, share: float = 0.15) -> Population:
    """Normal noise of which a share of the seeds collapses, of each setting its own."""
    noise = normal(settings, rng).values
    collapsed = rng.random(noise.shape) < share
    return Population(np.where(collapsed, COLLAPSE + noise, noise), collapsed)


def autocorrelated(settings: int, rng: np.random.Generator) -> Population:
    """Runs whose epochs hang together; a run's value is the median of its ten.

    Epochs are an AR(1) process with a coefficient of 0.8 about a level of the run's own: no more
    than one value of a run is independent of others.
    """
    half = 2000
    level = 0.7 * rng.normal(size=(settings, half))
    now = rng.normal(size=(settings, half))
    epochs = [now]
    for _ in range(9):
        now = 0.8 * now + 0.6 * rng.normal(size=(settings, half))
        epochs.append(now)
    values = level + np.median(epochs, axis=0)
    return Population(np.hstack([values, -values]))


NOISES: dict[str, Callable[[int, np.random.Generator], Population]] = {
    "normal": normal,
    "two modes": two_modes,
    "tied": tied,
    "autocorrelated": autocorrelated,
}
