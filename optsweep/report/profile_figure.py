"""Performance profiles: on which share of the tasks is an optimizer how close to the fastest?

As AlgoPerf scores them (Dahl et al. 2023, arXiv:2306.07179; Dolan & Moré 2002): with t(o, k) the
time of optimizer o on task k, its profile at r is the share of tasks with
t(o, k) <= r min over o' of t(o', k). Here a task is one seed and one target to reach, and time
is counted in epochs, all of as many steps: seconds would tell what else the machine did.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from optsweep.report.drawing import legend, log_scale, styles
from optsweep.report.grids import best_of
from optsweep.report.pictures import Picture
from optsweep.report.questions import Question
from optsweep.report.settings import family
from optsweep.report.statistics import time_to_target
from optsweep.report.study import Setting, Study

_TARGETS = (0.80, 0.82, 0.84, 0.86, 0.88)  # test accuracies, from easy to hard


def performance_profile(
    study: Study, question: Question, experiments: Sequence[str]
) -> Picture | None:
    """The profiles of all optimizers of the searches, each at its best setting."""
    families: dict[str, list[Setting]] = {}
    for name in experiments:
        for setting in study.settings_of(name):
            if setting.trained:
                families.setdefault(family(setting.facets), []).append(setting)
    times = pd.DataFrame({name: _times(study, settings) for name, settings in families.items()})
    if times.shape[1] < 2 or not np.isfinite(times.to_numpy()).any():
        return None
    profiles = profile(times)
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    axes = figure.subplots()
    for name, look in styles(list(profiles)).items():
        axes.step(
            profiles.index,
            profiles[name],
            where="post",
            color=look.color,
            linestyle=look.linestyle,
            marker=look.marker,
            markevery=max(1, len(profiles) // 8),
            label=name,
        )
    axes.set(xlabel="epochs, as a multiple of the fastest optimizer's", ylabel="share of the tasks")
    axes.set(xlim=(1, float(profiles.index[-1])), ylim=(0, 1.02))
    log_scale(axes, "x")
    legend(figure, axes)
    targets = f"{_TARGETS[0]:g} to {_TARGETS[-1]:g}"
    caption = (
        f"Performance profiles: a task is one seed and one of {len(_TARGETS)} targets, test "
        f"accuracies from {targets}; the time is the epochs of training until it is reached. Each "
        "optimizer is at its best setting by validation accuracy. Higher and further left is "
        "better; a target that is missed is never reached."
    )
    return Picture(f"{question.id}_profile", figure, caption)


def profile(times: pd.DataFrame) -> pd.DataFrame:
    """The profile of each column of times: a row per task, infinite for a failure.

    Returns:
        A column per optimizer; index: the ratios at which a profile rises, 1 first.
    """
    fastest = times.min(axis=1)
    ratios = times.div(fastest.where(fastest < math.inf, 1.0), axis=0)
    rises = np.unique(ratios.to_numpy()[np.isfinite(ratios.to_numpy())])
    steps = np.union1d([1.0], rises)
    shares = {name: [(ratios[name] <= step).mean() for step in steps] for name in ratios}
    return pd.DataFrame(shares, index=steps)


def _times(study: Study, settings: Sequence[Setting]) -> pd.Series:
    """Epochs to every target, index: seed and target, at the best setting."""
    best = best_of(study, settings)
    assert best is not None
    history = study.history_of(best.cells)
    reached = {
        target: time_to_target(history, "test_accuracy", target)["epochs"] for target in _TARGETS
    }
    return pd.DataFrame(reached).stack()
