"""Keras on JAX: a Sequential model, compiled, and `Model.fit`."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import keras

from optsweep.benchmark.images import Images
from optsweep.benchmark.network import Weights, initial_weights, mean_loss, widths
from optsweep.benchmark.peers import Outcome
from optsweep.benchmark.tasks import BETAS, EPS, MOMENTUM, Task
from optsweep.config.schema import DatasetConfig


class TimedPeer:
    """Times Keras's own epoch, from the callback before it to the callback after it."""

    def __init__(self, images: Images, dataset: DatasetConfig) -> None:
        """See `Peer`."""
        del dataset
        self.images = images
        self.model: Any = None
        self.task: Task | None = None

    def prepare(self, task: Task) -> float:
        """See `Peer`: by how much a first short epoch takes longer than a second one.

        Compiling belongs to a model, so the same one is trained again from fresh weights.
        """
        sizes = widths(self.images.pixels.shape[1], self.images.num_classes)
        self.model = keras.Sequential([keras.Input((sizes[0],))])
        for size in sizes[1:-1]:
            self.model.add(keras.layers.Dense(size, activation="relu"))
        self.model.add(keras.layers.Dense(sizes[-1]))
        self.model.compile(
            _optimizer(task),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=True,
        )
        self.model.optimizer.build(self.model.trainable_variables)
        self.fresh = [variable.numpy() for variable in self.model.optimizer.variables]
        # A whole batch and the partial one that ends an epoch: each shape is compiled.
        few = min(task.num_examples, task.batch_size + task.num_examples % task.batch_size)
        short = dataclasses.replace(task, num_examples=few)
        first, second = (self._fit(short, 0) for _ in range(2))
        return max(0.0, first - second)

    def train(self, task: Task, seeds: Sequence[int]) -> Outcome:
        """See `Peer`."""
        keras.utils.set_random_seed(seeds[0])
        seconds = self._fit(task, seeds[0])
        images = self.images.first(task.num_examples)
        flat = self.model.get_weights()
        weights: Weights = list(zip(flat[::2], flat[1::2], strict=True))
        return Outcome(seconds, [mean_loss(weights, images.pixels, images.labels)])

    def _fit(self, task: Task, seed: int) -> float:
        images = self.images.first(task.num_examples)
        initial = initial_weights(seed, images.pixels.shape[1], images.num_classes)
        self.model.set_weights([part for layer in initial for part in layer])
        for variable, value in zip(self.model.optimizer.variables, self.fresh, strict=True):
            variable.assign(value)
        clock = _Clock()
        self.model.fit(
            images.pixels,
            images.labels,
            batch_size=task.batch_size,
            epochs=1,
            shuffle=True,
            verbose=0,
            callbacks=[clock],
        )
        return clock.seconds


class _Clock(keras.callbacks.Callback):
    seconds = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.seconds = -time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seconds += time.perf_counter()


def _optimizer(task: Task) -> Any:
    if task.optimizer == "adam":
        return keras.optimizers.Adam(task.lr, *BETAS, epsilon=EPS)
    return keras.optimizers.SGD(task.lr, MOMENTUM if task.optimizer == "momentum" else 0.0)
