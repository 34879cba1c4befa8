"""How often the rules are wrong: all of them, counted.

Three kinds of studies whose truth is known: made-up noise, real seeds of short runs, and studies in
which nothing differs. Each verdict is given as the study gives it, with more seeds where it stays
undecided.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from optsweep.config.checks import InputError
from optsweep.report.calibration import (
    EXPERIMENT,
    MEASURES,
    NULL,
    NULL_QUESTION,
    REAL,
    SIMULATED,
)
from optsweep.report.collection import Collection
from optsweep.report.measures import collapsed, measure
from optsweep.report.outline import Claim
from optsweep.report.rules import Options
from optsweep.study.simulation import (
    DECIDED,
    NOISES,
    STEP,
    Chances,
    Floats,
    Outcome,
    Part,
    Population,
    any_reading,
    at_looks,
    chances,
    look_again,
    parts,
    truth,
)

EFFECTS = (-2.0, -1.0, 0.0, 1.0, 2.0)  # in margins; at a margin itself most goes wrong
FINE_EFFECTS = tuple(np.linspace(-2, 2, 17))
# Beside a threshold: what is right changes there, and noise decides nothing.
A_HAIR = 1e-6
FAR = 4.0
# Rules about a share of the seeds, and whether it grows or falls with the threshold.
_SHARES = {"fails": 1, "mostly": -1}


class Scenario(NamedTuple):
    """Settings of which one has a true effect.

    Attributes:
        rule: Of `rules.RULES`.
        locations: Of the settings, in margins, by the effect.
        ties: See `Options`.
    """

    rule: str
    locations: Callable[[float], Sequence[float]]
    ties: bool = False

    @property
    def has_threshold(self) -> bool:
        """Whether values are held against a number, and not against each other."""
        return self.rule in ("at_least", "at_most", "times", "only_at_least")


SCENARIOS = (
    Scenario("greater", lambda d: (d, 0)),
    Scenario("less", lambda d: (0, d)),
    Scenario("similar", lambda d: (d, 0, 0)),
    Scenario("highest", lambda d: (d, 0, 0)),
    Scenario("highest", lambda d: (d, 0, -FAR)),
    Scenario("highest", lambda d: (d, 0, 0), ties=True),
    Scenario("highest", lambda d: (d, 0, -FAR), ties=True),
    Scenario("lowest", lambda d: (0, d, d)),
    Scenario("lowest", lambda d: (0, d, d + FAR), ties=True),
    Scenario("rising", lambda d: (0, d, 2 * d)),
    Scenario("rising", lambda d: (0, d, d + FAR)),
    Scenario("falling", lambda d: (d + FAR, FAR, 0)),
    Scenario("gains_shrink", lambda d: (2 * FAR + d, FAR, 0)),
    Scenario("gains_more", lambda d: (0, FAR + d, 0, FAR)),
    Scenario("at_least", lambda d: (d,)),
    Scenario("at_most", lambda d: (-d,)),
    Scenario("times", lambda d: (d, 0)),
    Scenario("only", lambda d: (d, 0, -FAR)),
    Scenario("only", lambda d: (FAR, 0, -d)),
    Scenario("only_less", lambda d: (0, d, d + FAR)),
    Scenario("only_at_least", lambda d: (d, -FAR)),
    Scenario("only_at_least", lambda d: (FAR, -d)),
    Scenario("near", lambda d: (0,)),
    Scenario("fails", lambda d: (0,)),
    Scenario("mostly", lambda d: (0,)),
)


@dataclass(frozen=True)
class Row:
    """How many of the draws ended how, for one truth.

    Attributes:
        part: simulated, real, or nothing differs.
        what: A rule or a claim.
        noise: Its kind, or whose seeds.
        effect: True, in margins.
        outcome: What the studies came to say.
        right: What is right of a median, and of a mean.
        is_figure: Whether it asks about a single run.
    """

    part: str
    what: str
    noise: str
    effect: float
    outcome: Outcome
    right: Sequence[set[str]]
    is_figure: bool = False

    def wrong(self) -> np.ndarray:
        """(studies,), which gave a verdict that is wrong."""
        of_median, of_mean = ([name not in right for name in DECIDED] for right in self.right)
        wrong = np.where(
            self.outcome.by_median,
            np.array(of_median)[self.outcome.verdict],
            np.array(of_mean)[self.outcome.verdict],
        )
        return wrong & (self.outcome.verdict >= 0)

    def as_dict(self) -> dict[str, object]:
        """A row of the table of rates."""
        verdict, wrong = self.outcome.verdict, self.wrong()
        return {
            **{"part": self.part, "what": self.what, "noise": self.noise, "effect": self.effect},
            "draws": len(verdict),
            **{name: int((verdict == at).sum()) for at, name in enumerate(DECIDED)},
            **{f"false_{name}": int(wrong[verdict == at].sum()) for at, name in enumerate(DECIDED)},
            "mean_seeds": round(float(self.outcome.seeds.mean()), 2),
        }


def simulated(draws: int, rng: np.random.Generator) -> Iterator[Row]:
    """Every rule on made-up noise."""
    for noise, make in NOISES.items():
        for scenario in SCENARIOS:
            population = make(len(scenario.locations(0)), rng)
            fine = scenario.rule == "greater"
            for effect in FINE_EFFECTS if fine else _effects(scenario):
                yield from _simulated(noise, scenario, effect, population, draws, rng)
        for told, others in (("two more far away", -FAR), ("all alike", None)):
            name = f"greater, any of three readings, {told}"
            for effect in EFFECTS:
                locations = (effect, *([effect if others is None else others] * 2), 0.0)
                population = make(4, rng).moved(locations)
                yield _any_of_three(name, noise, effect, population, draws, rng)


def _effects(scenario: Scenario) -> tuple[float, ...]:
    if scenario.has_threshold:
        return (-2.0, -1.0, -A_HAIR, A_HAIR, 1.0, 2.0)
    return EFFECTS


def _simulated(
    noise: str,
    scenario: Scenario,
    effect: float,
    population: Population,
    draws: int,
    rng: np.random.Generator,
) -> Iterator[Row]:
    comparisons = parts(scenario.rule, len(population.values), scenario.ties)
    moved = population.moved(scenario.locations(0.0 if scenario.has_threshold else effect))
    name = f"{scenario.rule}{', ties' if scenario.ties else ''}"
    # A number in steps is a rounded one.
    rounding = STEP / 2 if scenario.rule == "near" and noise == "tied" else 0.0
    for given in _options(scenario, effect, moved, comparisons):
        options = replace(given, rounding=rounding)
        yield _row(SIMULATED, name, noise, effect, moved, comparisons, options, draws, rng)


def _options(
    scenario: Scenario, effect: float, population: Population, comparisons: Sequence[Part]
) -> Iterator[Options]:
    """The claim's numbers: with two modes, first a median lies at the margin, and then a mean."""
    if scenario.rule == "near":
        yield Options(value=effect)
        return
    if scenario.rule in _SHARES:  # one half, and a fifth more or less of the seeds for each margin
        share = 0.5 + 0.2 * effect * _SHARES[scenario.rule]
        yield Options(value=float(np.quantile(population.values[0], share)))
        return
    first = comparisons[_moved(scenario)]
    for by_median in (True, False)[: 1 if population.collapsed is None else 2]:
        if scenario.has_threshold:
            where = population.where(first.contrast, by_median)
            yield Options(value=where - (-effect if _points_down(first) else effect))
        elif abs(effect) == 1:
            # Where many seeds end with one number, there may be no effect at all.
            margin = abs(population.where(first.contrast, by_median)) or A_HAIR
            yield Options(margin=margin, ties=scenario.ties)
        else:
            yield Options(margin=1.0, ties=scenario.ties)
            return


def _moved(scenario: Scenario) -> int:
    """Which of the comparisons is the first that the effect moves; 0 if it is of the values."""
    low, high = (np.array(scenario.locations(effect)) for effect in (-1.0, 1.0))
    comparisons = parts(scenario.rule, len(low), scenario.ties)
    moves = [bool(np.dot(part.contrast, high - low)) for part in comparisons]
    return moves.index(True) if any(moves) else 0


def _points_down(part: Part) -> bool:
    return part.kind in ("does not exceed", "misses")


def _any_of_three(
    name: str,
    noise: str,
    effect: float,
    population: Population,
    draws: int,
    rng: np.random.Generator,
) -> Row:
    options = Options(margin=1.0)
    contrasts = [tuple(float(i == at) - float(i == 3) for i in range(4)) for at in range(3)]
    readings = [[Part(contrast, "greater")] for contrast in contrasts]

    def find(studies: Population, reported: Floats | None) -> Chances:
        return any_reading([chances(studies, each, options, reported) for each in readings])

    (outcome,) = look_again([at_looks(population, find, draws, rng)])
    right = [
        any_right([truth(population, each, options, by_median) for each in readings])
        for by_median in (True, False)
    ]
    return Row(SIMULATED, name, noise, effect, outcome, right)


def any_right(readings: Sequence[set[str]]) -> set[str]:
    """What is right of a claim under any of its readings, from what is of each."""
    holds = DECIDED[0]
    if any(holds in each for each in readings):
        return {holds}
    return set().union(*readings) if all(readings) else set()


def _row(
    part: str,
    what: str,
    noise: str,
    effect: float,
    population: Population,
    comparisons: Sequence[Part],
    options: Options,
    draws: int,
    rng: np.random.Generator,
) -> Row:
    def find(studies: Population, reported: Floats | None) -> Chances:
        return chances(studies, comparisons, options, reported)

    looks = at_looks(population, find, draws, rng)
    (outcome,) = look_again([looks], np.array([what == "near"]))
    right = [truth(population, comparisons, options, each) for each in (True, False)]
    return Row(part, what, noise, effect, outcome, right)


# Cells lie where they lie: of scenarios that move the same comparison, one is enough.
_WITH_CELLS = tuple({(one.rule, one.ties, _moved(one)): one for one in SCENARIOS}.values())


def real(seeds: pd.DataFrame, draws: int, rng: np.random.Generator) -> Iterator[Row]:
    """Every rule on the seeds of real cells, each with those that follow it in the table.

    What is compared lies at the margin, where most goes wrong, or at the threshold.
    """
    cells = list(dict.fromkeys(seeds["setting"]))
    which = seeds.pivot(index="setting", columns="seed", values="collapsed").loc[cells]
    for name in MEASURES:
        table = seeds.pivot(index="setting", columns="seed", values=name).loc[cells]
        whole = Population(table.to_numpy(float), which.to_numpy(bool))
        for scenario in _WITH_CELLS if name == MEASURES[0] else _WITH_CELLS[:1]:
            for first in range(len(cells)):
                yield from _real(scenario, f"{name}, {cells[first]}", whole, first, draws, rng)


def _real(
    scenario: Scenario,
    noise: str,
    whole: Population,
    first: int,
    draws: int,
    rng: np.random.Generator,
) -> Iterator[Row]:
    num_settings = len(scenario.locations(0))
    used = (first + np.arange(num_settings)) % len(whole.values)
    assert whole.collapsed is not None
    of_some = whole.collapsed[used]
    population = Population(whole.values[used], of_some if of_some.any() else None)
    comparisons = parts(scenario.rule, num_settings, scenario.ties)
    name = f"{scenario.rule}{', ties' if scenario.ties else ''}"
    effects = (0.0,) if scenario.rule in ("near", "fails") else (-A_HAIR, A_HAIR)
    for effect in effects if scenario.has_threshold else effects[-1:]:
        for options in _options(
            scenario, effect if scenario.has_threshold else 1.0, population, comparisons
        ):
            given = replace(options, value=0.0) if scenario.rule == "near" else options
            yield _row(REAL, name, noise, effect, population, comparisons, given, draws, rng)


def nothing_differs(
    claims: Sequence[Claim], draws: int, rng: np.random.Generator
) -> Iterator[tuple[str, list[Row]]]:
    """All claims of each question, on studies whose settings are all alike."""
    tested = [claim for claim in claims if not claim.not_tested and claim.kind != "identical"]
    for question in dict.fromkeys(claim.question for claim in tested):
        own = [claim for claim in tested if claim.question == question]
        found = [_null(claim, draws, rng) for claim in own]
        of_figures = np.array([claim.kind == "near" for claim in own])
        outcomes = look_again([looks for looks, _ in found], of_figures)
        yield (
            question,
            [
                Row(NULL, claim.id, "normal", 0.0, outcome, (right, right), claim.kind == "near")
                for claim, outcome, (_, right) in zip(own, outcomes, found, strict=True)
            ],
        )


def _null(claim: Claim, draws: int, rng: np.random.Generator) -> tuple[list[Chances], set[str]]:
    """What studies in which nothing differs find of a claim, and what is right of them."""
    num_settings = len(claim.cells) + (FEW_OTHERS if claim.others is not None else 0)
    if claim.kind == "gains_more":
        num_settings = 4
    margin = claim.options.margin
    options = replace(claim.options, value=0.0, rounding=0.0, margin=float(margin > 0))
    comparisons = parts(claim.kind, num_settings, options.ties)
    population = NOISES["normal"](num_settings, rng)

    def find(studies: Population, reported: Floats | None) -> Chances:
        return chances(studies, comparisons, options, reported)

    readings = [at_looks(population, find, draws, rng) for _ in claim.readings or [None]]
    right = truth(population, comparisons, options, by_median=False)
    looks = [
        any_reading(each) if len(each) > 1 else each[0] for each in zip(*readings, strict=True)
    ]
    return looks, right


# How many settings `others: {}` is taken to find.
FEW_OTHERS = 4


def rates(
    seeds: pd.DataFrame, draws: int, rng: np.random.Generator, claims: Sequence[Claim]
) -> pd.DataFrame:
    """The table of all rates, a row for each truth; of a question, the studies with any error."""
    rows = [row.as_dict() for row in (*simulated(draws, rng), *real(seeds, draws, rng))]
    for question, of_question in nothing_differs(claims, draws, rng):
        rows += [row.as_dict() for row in of_question]
        tests = [row for row in of_question if not row.is_figure]
        if tests:
            wrong = np.any([row.wrong() for row in tests], axis=0)
            rows.append(
                {
                    **{"part": NULL_QUESTION, "what": question},
                    **{"noise": "normal", "effect": 0.0, "draws": draws},
                    "false_any": int(wrong.sum()),
                }
            )
    return pd.DataFrame(rows)


def seeds_table(collection: Collection) -> pd.DataFrame:
    """What every seed of the calibration's cells came to: a row for each setting and seed.

    Raises:
        InputError: If a cell is not trained.
    """
    tables = []
    for setting in collection.settings_of(EXPERIMENT):
        if not setting.is_trained:
            raise InputError(f"{setting.label}: {setting.status}, {setting.reason}")
        which = collapsed(collection, setting.cells)
        columns = {name: measure(collection, setting.cells, {"name": name}) for name in MEASURES}
        table = pd.DataFrame({"setting": setting.label, "collapsed": which, **columns})
        tables.append(table.reset_index().sort_values("seed"))
    if not tables:
        raise InputError(
            f"{collection.folder} has no {EXPERIMENT}; optsweep experiment={EXPERIMENT} trains it"
        )
    return pd.concat(tables, ignore_index=True).round(6)
