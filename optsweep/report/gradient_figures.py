"""Figures of what was recorded of weights and gradients."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from optsweep.report.curve_figures import seeds_told
from optsweep.report.drawing import (
    INK,
    band,
    epochs,
    legend,
    log_scale,
    plain_number,
    styles,
)
from optsweep.report.gradients import of_quantity, total_norm
from optsweep.report.pictures import Picture
from optsweep.report.questions import Question
from optsweep.report.settings import label
from optsweep.report.study import Setting, Study

_MAX_TRACES = 6


def weight_norms(study: Study, question: Question, experiments: Sequence[str]) -> Picture | None:
    """Norm of all weights against epochs, a panel for each learning rate."""
    settings = _recorded(study, experiments, "weight_norm")
    if not settings:
        return None
    rates = sorted({float(setting.value("lr")) for setting in settings})
    keys = ("optimizer", "weight_decay")
    names = list(dict.fromkeys(label(setting.facets, keys) for setting in settings))
    looks = styles(names)
    figure = Figure(figsize=(10, 4.0), layout="constrained")
    panels = figure.subplots(1, len(rates), squeeze=False)[0]
    for axes, rate in zip(panels, rates, strict=True):
        shown = [setting for setting in settings if setting.value("lr") == rate]
        for setting in shown:
            name = label(setting.facets, keys)
            norms = total_norm(study, setting.cells, "weight_norm")
            rows = norms.stack().rename("norm").reset_index()
            band(axes, rows, "epoch", "norm", looks[name], name)
        axes.set_title(f"learning rate {rate:g}: norm of all weights")
        log_scale(axes, "y")
        epochs(axes, max(int(setting.facets["epochs"]) for setting in shown))
    legend(figure, panels[0])
    caption = f"Euclidean norm of all weights and biases. {seeds_told(study, settings)}"
    return Picture(f"{question.id}_weight_norms", figure, caption)


def gradient_norms(study: Study, question: Question, experiments: Sequence[str]) -> Picture | None:
    """Norms of gradient, weights and update of every layer against epochs."""
    settings = _recorded(study, experiments, "gradient_norm")
    if not settings:
        return None
    one = settings[0]
    figure = Figure(figsize=(10, 3.9), layout="constrained")
    panels = figure.subplots(1, 3)
    for axes, quantity, title in zip(
        panels,
        ("gradient_norm", "weight_norm", "update_norm"),
        ("norm of the gradient", "norm of the weights", "norm of an epoch's update"),
        strict=True,
    ):
        rows = of_quantity(study, one.cells, quantity)
        rows = rows[rows["parameter"].str.endswith("weight")]
        names = sorted(rows["parameter"].unique())
        for name, look in styles(names, ordered=True).items():
            told = name.removesuffix(".weight").replace("linear", "layer ")
            band(axes, rows[rows["parameter"] == name], "epoch", "value", look, told)
        axes.set_title(title)
        log_scale(axes, "y")
        epochs(axes, int(one.facets["epochs"]))
    legend(figure, panels[0])
    caption = (
        "Norms per layer, of the weight matrices. The gradient is that of the mean loss over all "
        f"training images. {seeds_told(study, [one])}"
    )
    return Picture(f"{question.id}_norms", figure, caption)


def gradient_traces(study: Study, question: Question, experiments: Sequence[str]) -> Picture | None:
    """The full-data gradients of single weights of the first layer, a line per seed."""
    settings = _recorded(study, experiments, "gradient_norm")
    if not settings:
        return None
    one = settings[0]
    rows = of_quantity(study, one.cells, "gradient")
    fractions = of_quantity(study, one.cells, "pixel_nonzero_fraction")
    bright = fractions.groupby("parameter")["value"].mean()
    names = list(rows["parameter"].unique())[:_MAX_TRACES]
    if not names:
        return None
    figure = Figure(figsize=(10, 2.7 * -(-len(names) // 3)), layout="constrained")
    panels = figure.subplots(-(-len(names) // 3), 3, squeeze=False, sharex=True).flat
    seed_colour = list(styles(["", "seed"], "").values())[1].color
    for axes, name in zip(panels, names, strict=False):
        traces = rows[rows["parameter"] == name].pivot(
            index="epoch", columns="seed", values="value"
        )
        axes.plot(traces, color=seed_colour, lw=0.7, alpha=0.5)
        axes.plot(traces.median(axis=1), color=INK, lw=1.8)
        axes.axhline(0, color=INK, lw=0.6)
        pixel = name.rpartition(",")[2].rstrip("]")
        share = f", lit in {bright[name]:.1%} of images" if name in bright else ""
        axes.set_title(f"pixel {pixel}{share}", fontsize=9.5)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value)))
        epochs(axes, int(one.facets["epochs"]))
    for axes in list(panels)[len(names) :]:
        axes.set_visible(False)
    caption = (
        "Gradients of the loss over all training images with respect to single weights from a "
        "pixel to the first hidden unit; thin lines are seeds, the thick one is their median. "
        "The report's weights come first, then pixels that carry signal. Each panel has its own "
        "scale."
    )
    return Picture(f"{question.id}_traces", figure, caption)


def _recorded(study: Study, experiments: Sequence[str], quantity: str) -> list[Setting]:
    return [
        setting
        for name in experiments
        for setting in study.settings_of(name)
        if setting.trained and len(of_quantity(study, setting.cells, quantity))
    ]
