"""What the study asks: questions.yaml, claims.yaml and discussion.yaml, read once."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from optsweep.report.outline import Claim, Outline, Question
from optsweep.report.rules import Options


@functools.cache
def outline() -> Outline:
    """The study's questions and claims, in its order."""
    asked, claimed = _read("questions"), _read("claims")
    return Outline(
        title=asked["title"],
        lead=asked["lead"],
        questions=tuple(Question(**entry) for entry in asked["questions"]),
        claims=tuple(_claim(entry, claimed["margins"]) for entry in claimed["claims"]),
    )


@functools.cache
def topics() -> tuple[Mapping[str, Any], ...]:
    """The topics of the discussion, in its order, as they stand in the file."""
    return tuple(_read("discussion"))


def _read(name: str) -> Any:
    return yaml.safe_load(Path(__file__).with_name(f"{name}.yaml").read_text(encoding="utf-8"))


def _claim(entry: Mapping[str, Any], margins: Mapping[str, float]) -> Claim:
    told = dict(entry)
    measure = told.pop("measure")
    measure = measure if isinstance(measure, dict) else {"name": measure}
    measured = str(measure.get("of", measure["name"]))
    options = {each.name: told.pop(each.name) for each in fields(Options) if each.name in told}
    margin = next((margins[kind] for kind in margins if measured.endswith(kind)), 0.0)
    return Claim(**told, measure=measure, options=Options(**{"margin": margin, **options}))
