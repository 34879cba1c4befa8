"""What a terminal shows while a cell trains, and what a log gets instead of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn
from rich.table import Table

if TYPE_CHECKING:
    from typing_extensions import Self

    from optsweep.training.loop import Epoch

SPLITS = ("train", "val", "test")


class Bar:
    """A bar on a terminal; elsewhere there is none."""

    def __init__(
        self, console: Console, what: str, total: int | None, *more: ProgressColumn
    ) -> None:
        """Show how many of `total` steps are done, a text that changes, and what `more` shows."""
        self.console = console
        self._progress: Progress | None = None
        # FORCE_COLOR, which Jupyter and CI set, makes rich take any file for a terminal.
        if console.is_terminal and console.file.isatty():
            self._progress = Progress(
                TextColumn(what),
                MofNCompleteColumn(),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[told]}"),
                *more,
                console=console,
            )
            self._task = self._progress.add_task(what, total=total, told="")

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def move(self, done: int, told: str, total: int | None = None) -> bool:
        """Show that steps are done; tells whether there is a bar that shows it."""
        if self._progress is None:
            return False
        self._progress.update(self._task, completed=done, told=told, total=total)
        return True


class EpochDisplay(Bar):
    """A bar with the current figures on a terminal, one line an epoch elsewhere."""

    def __init__(self, console: Console, num_epochs: int) -> None:
        """Show `num_epochs` epochs on `console`."""
        super().__init__(console, "epoch", num_epochs)
        self.num_epochs = num_epochs
        self.started = time.perf_counter()
        self.first: int | None = None  # epoch that it was told of first

    def __call__(self, epoch: Epoch) -> None:
        """Show an epoch that has just ended."""
        self.show(epoch.epoch, epoch_figures(epoch))

    def show(self, epoch: int, figures: str) -> None:
        """Show what an epoch gave, and how long the others take."""
        figures = f"{figures}  {self._time_left(epoch)}"
        if not self.move(epoch, figures):
            self.console.print(
                f"epoch {epoch}/{self.num_epochs}  {figures}", highlight=False, soft_wrap=True
            )

    def _time_left(self, epoch: int) -> str:
        if self.first is None:
            self.first = epoch
            self.started = time.perf_counter()  # loading and the first evaluation are over
            return ""
        per_epoch = (time.perf_counter() - self.started) / (epoch - self.first)
        seconds = per_epoch * (self.num_epochs - epoch)
        return f"{seconds:.0f} s left"


def show_stack(
    together: EpochDisplay, apart: Sequence[EpochDisplay], epochs: Sequence[Epoch]
) -> None:
    """Show an epoch of cells that are one stack: of all `together`, and of each `apart`."""
    together.show(epochs[0].epoch, stack_figures(epochs))
    for own, epoch in zip(apart, epochs, strict=True):
        own(epoch)


def stack_figures(epochs: Sequence[Epoch]) -> str:
    """Of an epoch of several cells the range of their mean accuracies over living seeds."""
    alive = [epoch for epoch in epochs if epoch.alive.any()]
    texts = [f"{len(epochs)} cells"]
    for split in SPLITS:
        scores = [(getattr(epoch, split), epoch.alive) for epoch in alive]
        means = [float(each.accuracy[living].mean()) for each, living in scores if each is not None]
        if means:
            texts.append(f"{split} accuracy {min(means):.4f} to {max(means):.4f}")
    if len(alive) < len(epochs):
        texts.append(f"{len(epochs) - len(alive)} of the cells diverged")
    return "  ".join(texts)


def epoch_figures(epoch: Epoch) -> str:
    """Learning rate, losses and accuracies as mean ± standard deviation over living seeds."""
    texts = [] if epoch.lr is None else [f"lr {epoch.lr:.4g}"]
    for split in SPLITS:
        scores = getattr(epoch, split)
        if scores is not None and epoch.alive.any():
            loss, accuracy = scores.loss[epoch.alive], scores.accuracy[epoch.alive]
            texts.append(f"{split} loss {spread(loss)} accuracy {spread(accuracy)}")
    dead = int((~epoch.alive).sum())
    if dead:
        texts.append(f"{dead} of {len(epoch.alive)} seeds diverged")
    return "  ".join(texts)


def spread(values: Any) -> str:
    """Mean ± standard deviation; the mean alone of a single value."""
    count = len(values)
    mean = sum(values) / count
    if count == 1:
        return f"{mean:.4f}"
    deviation = (sum((value - mean) ** 2 for value in values) / (count - 1)) ** 0.5
    return f"{mean:.4f} ± {deviation:.4f}"


def result_table(result: Mapping[str, Any]) -> Table:
    """The end of a cell: loss and accuracy of the final weights on every split."""
    completed = [seed for seed in result["per_seed"] if seed["status"] == "completed"]
    title = f"{result['num_seeds']} seed{'s' if result['num_seeds'] > 1 else ''}"
    if len(completed) < result["num_seeds"]:
        title += f", {result['num_seeds'] - len(completed)} diverged"
    table = Table(title=f"{title}, {result['seconds']:.1f} s of training", title_justify="left")
    for heading in ("final weights", "loss", "accuracy"):
        table.add_column(heading)
    for split, key in (("train", "final_train"), ("val", "val"), ("test", "test")):
        if completed and completed[0][f"{key}_loss"] is not None:
            losses, accuracies = (
                spread([seed[f"{key}_{metric}"] for seed in completed])
                for metric in ("loss", "accuracy")
            )
            table.add_row(split, losses, accuracies)
    return table


def distinct_words(overrides: Sequence[Sequence[str]]) -> list[str]:
    """What to call each cell of a sweep: by those of its overrides that not all cells share."""
    shared = set.intersection(*map(set, overrides))
    told = [" ".join(word for word in cell if word not in shared) for cell in overrides]
    return [name or "(all settings shared)" for name in told]


def sweep_table(
    names: Sequence[str], results: Sequence[Mapping[str, Any] | None], failed: Sequence[bool]
) -> Table:
    """The end of a sweep: one row a cell.

    Args:
        names: What the cells are called.
        results: Per cell, its result, or None if it was not trained.
        failed: Per cell, whether something kept it from being trained.
    """
    table = Table(title=f"{len(results)} cells", title_justify="left")
    table.add_column("cell", overflow="fold")
    for heading in ("test accuracy", "train loss", "seconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, result, has_failed in zip(names, results, failed, strict=True):
        if result is None:
            table.add_row(name, "failed" if has_failed else "not trained", "", "")
            continue
        completed = [seed for seed in result["per_seed"] if seed["status"] == "completed"]
        figures = ["diverged", ""]
        if completed:
            figures = [
                spread([seed[key] for seed in completed])
                for key in ("test_accuracy", "final_train_loss")
            ]
        told = ""
        if 0 < len(completed) < result["num_seeds"]:
            told = f" ({result['num_seeds'] - len(completed)} of {result['num_seeds']} diverged)"
        table.add_row(name + told, *figures, f"{result['seconds']:.1f}")
    return table
