"""The figures of a question: curves of its experiments, maps of its searches, and its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from optsweep.analysis import batch_figures, gradient_figures, grid_figures
from optsweep.analysis.curve_figures import curves, schedules
from optsweep.analysis.drawing import style
from optsweep.analysis.grids import is_search
from optsweep.analysis.pictures import Picture
from optsweep.analysis.questions import Question
from optsweep.analysis.study import Study

Draw = Callable[[Study, Question, Sequence[str]], "Picture | None"]
# What questions.yaml names.
_OWN: dict[str, Draw] = {
    "loss_against_seconds": batch_figures.loss_against_seconds,
    "equal_steps": batch_figures.equal_steps,
    "timing": batch_figures.timing,
    "against_batch_size": batch_figures.against_batch_size,
    "weight_norms": gradient_figures.weight_norms,
    "gradient_norms": gradient_figures.gradient_norms,
    "gradient_traces": gradient_figures.gradient_traces,
}


def draw_question(study: Study, question: Question, experiments: Sequence[str]) -> list[Picture]:
    """All figures of a question for which there is something to draw."""
    searches = [name for name in experiments if is_search(study.settings_of(name))]
    drawn: list[Picture | None] = []
    with style():
        for experiment in experiments:
            if experiment not in searches:
                drawn.append(curves(study, question, experiment))
                if "schedules" in question.figures:
                    drawn.append(schedules(study, question, experiment))
        for name in question.figures:
            if name in _OWN:
                drawn.append(_OWN[name](study, question, experiments))
        if searches:
            drawn += [
                grid_figures.searches(study, question, searches),
                grid_figures.best_settings(study, question, searches),
            ]
    return [picture for picture in drawn if picture]
