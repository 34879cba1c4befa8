"""What the runs say of a claim: the values it compares, and the rule's finding.

Nothing here is a verdict: `rules` decides by the numbers alone. `evidence` tells them in words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import pandas as pd

from optsweep.config.checks import InputError
from optsweep.report import findings, grids, loops, multiplicity, settings, timing
from optsweep.report.collection import Collection, Setting
from optsweep.report.evidence import Compared, evidence
from optsweep.report.findings import Finding, Sample, repeated
from optsweep.report.language import Text, listing, say
from optsweep.report.measures import possible, sample_of
from optsweep.report.outline import Claim
from optsweep.report.rules import RULES, of_ratios
from optsweep.report.statistics import Interval

# Measures of several settings at once, such as a fit over all batch sizes.
_OF_MANY: dict[str, Callable[..., pd.Series]] = {
    "fixed_share": timing.fixed_share,
    "interaction": grids.interaction,
    "loop_ratio": loops.loop_ratio,
}
# Of these, what says nothing of the settings themselves.
_OF_NONE = ("loop_ratio",)
# What a cell of a claim says beside its settings: where it is, and that the best is meant.
_DIRECTIONS = ("in", "best")
_NOTHING = Interval(float("nan"), float("nan"), float("nan"), 0)


@dataclass(frozen=True)
class Judgement:
    """A claim with its verdict, the comparison that decided it, and the evidence in words.

    Attributes:
        claim: What is claimed.
        finding: The comparison that decided.
        evidence: In words; a `Text`.
        verdict: One of `findings.VERDICTS`, together with the question's other claims.
        settings: All that were compared, under whatever reading.
        is_hopeless: Whether it is undecided, and `multiplicity.FORESEEN` seeds like those that it
            has would not decide it.
    """

    claim: Claim
    finding: Finding
    evidence: str
    verdict: str
    settings: Sequence[Setting] = ()
    is_hopeless: bool = False


def judge(claims: Sequence[Claim], collection: Collection) -> list[Judgement]:
    """Decide claims, those of a question together; one that cannot be tested says why."""
    compared = [_compare(claim, collection) for claim in claims]
    verdict_of: dict[str, str] = {}
    for question in dict.fromkeys(claim.question for claim in claims):
        own = [each for each in compared if each.claim.question == question]
        found = multiplicity.verdicts([each.finding for each in own])
        verdict_of |= {each.claim.id: verdict for each, verdict in zip(own, found, strict=True)}
    return [_judgement(each, verdict_of[each.claim.id], collection) for each in compared]


def _is_hopeless(each: Compared, collection: Collection) -> bool:
    """Whether an undecided claim is not worth more seeds.

    A few seeds of which some collapse do not foretell how many of the next ones will.
    """
    effect = each.finding.effect
    if each.finding.by_median or effect.n < multiplicity.LOOKS[0]:
        return False
    foreseen = _compare(each.claim, collection, multiplicity.FORESEEN)
    return not multiplicity.may_decide(foreseen.finding)


def _compare(claim: Claim, collection: Collection, num_seeds: int = 0) -> Compared:
    """Hold a claim against the runs, as if their seeds were repeated until there are so many."""
    if claim.not_tested:
        return Compared(claim, Finding({}, _NOTHING, ""), problem=Text(claim.not_tested))
    if claim.readings:
        return _compare_readings(claim, collection, num_seeds)
    try:
        samples, compared = _samples(claim, collection)
    except InputError as error:
        return Compared(claim, Finding({}, _NOTHING, ""), problem=_problem(error))
    samples = repeated(samples, num_seeds)
    return Compared(claim, decide(claim, samples), samples, compared)


def _problem(error: InputError) -> Text:
    told = error.args[0]
    return told if isinstance(told, Text) else Text(str(told))


def decide(claim: Claim, samples: Sequence[Sample]) -> Finding:
    """What the claim's rule finds of the values that it compares."""
    rule = RULES[claim.kind]
    if claim.is_ratio:
        return of_ratios(rule, samples, claim.options)
    found = rule(samples, claim.options)
    if found.of_one_run:
        return replace(found, effect=possible(found.effect, claim.measure))
    return found


def _compare_readings(claim: Claim, collection: Collection, num_seeds: int) -> Compared:
    """A claim under all of its readings; told are the settings of the reading that decides.

    A reading under which a setting has too few values can neither confirm nor contradict, and is
    left out as long as another has enough.
    """
    found = {name: _compare(read, collection, num_seeds) for name, read in claim.read().items()}
    for each in found.values():
        if each.problem:
            return replace(each, claim=claim)
    known = {name: each for name, each in found.items() if each.is_known} or found
    decided = findings.any_holds({name: each.finding for name, each in known.items()})
    reading = cast(Text, decided.of).values["name"]
    left_out = [name for name in found if name not in known]
    compared = {one.cells: one for each in found.values() for one in each.settings}
    return replace(
        found[reading],
        finding=decided,
        reading=reading,
        left_out=left_out,
        of_all_readings=[*compared.values()],
    )


def _judgement(each: Compared, verdict: str, collection: Collection) -> Judgement:
    is_hopeless = verdict == findings.UNDECIDED and _is_hopeless(each, collection)
    told = each.problem or evidence(replace(each, is_hopeless=is_hopeless), verdict, collection)
    compared = each.of_all_readings or each.settings
    return Judgement(each.claim, each.finding, told, verdict, compared, is_hopeless)


def claims_table(judgements: Sequence[Judgement]) -> pd.DataFrame:
    """A row per claim: what it says, the effect that decided it, the verdict and the evidence."""
    rows = [
        {
            "id": each.claim.id,
            "question": each.claim.question,
            "claim": each.claim.claim,
            "reported": each.claim.reported,
            **dict(zip(("effect", "low", "high", "n"), each.finding.effect, strict=True)),
            "margin": each.claim.options.margin,
            "p": each.finding.least_p if each.finding.p else float("nan"),
            "verdict": each.verdict,
            "evidence": each.evidence,
        }
        for each in judgements
    ]
    return pd.DataFrame(rows)


def _samples(claim: Claim, collection: Collection) -> tuple[list[Sample], list[Setting]]:
    """The values that are compared, and their settings.

    Raises:
        InputError: If a setting is not there or not trained.
    """
    samples: list[Sample] = []
    compared: list[Setting] = []
    name = claim.measure["name"]
    for cell in claim.cells:
        found = _find(claim, collection, cell)
        if cell.get("best"):
            found = [one for one in [grids.best_of(collection, found)] if one]
        if name not in _OF_NONE:
            compared += found
        if name in _OF_MANY:
            options = {key: value for key, value in claim.measure.items() if key != "name"}
            samples.append(Sample(_name(claim, cell), _OF_MANY[name](collection, found, **options)))
        elif len(found) != 1:
            raise InputError(say("problem.many", cell=_name(claim, cell), n=len(found)))
        else:
            samples.append(_sample(claim, collection, _name(claim, cell), found[0]))
    if claim.others is not None:
        for one in _find(claim, collection, claim.others):
            if one not in compared:
                compared.append(one)
                samples.append(_sample(claim, collection, one.label, one))
    if name.startswith("seconds"):
        _check_threads(compared, collection)
    return samples, compared


def _check_threads(compared: Sequence[Setting], collection: Collection) -> None:
    """Refuse to compare times that were taken with different numbers of threads, by accident."""
    threads = {one.label: collection.threads_of(one.cells) for one in compared}
    known = {label: number for label, number in threads.items() if number is not None}
    are_asked_for = any("num_threads" in one.chosen for one in compared)
    if len(set(known.values())) > 1 and not are_asked_for:
        told = [say("evidence.value", name=label, value=number) for label, number in known.items()]
        raise InputError(say("problem.threads", threads=listing(told)))


def _sample(claim: Claim, collection: Collection, name: str, setting: Setting) -> Sample:
    return sample_of(collection, setting.cells, claim.measure, name)


def _find(claim: Claim, collection: Collection, cell: Mapping[str, Any]) -> list[Setting]:
    experiment = claim.experiment(cell)
    found = collection.find(experiment, _where(cell))
    if not found:
        raise InputError(say("problem.no_cell", cell=_name(claim, cell), experiment=experiment))
    for setting in found:
        if not setting.is_trained:
            raise InputError(
                say(
                    "problem.not_trained",
                    setting=setting.label,
                    experiment=experiment,
                    status=setting.status,
                    reason=setting.reason,
                )
            )
    return found


def _where(cell: Mapping[str, Any]) -> settings.Settings:
    return {key: value for key, value in cell.items() if key not in _DIRECTIONS}


def _name(claim: Claim, cell: Mapping[str, Any]) -> str:
    where = _where(cell)
    experiment = claim.experiment(cell)
    named = settings.label(where, list(where))
    if not named or len({claim.experiment(each) for each in claim.cells}) == 1:
        return named or experiment
    if experiment == claim.question:
        return named
    return say("evidence.elsewhere", name=named, experiment=experiment)
