"""The fast engine for CPUs: compiled epochs, one thread a seed, or a few where seeds are few."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import scipy.linalg.cython_blas  # noqa: F401 (the BLAS of compiled code, loaded to be controlled)
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from optsweep.data.tensors import Split
from optsweep.engine import Scores
from optsweep.engine.compiled.deferral import EXAMPLES, Deferral, most_deferred, new_deferral
from optsweep.engine.compiled.deferred import run_deferred
from optsweep.engine.compiled.epochs import run_epoch
from optsweep.engine.compiled.inputs import ROWS, aligned
from optsweep.engine.compiled.ones import run_ones
from optsweep.engine.compiled.passes import Network
from optsweep.engine.compiled.rank_one import Decay, new_decay
from optsweep.engine.compiled.rules import Rule
from optsweep.engine.compiled.shares import Room, new_room
from optsweep.engine.compiled.team import SHARES, Member, new_team
from optsweep.engine.compiled.updates import Parameters
from optsweep.models.mlp import StackedMLP

# Examples that one thread scores at a time.
_EVALUATION_ROWS = 100 * ROWS
_ALL_IN_ORDER = np.empty(0, np.int64)


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
        inputs, rest, self.segments = _flatten(model, decay_biases_and_norms, rule.layerwise > 0)
        self.inputs = [_parameters(weights, rule) for weights in inputs]
        self.rest = [_parameters(weights, rule) for weights in rest]
        self.num_seeds = len(inputs)
        self.dtype = inputs.dtype
        num_layers = len(model.weights)
        self.network = Network(
            np.array([model.weights[0].shape[2], *(w.shape[1] for w in model.weights)]),
            np.array([layer in model.norms for layer in range(num_layers)]),
            model.norm_before_activation,
        )
        # Several threads train one seed only where there are no other seeds to give them to.
        self.team_size = max(1, min(num_threads // self.num_seeds, SHARES))
        self.num_deferred = EXAMPLES if batch_size <= most_deferred(rule) else 0
        self.blas = ThreadpoolController()
        # Moments of pixels that are always zero decay into subnormal numbers, which slow a
        # processor down and are far below what a weight can feel.
        for kind in (np.float32, np.float64):
            np.finfo(kind)  # numpy looks for subnormal numbers once, and warns where there are none
        self.pool = ThreadPoolExecutor(
            num_threads, initializer=torch.set_flush_denormal, initargs=(True,)
        )
        self.workplaces = threading.local()
        # Have every loop compiled before the clock runs.
        self._train(0, _ALL_IN_ORDER, np.empty((0, 5), self.dtype), None)

    def train_epoch(self, orders: Tensor | None, learning_rates: np.ndarray) -> Scores:
        """See `Engine.train_epoch`."""
        steps = -(-len(self.train) // self.batch_size)
        rates = np.broadcast_to(learning_rates, steps)
        table = self.rule.table(rates, self.num_steps).astype(self.dtype)
        self.num_steps += steps
        futures = []
        with self._one_blas_thread():
            for seed in range(self.num_seeds):
                order = _ALL_IN_ORDER if orders is None else orders[seed].numpy()
                team = self._team(self.team_size) if self.team_size > 1 else [None]
                members = [
                    self.pool.submit(self._train, seed, order, table, member) for member in team
                ]
                futures.append(members)
            results = [[member.result() for member in members] for members in futures]
        return _scores([np.sum(members, axis=0) for members in results], len(self.train))

    def evaluate(self, split: Split) -> Scores:
        """See `Engine.evaluate`."""
        starts = range(0, len(split), _EVALUATION_ROWS)
        with self._one_blas_thread():
            futures = [
                [self.pool.submit(self._score, seed, split, start) for start in starts]
                for seed in range(self.num_seeds)
            ]
            sums = [np.sum([part.result() for part in parts], axis=0) for parts in futures]
        return _scores(sums, len(split))

    def _train(
        self, seed: int, order: np.ndarray, table: np.ndarray, member: Member | None
    ) -> tuple[float, int]:
        return self._run(seed, self.train, order, self.batch_size, table, member, learn=True)

    def _score(self, seed: int, split: Split, start: int) -> tuple[float, int]:
        rows = slice(start, start + _EVALUATION_ROWS)
        part = Split(split.flat[rows], split.labels[rows])
        one_step = np.empty((1, 5), self.dtype)
        return self._run(seed, part, _ALL_IN_ORDER, len(part), one_step, None, learn=False)

    def _run(
        self,
        seed: int,
        split: Split,
        order: np.ndarray,
        batch_size: int,
        table: np.ndarray,
        member: Member | None,
        learn: bool,
    ) -> tuple[float, int]:
        """Run the compiled loops in this thread, alone or as a member of a team."""
        room, deferral, decay, alone = self._workplace()
        member = member or alone
        rest = self.rest[seed]
        if member.rank > 0:  # no member changes what is copied before all have met
            rest = Parameters(*(part.copy() for part in rest))
        rule = (
            self.segments,
            self.dtype.type(self.rule.l2),
            np.array(self.rule.constants, self.dtype),
            table,
            self.network,
            room,
        )
        images, labels = split.images.numpy(), split.labels.numpy()
        parameters, layerwise = (self.inputs[seed], rest), self.rule.layerwise
        if learn and self.num_deferred:
            return run_deferred(
                images, labels, order, batch_size, *parameters, *rule, deferral, member
            )
        if learn and batch_size == 1:
            return run_ones(images, labels, order, *parameters, *rule, decay, member, layerwise)
        return run_epoch(
            images, labels, order, batch_size, *parameters, *rule, member, layerwise, learn
        )

    def _workplace(self) -> tuple[Room, Deferral, Decay, Member]:
        """Where this thread writes to; made once, since its memory is cleared and paged in."""
        if not hasattr(self.workplaces, "own"):
            num_decaying = len(self.inputs[0].second) if self.batch_size == 1 else 0
            self.workplaces.own = (
                new_room(self.network, self.dtype),
                new_deferral(self.network, self.num_deferred, self.dtype),
                new_decay(self.network, num_decaying, self.dtype),
                self._team(1)[0],
            )
        return self.workplaces.own

    def _team(self, size: int) -> list[Member]:
        num_sums = max(ROWS, 2 * self.num_deferred) * int(self.network.sizes[1])
        num_sums += self.num_deferred**2
        return new_team(size, self.network, num_sums, self.rest[0].weights.size, self.dtype)

    def _one_blas_thread(self) -> AbstractContextManager[Any]:
        return self.blas.limit(limits=1, user_api="blas")


def _scores(sums: Sequence[Any], num_examples: int) -> Scores:
    """Averages of every seed, from its summed loss and number of right predictions."""
    loss, num_correct = (np.array(column, np.float64) for column in zip(*sums, strict=True))
    return Scores(loss / num_examples, num_correct / num_examples)


def _parameters(weights: np.ndarray, rule: Rule) -> Parameters:
    """Parameters (P,) with room for the gradient and the moments that the rule keeps."""
    moments = (aligned(weights.size if kept else 0, weights.dtype) for kept in rule.moments)
    return Parameters(weights, aligned(weights.size, weights.dtype), *moments)


def _flatten(
    model: StackedMLP, decay_biases_and_norms: bool, layerwise: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first layer's weights, all other parameters, and segments of these by weight decay.

    If the rule is `layerwise`, every layer's weights, bias, scale and shift are a segment.

    Weights (S, in * out) and parameters (S, P) are in the order of the kernels, segments (K, 3).
    The model's tensors become views of both, so that they are one memory.
    """
    num_seeds = len(model.weights[0])
    blocks = []
    for layer, (weight, bias) in enumerate(zip(model.weights, model.biases, strict=True)):
        blocks += [weight.detach().transpose(1, 2), bias.detach()]
        blocks += [part.detach() for part in model.norms.get(layer, ())]
    inputs = blocks[0].reshape(num_seeds, -1).clone()
    rest = torch.cat([block.reshape(num_seeds, -1) for block in blocks[1:]], dim=1)
    views = [inputs.view(blocks[0].shape).transpose(1, 2)]
    segments: list[list[int]] = []
    offset = 0
    for block in blocks[1:]:
        end = offset + block[0].numel()
        view = rest[:, offset:end].view(block.shape)
        views.append(view.transpose(1, 2) if block.ndim == 3 else view)
        decays = int(block.ndim == 3 or decay_biases_and_norms)
        if segments and segments[-1][2] == decays and not layerwise:
            segments[-1][1] = end
        else:
            segments.append([offset, end, decays])
        offset = end
    remaining = iter(views)
    for layer in range(len(model.weights)):
        model.weights[layer], model.biases[layer] = next(remaining), next(remaining)
        if layer in model.norms:
            model.norms[layer] = (next(remaining), next(remaining))
    return inputs.numpy(), rest.numpy(), np.array(segments)
