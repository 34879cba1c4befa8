"""The fast engine for CPUs: compiled epochs, one thread a seed, or a few where seeds are few."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg.cython_blas  # noqa: F401 (the BLAS of compiled code, loaded to be controlled)
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from optsweep.data.tensors import Split
from optsweep.engine import NOTHING, Scores
from optsweep.engine.compiled import cache
from optsweep.engine.compiled.batches import run_batches
from optsweep.engine.compiled.deferred import (
    EXAMPLES,
    Deferral,
    new_deferral,
    run_deferred,
)
from optsweep.engine.compiled.layers import Network
from optsweep.engine.compiled.memory import aligned
from optsweep.engine.compiled.rules import Rule
from optsweep.engine.compiled.singles import Sleep, new_sleep, run_singles
from optsweep.engine.compiled.team import CHUNK, SHARES, Member, new_stop, new_team
from optsweep.engine.compiled.updates import Model, Parameters, Steps
from optsweep.engine.compiled.workplace import Data, Shared, Workplace, new_shared, new_workplace
from optsweep.models.mlp import StackedMLP

# Examples that one thread scores at a time: few, so that threads have equal parts of a test set.
_EVALUATION_ROWS = 20 * CHUNK
_ALL_IN_ORDER = np.empty(0, np.int64)

_compiled: set[tuple[str, np.dtype]] = set()  # loops and precisions that this process has ready


class Place(NamedTuple):
    """Where a thread is in a team."""

    member: Member
    shared: Shared


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
        self.models = [
            Model(_parameters(of_inputs, rule), _parameters(others, rule))
            for of_inputs, others in zip(inputs, rest, strict=True)
        ]
        self.dtype = inputs.dtype
        num_layers = len(model.weights)
        self.network = Network(
            np.array([model.weights[0].shape[2], *(w.shape[1] for w in model.weights)]),
            np.array([layer in model.norms for layer in range(num_layers)]),
            model.norm_before_activation,
        )
        self.team_sizes = team_sizes(len(self.models), num_threads)
        self.loop = rule.loop(batch_size)
        self.blas = ThreadpoolController()
        # Moments of pixels that are always zero decay into subnormal numbers, which slow a
        # processor down and are far below what a weight can feel.
        for kind in (np.float32, np.float64):
            np.finfo(kind)  # numpy looks for subnormal numbers once, and warns where there are none
        self.pool = ThreadPoolExecutor(
            num_threads, initializer=torch.set_flush_denormal, initargs=(True,)
        )
        self.own = threading.local()
        self.stop = new_stop()
        self._compile()

    def train_epoch(
        self,
        orders: Tensor | None,
        learning_rates: np.ndarray,
        cycled: Mapping[str, np.ndarray] = NOTHING,
    ) -> Scores:
        """See `Engine.train_epoch`; `supports` lets nothing be cycled here."""
        assert not cycled
        steps = -(-len(self.train) // self.batch_size)
        rates = np.broadcast_to(learning_rates, steps)
        table = np.ascontiguousarray(self.rule.table(rates, self.num_steps), self.dtype)
        self.num_steps += steps
        calls: list[tuple[Any, ...]] = []
        for seed, size in enumerate(self.team_sizes):
            order = _ALL_IN_ORDER if orders is None else orders[seed].numpy()
            team = self._team(size) if size > 1 else [None]
            calls += [(seed, order, table, place) for place in team]
        sums = np.zeros((len(self.models), 2))
        for (seed, *_), of_member in zip(calls, self._all(self._train, calls), strict=True):
            sums[seed] += of_member
        return _scores(sums, len(self.train))

    def evaluate(self, split: Split) -> Scores:
        """See `Engine.evaluate`."""
        starts = range(0, len(split), _EVALUATION_ROWS)
        calls = [(seed, split, start) for seed in range(len(self.models)) for start in starts]
        sums = np.array(self._all(self._score, calls)).reshape(len(self.models), -1, 2)
        return _scores(sums.sum(1), len(split))

    def state(self) -> dict[str, Any]:
        """See `Engine.state`; between epochs moments are up to date whatever the loop."""
        moments = {key: torch.from_numpy(np.stack(of)) for key, of in self._moments().items()}
        return {"num_steps": self.num_steps, **moments}

    def restore(self, state: Mapping[str, Any]) -> bool:
        """See `Engine.restore`."""
        moments = self._moments()
        if not moments.keys() <= state.keys():
            return False
        self.num_steps = state["num_steps"]
        for key, of_seeds in moments.items():
            for moment, saved in zip(of_seeds, state[key].numpy(), strict=True):
                moment[:] = saved
        return True

    def _moments(self) -> dict[str, list[np.ndarray]]:
        """The moments that the rule keeps, by part of the model and name: (P,) of every seed."""
        return {
            f"{part}.{name}": [getattr(getattr(model, part), name) for model in self.models]
            for part in Model._fields
            for name, is_kept in zip(("first", "second", "largest"), self.rule.moments, strict=True)
            if is_kept
        }

    def _compile(self) -> None:
        """Have every loop compiled before the clock runs, or loaded."""
        kind = (self.loop, self.dtype)
        with nullcontext() if kind in _compiled else cache.alone():
            self._train(0, _ALL_IN_ORDER, np.empty((0, 5), self.dtype), None)
            nothing = slice(0)
            self._score(0, Split(self.train.images[nothing], self.train.labels[nothing]), 0)
        _compiled.add(kind)

    def _all(self, work: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> list[Any]:
        """Do work for every call on the threads; if one fails, or this is interrupted, all stop.

        They would wait for ever for a member of their team that failed. What is trained here is
        of no use after that.
        """
        if self.stop[0]:
            raise RuntimeError("this engine was stopped in the middle of its work")
        futures: list[Future[Any]] = []
        try:
            with self._one_blas_thread():
                futures += (self.pool.submit(work, *call) for call in calls)
                for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                    future.result()
                return [future.result() for future in futures]
        except BaseException:
            self.stop[0] = 1
            for future in futures:
                future.cancel()
            raise

    def _train(
        self, seed: int, order: np.ndarray, table: np.ndarray, place: Place | None
    ) -> tuple[float, int]:
        """Take the steps of an epoch in this thread, alone or as a member of a team."""
        work, deferral, sleep = self._workplace()
        model = self.models[seed]
        if place is not None:
            work = work._replace(member=place.member, shared=place.shared)
            if place.member.rank > 0:  # no member changes what is copied before all have met
                model = model._replace(rest=Parameters(*(part.copy() for part in model.rest)))
        data = self._data(self.train, order, self.batch_size)
        steps = self._steps(table)
        if self.loop == "deferred":
            return run_deferred(data, steps, model, work, deferral)
        if self.loop == "singles":
            return run_singles(data, steps, model, work, sleep)
        return run_batches(data, steps, model, work, True)

    def _score(self, seed: int, split: Split, start: int) -> tuple[float, int]:
        """Score some examples in this thread."""
        rows = slice(start, start + _EVALUATION_ROWS)
        part = Split(split.images[rows], split.labels[rows])
        data = self._data(part, _ALL_IN_ORDER, len(part))
        one_step = self._steps(np.empty((1, 5), self.dtype))
        return run_batches(data, one_step, self.models[seed], self._workplace()[0], False)

    def _data(self, split: Split, order: np.ndarray, batch_size: int) -> Data:
        return Data(split.flat.numpy(), split.labels.numpy(), order, batch_size)

    def _steps(self, table: np.ndarray) -> Steps:
        constants, l2 = np.array(self.rule.constants, self.dtype), self.dtype.type(self.rule.l2)
        return Steps(constants, table, l2, self.segments, self.rule.layerwise)

    def _workplace(self) -> tuple[Workplace, Deferral | None, Sleep | None]:
        """Where this thread writes to; made once, since its memory is cleared and paged in."""
        if not hasattr(self.own, "workplace"):
            (alone,) = self._team(1)
            self.own.workplace = (
                new_workplace(self.network, *alone),
                new_deferral(self.network, self.dtype) if self.loop == "deferred" else None,
                new_sleep(self.network, self.dtype) if self.loop == "singles" else None,
            )
        return self.own.workplace

    def _team(self, size: int) -> list[Place]:
        """A team of `size` members, and what they share."""
        width = int(self.network.sizes[1])
        num_sums = CHUNK * width
        if self.loop == "deferred":
            num_sums = max(num_sums, EXAMPLES * (2 * width + EXAMPLES))
        num_rest = self.models[0].rest.weights.size
        shared = new_shared(self.network, num_sums, num_rest, self.dtype)
        return [Place(member, shared) for member in new_team(size, self.stop)]

    def _one_blas_thread(self) -> AbstractContextManager[Any]:
        return self.blas.limit(limits=1, user_api="blas")


def team_sizes(num_seeds: int, num_threads: int) -> list[int]:
    """How many threads train each seed, in the order in which seeds are begun.

    Alone while there are as many seeds as threads; what is left after that is shared by teams.

    >>> team_sizes(3, 2), team_sizes(10, 4), team_sizes(1, 64)
    ([1, 1, 2], [1, 1, 1, 1, 1, 1, 1, 1, 2, 2], [4])
    """
    num_last = num_seeds % num_threads
    size = min(num_threads // num_last, SHARES) if num_last else 1
    return [1] * (num_seeds - num_last) + [size] * num_last


def _scores(sums: np.ndarray, num_examples: int) -> Scores:
    """Averages of every seed, from (seeds, 2) summed losses and numbers of right predictions."""
    loss, num_correct = sums.T
    return Scores(loss / num_examples, num_correct / num_examples)


def _parameters(weights: np.ndarray, rule: Rule) -> Parameters:
    """Parameters (P,) with room for the gradient and the moments that the rule keeps."""
    moments = (aligned(weights.size if kept else 0, weights.dtype) for kept in rule.moments)
    return Parameters(weights, aligned(weights.size, weights.dtype), *moments)


def _flatten(
    model: StackedMLP, decay_biases_and_norms: bool, layerwise: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first layer's weights, all other parameters, and segments of these (`updates.Steps`).

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
