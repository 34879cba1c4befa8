"""optsweep by its public path, as a cell of a sweep is trained."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmark.peers import Outcome, Train
from benchmark.tasks import MOMENTUM, NETWORKS, Start, Task, examples
from optsweep.cli.composition import compose
from optsweep.training.cell import train_cell
from optsweep.training.plan import plan_cell


def cell(task: Task, settings: tuple[str, ...], _: Any, threads: int | None = None) -> Train:
    """Seconds are those that go into history.csv."""
    examples(task, settings)  # kept for `images`, for Hydra composes no settings within others
    overrides = [
        *settings,
        *("dataset=custom", f"dataset._target_={__name__}.images", "allow_targets=[benchmark]"),
        f"+dataset.task={list(task)}",
        f"+dataset.settings={list(settings)}",
        NETWORKS[task.network].override,
        f"optimizer={'adam' if task.optimizer == 'adam' else 'sgd'}",
        *([f"momentum={MOMENTUM}"] if task.optimizer == "momentum" else []),
        f"optimizer.lr={task.lr}",
        f"batch_size={min(task.batch_size, task.num_examples)}",
        f"num_seeds={task.num_seeds}",
        f"trainer.num_threads={threads or 'null'}",
        "trainer.epochs=1",
    ]

    def train(starts: Sequence[Start]) -> Outcome:
        record = train_cell(plan_cell(compose(*overrides, f"seed={starts[0][0]}")))
        finals = [each["final_train_loss"] for each in record.result["per_seed"]]
        losses = [float("nan") if loss is None else loss for loss in finals]
        made = record.result["engine"], record.result["other_cores"]
        return Outcome(record.history[-1]["seconds"], losses, *made)

    return train


cell_on_one_thread = partial(cell, threads=1)


def images(task: list[Any], settings: list[str]) -> tuple[Any, ...]:
    """The images of a task as a dataset, with few for the test, which is not timed."""
    x, y = examples(Task(*task), tuple(settings))
    x = x.reshape(-1, 1, 28, 28)
    return x, y, x[:100], y[:100]
