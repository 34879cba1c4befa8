"""Figures about batch sizes: loss against time and steps, and what a step costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from optsweep.report.curve_figures import seeds_told, with_errors
from optsweep.report.drawing import INK, Style, band, legend, log_scale, styles
from optsweep.report.grids import is_search
from optsweep.report.machine import matmul_peak
from optsweep.report.pictures import Picture
from optsweep.report.questions import Question
from optsweep.report.settings import phrase_value
from optsweep.report.study import Setting, Study
from optsweep.report.timing import fit_step_time, flops_per_example, step_times
from optsweep.report.wording import short

_SCORES = (("train_loss", "train loss"), ("test_error", "test error"))


def loss_against_seconds(
    study: Study, question: Question, experiments: Sequence[str]
) -> Picture | None:
    """Train loss and test error against the seconds of training, on a logarithmic axis."""
    caption = (
        "Train loss and test error against wall-clock seconds of training, evaluation excluded. "
        "A vertical line compares batch sizes at equal seconds. "
    )
    return _against(study, question, experiments, "seconds", "seconds of training", caption)


def equal_steps(study: Study, question: Question, experiments: Sequence[str]) -> Picture | None:
    """Train loss and test error against optimizer steps."""
    caption = (
        "The same against optimizer steps. A vertical line compares batch sizes at equal steps, "
        "though not at equal numbers of images. "
    )
    return _against(study, question, experiments, "step", "optimizer steps", caption)


def against_batch_size(
    study: Study, question: Question, experiments: Sequence[str]
) -> Picture | None:
    """Test accuracy against batch size, a line for each optimizer."""
    lines: dict[str, dict[int, Setting]] = {}
    for setting in _trained(study, experiments):
        line = lines.setdefault(phrase_value(setting.value("optimizer")), {})
        line[int(setting.facets["batch_size"])] = setting
    lines = {name: line for name, line in lines.items() if len(line) > 1}
    if not lines:
        return None
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    panels = figure.subplots(1, 2)
    looks = styles(list(lines))
    for axes, (column, measured) in zip(
        panels, (("test_accuracy", "test accuracy"), ("train_loss", "train loss")), strict=True
    ):
        for name, line in lines.items():
            sizes = sorted(line)
            seeds = [study.seeds_of(line[size].cells)[column].astype(float) for size in sizes]
            quartiles = np.array([values.quantile([0.25, 0.5, 0.75]) for values in seeds])
            _line(axes, sizes, quartiles[:, 1], looks[name], name)
            axes.fill_between(
                sizes, quartiles[:, 0], quartiles[:, 2], color=looks[name].color, alpha=0.18, lw=0
            )
        axes.set(title=measured, xlabel="batch size")
        axes.set_xscale("log")
        ticks = sorted({size for line in lines.values() for size in line})
        axes.set_xticks(ticks, [f"{size:,}" for size in ticks])
        axes.minorticks_off()
    legend(figure, panels[0])
    told = seeds_told(study, [one for line in lines.values() for one in line.values()])
    caption = f"Each optimizer at its default learning rate, at small and large batches. {told}"
    return Picture(f"{question.id}_batch_size", figure, caption)


def timing(study: Study, question: Question, experiments: Sequence[str]) -> Picture | None:
    """Seconds per step with the fit, seconds per epoch, images and arithmetic per second."""
    settings = _trained(study, experiments)
    times = step_times(study, settings)
    if times.shape[1] < 2:
        return None
    sizes = np.array(times.columns, dtype=float)
    seconds = times.median().to_numpy()
    one = settings[0]
    flops = flops_per_example(one.facets["hidden_sizes"])
    figure = Figure(figsize=(10, 6.6), layout="constrained")
    (step, epoch), (images, arithmetic) = figure.subplots(2, 2)
    measured, fitted = styles(["measured", "fit"], "measured").values()
    steps_per_epoch = np.ceil(one.facets["num_train"] / sizes)
    for axes, values, title in (
        (step, seconds, "seconds per step"),
        (epoch, seconds * steps_per_epoch, "seconds per epoch"),
        (images, sizes / seconds, "images per second"),
        (arithmetic, flops * sizes / seconds / 1e9, "arithmetic, GFLOP per second"),
    ):
        _line(axes, sizes, values, measured, "measured (median)")
        axes.set(title=title, xlabel="batch size")
    caption = "Seconds per step, medians over epochs of runs of a single network. "
    if len(sizes) > 2:
        fit = fit_step_time(list(sizes), list(seconds))
        smooth = np.geomspace(sizes.min(), sizes.max(), 100)
        per_step = fit.overhead + fit.per_example * smooth
        curve = Style(fitted.color, "--", "")
        _line(step, smooth, per_step, curve, "fit t(b) = a + c·b")
        _line(epoch, smooth, per_step * one.facets["num_train"] / smooth, curve, "")
        _line(images, smooth, smooth / per_step, curve, "")
        _line(arithmetic, smooth, flops * smooth / per_step / 1e9, curve, "")
        caption += (
            f"The fit: a = {short(fit.overhead * 1e6)} µs, c = {short(fit.per_example * 1e6)} µs. "
        )
    peak = matmul_peak(study.folder)
    if peak is not None and study.cells.at[one.cells[0], "device"] == "cpu":
        arithmetic.axhline(peak.gflops, color=INK, lw=1, ls=":", label="NumPy's matmul peak")
        caption += f"{peak.told} "
    for axes in (step, epoch, images, arithmetic):
        log_scale(axes, "x")
        log_scale(axes, "y")
    handles = {
        label: handle
        for axes in (step, arithmetic)
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3)
    caption += f"A training example is taken to cost {flops:,} floating-point operations."
    return Picture(f"{question.id}_cost", figure, caption)


def _against(
    study: Study,
    question: Question,
    experiments: Sequence[str],
    x: str,
    xlabel: str,
    caption: str,
) -> Picture | None:
    settings = _trained(study, experiments)
    if not settings:
        return None
    # Of a setting that was trained for several lengths, the longest holds the others.
    settings = list({one.label: one for one in sorted(settings, key=_length)}.values())
    settings.sort(key=lambda one: one.facets["batch_size"])
    names = [setting.label for setting in settings]
    compared = [question.baseline_of(other, settings) for other in settings]
    baseline = next((one.label for one in compared if one), None)
    looks = styles(names, baseline, ordered=True)
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, (column, measured) in zip(panels, _SCORES, strict=True):
        for name, setting in zip(names, settings, strict=True):
            history = with_errors(study.history_of(setting.cells)).query("epoch >= 1")
            band(axes, history, x, column, looks[name], name)
        axes.set(title=measured, xlabel=xlabel)
        log_scale(axes, "x")
        log_scale(axes, "y")
    legend(figure, panels[0])
    caption += seeds_told(study, settings)
    if x == "seconds" and len(study.seeds_of(settings[0].cells)) > 1:
        caption += " The seeds of a setting train as one stack, whose seconds these are."
    name = "equal_seconds" if x == "seconds" else "equal_steps"
    return Picture(f"{question.id}_{name}", figure, caption)


def _length(setting: Setting) -> int:
    return int(setting.facets["epochs"])


def _line(axes: Axes, x: object, y: object, look: Style, label: str) -> None:
    axes.plot(x, y, color=look.color, linestyle=look.linestyle, marker=look.marker, label=label)  # type: ignore[arg-type]


def _trained(study: Study, experiments: Sequence[str]) -> list[Setting]:
    """The trained settings of the experiments that are no searches."""
    return [
        setting
        for name in experiments
        if not is_search(settings := study.settings_of(name))
        for setting in settings
        if setting.trained
    ]
