"""The figures of a question: curves of its experiments, maps of its searches, and its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from optsweep.report import batch_figures, gradient_figures, grid_figures, profile_figure
from optsweep.report.curve_figures import curves, schedules
from optsweep.report.drawing import style
from optsweep.report.grids import is_search
from optsweep.report.pictures import Picture
from optsweep.report.questions import Question
from optsweep.report.study import Study

# One for each experiment that is no search, and what questions.yaml names beside.
_OF_EXPERIMENT: dict[str, Callable[[Study, Question, str], Picture | None]] = {
    "curves": curves,
    "schedules": schedules,
}
_WARNING = "#d55e00"
Draw = Callable[[Study, Question, Sequence[str]], "Picture | None"]
_OWN: dict[str, Draw] = {
    "loss_against_seconds": batch_figures.loss_against_seconds,
    "equal_steps": batch_figures.equal_steps,
    "timing": batch_figures.timing,
    "against_batch_size": batch_figures.against_batch_size,
    "weight_norms": gradient_figures.weight_norms,
    "gradient_norms": gradient_figures.gradient_norms,
    "gradient_traces": gradient_figures.gradient_traces,
    "performance_profile": profile_figure.performance_profile,
}


def draw_question(study: Study, question: Question, experiments: Sequence[str]) -> list[Picture]:
    """All figures of a question for which there is something to draw, marked if they are quick."""
    searches = [name for name in experiments if is_search(study.settings_of(name))]
    others = [name for name in experiments if name not in searches]
    drawn: list[Picture | None] = []
    with style():
        for figure in (
            question.figures if "curves" in question.figures else ("curves", *question.figures)
        ):
            if figure in _OF_EXPERIMENT:
                drawn += [_OF_EXPERIMENT[figure](study, question, name) for name in others]
            else:
                drawn.append(_OWN[figure](study, question, experiments))
        if searches:
            drawn += [
                grid_figures.searches(study, question, searches),
                grid_figures.best_settings(study, question, searches),
            ]
    pictures = [picture for picture in drawn if picture]
    if study.quick is not None:
        for picture in pictures:
            picture.figure.suptitle("Quick settings", x=0.995, ha="right", color=_WARNING, size=9)
    return pictures
