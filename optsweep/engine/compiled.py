"""The fast engine for CPUs: compiled epochs, one thread a seed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import scipy.linalg.cython_blas  # noqa: F401 (the BLAS of compiled code, loaded to be controlled)
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from optsweep.data import Split
from optsweep.engine import Scores
from optsweep.engine.epochs import new_buffers, score, train_epoch
from optsweep.engine.rules import Rule
from optsweep.model import StackedMLP

# Examples of one pass without gradients; larger ones leave the second-level cache.
_EVALUATION_ROWS = 1000


class CompiledEngine:
    """Trains every seed by compiled loops over plain arrays, seeds side by side on threads."""

    name = "numba"

    def __init__(
        self,
        model: StackedMLP,
        rule: Rule,
        decay_biases_and_norms: bool,
        train: Split,
        batch_size: int,
        num_threads: int,
    ) -> None:
        """Take the weights of `model` over, which from then on shows what is trained here."""
        self.rule = rule
        self.train = train
        self.batch_size = batch_size
        self.num_steps = 0
        self.weights, self.segments = _flatten(model, decay_biases_and_norms)
        num_layers = len(model.weights)
        self.network = (
            np.array([model.weights[0].shape[2], *(w.shape[1] for w in model.weights)]),
            np.array([layer in model.norms for layer in range(num_layers)]),
            model.norm_before_activation,
        )
        self.gradient = np.zeros_like(self.weights)
        self.moments = [np.zeros_like(self.weights) if kept else None for kept in rule.moments]
        self.num_seeds = len(self.weights)
        # Threads inside one product only pay where there is no second seed to give them to.
        workers = min(num_threads, self.num_seeds)
        self.blas_threads = 1
        self.blas = ThreadpoolController()
        # Moments of pixels that are always zero decay into subnormal numbers, which slow a
        # processor down and are far below what a weight can feel.
        for kind in (np.float32, np.float64):
            np.finfo(kind)  # numpy looks for subnormal numbers once, and warns where there are none
        self.pool = ThreadPoolExecutor(
            workers, initializer=torch.set_flush_denormal, initargs=(True,)
        )

        self._compile()

    def _compile(self) -> None:
        """Have every loop compiled, by a step that leaves no trace, before the clock runs."""
        sizes, norms, _ = self.network
        dtype = self.weights.dtype
        images, labels = self.train.images[:1].numpy(), self.train.labels[:1].numpy()
        weights = self.weights[0].copy()
        nothing = np.empty(0, dtype)
        buffers = new_buffers(1, sizes, norms, dtype)
        train_epoch(
            images,
            labels,
            np.empty(0, np.int64),
            1,
            weights,
            self.gradient[0],
            tuple(nothing if kept is None else kept[0].copy() for kept in self.moments),
            self.segments,
            dtype.type(0),
            False,
            *self.network,
            np.zeros(5, dtype),
            np.zeros((1, 5), dtype),
            buffers,
        )
        score(images, labels, 1, weights, *self.network, buffers)

    def train_epoch(self, orders: Tensor | None, learning_rates: np.ndarray) -> Scores:
        """See `Engine.train_epoch`."""
        steps = -(-len(self.train) // self.batch_size)
        rates = np.broadcast_to(learning_rates, steps)
        dtype = self.weights.dtype
        table = self.rule.table(rates, self.num_steps).astype(dtype)
        self.num_steps += steps
        constants = np.array(self.rule.constants, dtype)
        images, labels = self.train.images.numpy(), self.train.labels.numpy()
        nothing = np.empty(0, dtype)

        def run(seed: int) -> tuple[float, int]:
            moments = tuple(nothing if kept is None else kept[seed] for kept in self.moments)
            order = np.empty(0, np.int64) if orders is None else orders[seed].numpy()
            return train_epoch(
                images,
                labels,
                order,
                self.batch_size,
                self.weights[seed],
                self.gradient[seed],
                moments,
                self.segments,
                dtype.type(self.rule.l2),
                self.rule.decoupled != 0,
                *self.network,
                constants,
                table,
                self._buffers(self.batch_size),
            )

        return self._scores(run, len(self.train))

    def evaluate(self, split: Split) -> Scores:
        """See `Engine.evaluate`."""
        images, labels = split.images.numpy(), split.labels.numpy()
        num_rows = min(_EVALUATION_ROWS, len(split))

        def run(seed: int) -> tuple[float, int]:
            buffers = self._buffers(num_rows)
            return score(images, labels, num_rows, self.weights[seed], *self.network, buffers)

        return self._scores(run, len(split))

    def _buffers(self, num_rows: int) -> tuple[Any, ...]:
        sizes, norms, _ = self.network
        return new_buffers(num_rows, sizes, norms, self.weights.dtype)

    def _scores(self, run: Callable[[int], tuple[float, int]], num_examples: int) -> Scores:
        """Run every seed on the pool and average over the examples."""
        with self.blas.limit(limits=self.blas_threads, user_api="blas"):
            sums = list(self.pool.map(run, range(self.num_seeds)))
        loss, num_correct = (np.array(column, np.float64) for column in zip(*sums, strict=True))
        return Scores(loss / num_examples, num_correct / num_examples)


def _flatten(model: StackedMLP, decay_biases_and_norms: bool) -> tuple[np.ndarray, np.ndarray]:
    """Parameters (S, P) in the order of the kernels, and segments by weight decay (K, 3).

    The model's tensors become views of the parameters, so that both are one memory.
    """
    blocks = []
    for layer, (weight, bias) in enumerate(zip(model.weights, model.biases, strict=True)):
        blocks += [weight.detach().transpose(1, 2), bias.detach()]
        blocks += [part.detach() for part in model.norms.get(layer, ())]
    num_seeds = len(blocks[0])
    flat = torch.cat([block.reshape(num_seeds, -1) for block in blocks], dim=1)
    views = []
    segments: list[list[int]] = []
    offset = 0
    for block in blocks:
        end = offset + block[0].numel()
        view = flat[:, offset:end].view(block.shape)
        views.append(view.transpose(1, 2) if block.ndim == 3 else view)
        decays = int(block.ndim == 3 or decay_biases_and_norms)
        if segments and segments[-1][2] == decays:
            segments[-1][1] = end
        else:
            segments.append([offset, end, decays])
        offset = end
    remaining = iter(views)
    for layer in range(len(model.weights)):
        model.weights[layer], model.biases[layer] = next(remaining), next(remaining)
        if layer in model.norms:
            model.norms[layer] = (next(remaining), next(remaining))
    return flat.numpy(), np.array(segments)
