"""What the study asks, and what the report says: the four .yaml files beside this, read once."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from optsweep.config.checks import InputError, nearest
from optsweep.report.outline import Claim, Outline, Question
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
def outline() -> Outline:
    """The study's questions and claims, in its order."""
    asked, claimed = _read("questions"), _read("claims")
    quoted: dict[str, list[str]] = {}
    for sentence in sentences():
        for claim in sentence.claims:
            quoted.setdefault(claim, []).append(sentence.quote)
    return Outline(
        title=asked["title"],
        lead=asked["lead"],
        questions=tuple(Question(**entry) for entry in asked["questions"]),
        claims=tuple(
            _claim(entry, claimed["margins"], quoted.get(entry["id"], ()))
            for given in claimed["claims"]
            for entry in _by_both_gaps(given, claimed["gaps"])
        ),
    )


@functools.cache
def topics() -> tuple[Mapping[str, Any], ...]:
    """The topics of the discussion, in its order, as they stand in the file."""
    return tuple(_read("discussion"))


@functools.cache
def sentences() -> tuple[Sentence, ...]:
    """What the report says, in its order, each with the claims on it."""
    return tuple(
        Sentence(entry["quote"], tuple(entry.get("claims", ())), entry.get("reason", ""))
        for entry in _read("sentences")
    )


def _read(name: str) -> Any:
    return yaml.safe_load(Path(__file__).with_name(f"{name}.yaml").read_text(encoding="utf-8"))


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
