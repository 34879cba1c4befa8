"""The loop over epochs: orders, learning rates, evaluation, divergence. It knows no files."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from optsweep.config.schema import StoppingConfig
from optsweep.data.tensors import Dataset, epoch_orders
from optsweep.engine import NOTHING, Engine, Scores
from optsweep.runs import mean_accuracy
from optsweep.training.orders import Orders
from optsweep.training.stopping import NEVER, Stop, find_stop


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave, for every seed of the stack.

    Attributes:
        epoch: 0 is the untrained network.
        step: Optimizer steps taken so far.
        lr: Learning rate of the epoch's last step; None before the first.
        train: Averages over the epoch's own batches; of all training examples at epoch 0.
        val: None without a validation split.
        test: Scores on the test split.
        seconds: Wall time of training so far, evaluation excluded.
        alive: (S,) bool, seeds whose losses have been finite up to and with this epoch.
    """

    epoch: int
    step: int
    lr: float | None
    train: Scores
    val: Scores | None
    test: Scores
    seconds: float
    alive: np.ndarray


@dataclass(frozen=True)
class Training:
    """A whole run: its epochs, the last weights' scores on the training split, an early end."""

    epochs: list[Epoch]
    final_train: Scores
    stopped: Stop | None = None


@dataclass(frozen=True)
class Start:
    """Where a training begins.

    Attributes:
        epochs: Those of it that were trained before; the stack is as the last of them left it.
        age: Epochs that its weights were trained for before its own first one. They go on with
            the orders of examples that would have come next.
        alive: (S,) bool, seeds that had not diverged; None: all.
    """

    epochs: Sequence[Epoch] = ()
    age: int = 0
    alive: np.ndarray | None = None


def train(
    engine: Engine,
    dataset: Dataset,
    seeds: Sequence[int],
    learning_rates: np.ndarray,
    batch_size: int,
    on_epoch: Callable[[Epoch], None],
    stopping: StoppingConfig = NEVER,
    start: Start = Start(),
    cycled: Mapping[str, np.ndarray] = NOTHING,
) -> Training:
    """Train a stack of seeds, epoch by epoch.

    A seed whose loss is no longer finite has diverged; it does not disturb the others,
    and the run ends early only when all of them have.

    Args:
        engine: What takes the steps.
        dataset: The splits, on the engine's device.
        seeds: Seeds of the stack, which decide the order of the examples.
        learning_rates: (epochs, 1) or (epochs, steps of an epoch); of a stack of several cells
            (epochs, cells, 1) or (epochs, cells, steps), of which the last one's are told.
        batch_size: Examples of a step.
        on_epoch: Told of every epoch that was not trained before, the untrained network first.
        stopping: When to end before the last epoch.
        start: Where to begin.
        cycled: What else changes with the learning rates; see `Timetable`.
    """
    num_examples = len(dataset.train)
    steps_per_epoch = -(-num_examples // batch_size)
    seconds = 0.0
    alive = np.ones(len(seeds), dtype=bool) if start.alive is None else start.alive
    epochs = list(start.epochs)
    stopped: Stop | None = None

    def record(epoch: int, lr: float | None, scores: Scores) -> None:
        nonlocal alive
        val = engine.evaluate(dataset.val) if dataset.val else None
        test = engine.evaluate(dataset.test)
        for split in filter(None, (scores, val, test)):
            alive = alive & np.isfinite(split.loss)
        epochs.append(Epoch(epoch, epoch * steps_per_epoch, lr, scores, val, test, seconds, alive))
        on_epoch(epochs[-1])

    if epochs:
        seconds, alive = epochs[-1].seconds, epochs[-1].alive
    else:
        record(0, None, engine.evaluate(dataset.train))
    with _orders(seeds, start.age, len(learning_rates), batch_size, dataset) as orders:
        while (epoch := epochs[-1].epoch + 1) <= len(learning_rates):
            stopped = find_stop(stopping, _accuracies(epochs))
            if stopped or (epoch > 1 and not alive.any()):
                break
            rates = learning_rates[epoch - 1]
            started = time.perf_counter()
            others = {key: values[epoch - 1] for key, values in cycled.items()}
            scores = engine.train_epoch(orders.of(epoch), rates, others)
            seconds += time.perf_counter() - started
            record(epoch, float(rates.flat[-1]), scores)
    final_train = engine.evaluate(dataset.train)
    finite = epochs[-1].alive & np.isfinite(final_train.loss)
    epochs[-1] = dataclasses.replace(epochs[-1], alive=finite)
    return Training(epochs, final_train, stopped)


def _accuracies(epochs: Sequence[Epoch]) -> list[float]:
    """Mean validation accuracy after every epoch of training, a diverged seed counted as 0."""
    return [
        mean_accuracy(np.where(epoch.alive, epoch.val.accuracy, np.nan))
        for epoch in epochs[1:]
        if epoch.val is not None
    ]


def _orders(
    seeds: Sequence[int], age: int, num_epochs: int, batch_size: int, dataset: Dataset
) -> Orders:
    """Orders of the examples on the device, or None where every step sees all of them.

    Of a stack of several cells, in each of which the same seeds may be, every seed's is drawn once.
    """
    num_examples, device = len(dataset.train), dataset.train.images.device
    places = {seed: row for row, seed in enumerate(dict.fromkeys(seeds))}
    rows = [places[seed] for seed in seeds] if len(places) < len(seeds) else []

    def draw(epoch: int) -> torch.Tensor | None:
        if batch_size >= num_examples:
            return None
        return epoch_orders(list(places), age + epoch, num_examples, torch.device("cpu"))

    return Orders(draw, num_epochs, device, ahead=device.type == "cuda", rows=rows)
