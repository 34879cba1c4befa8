"""What the study asks and what the report says: the .yaml files beside this, read once.

English stands in them; zh/ has the same in Chinese, by the same ids.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

from optsweep.config.checks import InputError, nearest
from optsweep.report.findings import HOLDS, NEGLIGIBLE, NOT_TESTED, REVERSED, UNDECIDED
from optsweep.report.language import ENGLISH, LANGUAGES, language
from optsweep.report.outline import Claim, Figure, Outline, Question
from optsweep.report.rules import Options

# Rules that hold a single figure or threshold against the runs, which have no use for a margin.
_WITHOUT_MARGIN = (
    *("at_least", "at_most", "near", "times", "only_at_least", "fails", "mostly"),
    "identical",
)
_ORDINARY = "ordinary"  # the kind of margin where a claim names none


@dataclass(frozen=True)
class Sentence:
    """What the report says in one place.

    Attributes:
        quote: In its own words, shortened where it is long.
        claims: Ids of the claims that test it.
        reason: Why no claim tests it; empty if one does.
    """

    quote: str
    claims: tuple[str, ...] = ()
    reason: str = ""


@functools.cache
def outline(name: str = ENGLISH) -> Outline:
    """The study's questions and claims, in its order and in a language."""
    return _english() if name == ENGLISH else _translated(_english(), name)


def outlines(chosen: str = "both") -> list[Outline]:
    """The study in the languages of its pages: en, zh, or both."""
    return [outline(name) for name in LANGUAGES if chosen in (name, "both")]


def _english() -> Outline:
    asked, claimed, found = _read("questions"), _read("claims"), _read("outcomes")
    quoted: dict[str, list[str]] = {}
    for sentence in sentences():
        for claim in sentence.claims:
            quoted.setdefault(claim, []).append(sentence.quote)
    return Outline(
        title=asked["title"],
        lead=asked["lead"],
        questions=tuple(Question(**entry) for entry in asked["questions"]),
        claims=tuple(
            replace(
                _claim(entry, claimed["margins"], quoted.get(entry["id"], ())),
                outcomes=_outcomes(found.get(entry["id"]), ENGLISH),
            )
            for given in claimed["claims"]
            for entry in _by_both_gaps(given, claimed["gaps"])
        ),
        figures=tuple(Figure(**entry) for entry in claimed["figures"]),
        terms=asked["experiments"],
    )


def _translated(english: Outline, name: str) -> Outline:
    """The same with other words; whatever has none stays as it is."""
    asked, claimed, found = (
        _read(f"{name}/{each}") for each in ("questions", "claims", "outcomes")
    )
    words = _words_of_claims(claimed)
    reasons = {
        entry["reason"].strip(): claimed["margins"][kind][of]
        for kind, entries in _read("claims")["margins"].items()
        for of, entry in entries.items()
    }
    # What is diagnosed has its name in a paragraph that is written once for all languages.
    networks = {
        each.network: asked["questions"].get(each.id, {}).get("network", each.network)
        for each in english.questions
        if each.network
    }
    return replace(
        english,
        title=asked["title"],
        lead=asked["lead"],
        questions=tuple(
            replace(
                each,
                part=asked["parts"].get(each.part, each.part),
                **asked["questions"].get(each.id, {}),
            )
            for each in english.questions
        ),
        claims=tuple(
            replace(
                each,
                **words.get(each.id, {}),
                margin_reason=reasons.get(each.margin_reason, each.margin_reason),
                outcomes=_outcomes(found.get(each.id), name),
            )
            for each in english.claims
        ),
        figures=tuple(replace(each, **claimed["figures"][each.id]) for each in english.figures),
        terms={**asked["experiments"], **claimed["readings"], **networks},
        language=name,
    )


def _words_of_claims(claimed: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By id; of a claim on both gaps also for the second."""
    words: dict[str, dict[str, Any]] = {}
    gaps = _read("claims")["gaps"]
    both = {entry["id"] for entry in _read("claims")["claims"] if entry["measure"] == "gap"}
    for name, told in claimed["claims"].items():
        if name not in both:
            words[name] = told
            continue
        for number, (gap, given) in enumerate(gaps.items()):
            claim = told["claim"].removesuffix("。") + claimed["gaps"][gap]
            own = {key: value for key, value in told.items() if key != "cause" or number == 0}
            words[name + given["suffix"]] = own | {"claim": claim}
    return words


def _outcomes(told: Mapping[str, str] | None, name: str) -> dict[str, str]:
    """A sentence for each verdict."""
    if told is None:
        return {}
    say = functools.partial(language(name).say, whether=told["whether"])
    return {
        HOLDS: told["holds"],
        REVERSED: told["reversed"],
        NEGLIGIBLE: told.get("negligible", told["reversed"]),
        UNDECIDED: say(f"outcome.{UNDECIDED}"),
        NOT_TESTED: say(f"outcome.{NOT_TESTED}"),
    }


@functools.cache
def sentences() -> tuple[Sentence, ...]:
    """What the report says, in its order, each with the claims on it."""
    return tuple(
        Sentence(entry["quote"], tuple(entry.get("claims", ())), entry.get("reason", ""))
        for entry in _read("sentences")
    )


def _read(name: str) -> Any:
    return yaml.safe_load((Path(__file__).parent / f"{name}.yaml").read_text(encoding="utf-8"))


def _by_both_gaps(
    entry: dict[str, Any], gaps: Mapping[str, Mapping[str, str]]
) -> Iterator[dict[str, Any]]:
    """A claim on overfitting as one on each gap; any other as it is.

    A cause is tested once, by the first of them.
    """
    if entry["measure"] != "gap":
        yield entry
        return
    for number, (name, told) in enumerate(gaps.items()):
        claim = entry["claim"].removesuffix(".") + f", {told['by']}."
        own = entry | {"measure": name, "id": entry["id"] + told["suffix"], "claim": claim}
        yield {key: value for key, value in own.items() if key != "cause" or number == 0}


def _claim(
    entry: Mapping[str, Any], margins: Mapping[str, Mapping[str, Any]], quotes: Sequence[str]
) -> Claim:
    told = dict(entry)
    measure = told.pop("measure")
    measure = measure if isinstance(measure, dict) else {"name": measure}
    measured = str(measure.get("of", measure["name"]))
    size, reason = 0.0, ""
    kind = told.pop("margin", _ORDINARY)
    if kind not in margins:
        hint = nearest(str(kind), [*margins])
        raise InputError(f"{told['id']}: margin {kind}: there is no such margin; {hint}")
    if told["kind"] not in _WITHOUT_MARGIN:
        of = next((of for of in margins[kind] if of in measured), None)
        if of is not None:
            size, reason = margins[kind][of]["size"], margins[kind][of]["reason"].strip()
    options = {each.name: told.pop(each.name) for each in fields(Options) if each.name in told}
    return Claim(
        **told,
        measure=measure,
        quotes=quotes,
        margin_reason=reason,
        options=Options(**{"margin": size, **options}),
    )
