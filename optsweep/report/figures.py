"""The figures of a question: curves of its experiments, maps of its searches, and its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from optsweep.report.calibration import calibration
from optsweep.report.collection import Collection
from optsweep.report.curves import curves, equal_steps, loss_against_seconds, schedules
from optsweep.report.diagnosis_figures import (
    fork_curves,
    pixel_map,
    signal_map,
    spectra,
    stability,
    verdict_timeline,
)
from optsweep.report.drawing import style
from optsweep.report.gradients import gradient_norms, gradient_traces, weight_norms
from optsweep.report.grids import against_batch_size, best_settings, gains, searches
from optsweep.report.measures import none_learned
from optsweep.report.outline import Question
from optsweep.report.pictures import Picture
from optsweep.report.timing import timing

Draw = Callable[[Collection, Question, Sequence[str]], "Picture | None"]
# One for each experiment that is no search.
_OF_EXPERIMENT: dict[str, Callable[[Collection, Question, str], Picture | None]] = {
    each.__name__: each for each in (curves, schedules)
}
# One for all experiments of a question together.
_OF_QUESTION: dict[str, Draw] = {
    each.__name__: each
    for each in (
        *(loss_against_seconds, equal_steps, timing, against_batch_size, gains),
        *(weight_norms, gradient_norms, gradient_traces),
        *(stability, spectra, fork_curves, verdict_timeline, pixel_map, signal_map),
        calibration,
    )
}
FIGURES = (*_OF_EXPERIMENT, *_OF_QUESTION)
_WARNING = "#d55e00"


def draw_question(
    collection: Collection, question: Question, experiments: Sequence[str]
) -> list[Picture]:
    """All figures of a question for which there is something to draw, marked if they are quick."""
    searched = collection.searches(experiments)
    others = [
        name
        for name in experiments
        if name not in searched
        and (name == question.id or not none_learned(collection, collection.trained([name])))
    ]
    # Calibration's runs of one epoch have no curves; others say where among their figures.
    tells_all = not {"curves", calibration.__name__}.isdisjoint(question.figures)
    wanted = question.figures if tells_all else ("curves", *question.figures)
    drawn: list[Picture | None] = []
    with style():
        for name in wanted:
            if name in _OF_EXPERIMENT:
                drawn += [_OF_EXPERIMENT[name](collection, question, each) for each in others]
            else:
                drawn.append(_OF_QUESTION[name](collection, question, experiments))
        if searched:
            drawn += [draw(collection, question, searched) for draw in (searches, best_settings)]
    pictures = [picture for picture in drawn if picture]
    if collection.quick is not None:
        for picture in pictures:
            picture.figure.suptitle("Quick settings", x=0.995, ha="right", color=_WARNING, size=9)
    return pictures
