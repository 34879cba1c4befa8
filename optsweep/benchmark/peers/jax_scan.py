"""JAX: an epoch is one compiled `lax.scan` over its steps, `vmap`ped over seeds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from optsweep.benchmark.images import Images
from optsweep.benchmark.network import epoch_order, initial_weights, mean_loss
from optsweep.benchmark.peers import Outcome
from optsweep.benchmark.tasks import BETAS, EPS, MOMENTUM, Task
from optsweep.config.schema import DatasetConfig

Tree = Any


class TimedPeer:
    """Times one call of the compiled epoch, from orders drawn to weights ready."""

    def __init__(self, images: Images, dataset: DatasetConfig) -> None:
        """See `Peer`."""
        del dataset
        self.images = images
        self.pixels = jnp.asarray(images.pixels)
        self.labels = jnp.asarray(images.labels.astype(np.int32))
        self.compiled: tuple[Task, Any] | None = None

    def prepare(self, task: Task) -> float:
        """See `Peer`. Where an epoch has many steps, compilation is all of the warm-up."""
        pixels, labels = self.pixels[: task.num_examples], self.labels[: task.num_examples]
        epoch = _epoch_of(task)
        if task.num_seeds > 1:
            epoch = jax.vmap(epoch, in_axes=(0, 0 if not task.is_full_batch else None, None, None))
        arguments = self._arguments(task, range(task.num_seeds))
        started = time.perf_counter()
        run = jax.jit(epoch).lower(*arguments, pixels, labels).compile()
        seconds = time.perf_counter() - started
        self.compiled = (task, lambda *given: run(*given, pixels, labels))
        if task.num_steps * task.num_seeds < 20_000:
            self.train(task, range(task.num_seeds))
        return seconds

    def train(self, task: Task, seeds: Sequence[int]) -> Outcome:
        """See `Peer`."""
        if self.compiled is None or self.compiled[0] != task:
            raise RuntimeError("prepare comes first")
        compiled = self.compiled[1]
        parameters, _ = jax.block_until_ready(self._arguments(task, seeds, orders=False))
        started = time.perf_counter()
        trained, _ = jax.block_until_ready(compiled(parameters, _orders(task, seeds)))
        seconds = time.perf_counter() - started
        stacks = [(np.asarray(weight), np.asarray(bias)) for weight, bias in trained]
        if task.num_seeds == 1:
            stacks = [(weight[None], bias[None]) for weight, bias in stacks]
        images = self.images.first(task.num_examples)
        losses = [
            mean_loss(
                [(weight[i], bias[i]) for weight, bias in stacks], images.pixels, images.labels
            )
            for i in range(task.num_seeds)
        ]
        return Outcome(seconds, losses)

    def _arguments(self, task: Task, seeds: Sequence[int], orders: bool = True) -> tuple[Tree, Any]:
        num_inputs = self.images.pixels.shape[1]
        drawn = [initial_weights(seed, num_inputs, self.images.num_classes) for seed in seeds]
        if task.num_seeds == 1:
            parameters = drawn[0]
        else:
            parameters = [
                (np.stack([weight for weight, _ in layer]), np.stack([bias for _, bias in layer]))
                for layer in zip(*drawn, strict=True)
            ]
        return jax.tree.map(jnp.asarray, parameters), _orders(task, seeds) if orders else None


def _orders(task: Task, seeds: Sequence[int]) -> np.ndarray | None:
    """(N,) or (S, N), or None for a full batch."""
    if task.is_full_batch:
        return None
    orders = [epoch_order(seed, task.num_examples) for seed in seeds]
    return orders[0] if task.num_seeds == 1 else np.stack(orders)


def _loss(parameters: Tree, x: Array, y: Array) -> Array:
    for weight, bias in parameters[:-1]:
        x = jax.nn.relu(x @ weight + bias)
    weight, bias = parameters[-1]
    logits = x @ weight + bias
    right = jnp.take_along_axis(logits, y[:, None], axis=1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(logits, axis=1) - right)


def _epoch_of(task: Task) -> Any:
    """(parameters, order or None, images, labels) -> (parameters, loss of every step)."""
    begin, update = _OPTIMIZERS[task.optimizer]

    def step(state: Tree, x: Array, y: Array) -> tuple[Tree, Array]:
        parameters, moments = state
        loss, gradient = jax.value_and_grad(_loss)(parameters, x, y)
        return update(task.lr, parameters, gradient, moments), loss

    def epoch(parameters: Tree, order: Array | None, images: Array, labels: Array) -> Any:
        state = (parameters, begin(parameters))
        if order is None:
            state, loss = step(state, images, labels)
            return state[0], loss[None]
        whole = len(order) // task.batch_size * task.batch_size

        # Gathering a step's images inside it was as fast as, or faster than, gathering the epoch's
        # before; unrolling the loop gained nothing.
        def batch(state: Tree, chosen: Array) -> tuple[Tree, Array]:
            return step(state, images[chosen], labels[chosen])

        state, losses = lax.scan(batch, state, order[:whole].reshape(-1, task.batch_size))
        if whole < len(order):
            state, loss = batch(state, order[whole:])
            losses = jnp.append(losses, loss)
        return state[0], losses

    return epoch


def _zeros(parameters: Tree) -> Tree:
    return jax.tree.map(jnp.zeros_like, parameters)


def _sgd(lr: float, parameters: Tree, gradient: Tree, moments: Tree) -> Tree:
    return jax.tree.map(lambda w, g: w - lr * g, parameters, gradient), moments


def _momentum(lr: float, parameters: Tree, gradient: Tree, moments: Tree) -> Tree:
    moments = jax.tree.map(lambda m, g: MOMENTUM * m + g, moments, gradient)
    return jax.tree.map(lambda w, m: w - lr * m, parameters, moments), moments


def _adam(lr: float, parameters: Tree, gradient: Tree, moments: Tree) -> Tree:
    first, second, count = moments
    count = count + 1
    first = jax.tree.map(lambda m, g: BETAS[0] * m + (1 - BETAS[0]) * g, first, gradient)
    second = jax.tree.map(lambda v, g: BETAS[1] * v + (1 - BETAS[1]) * g * g, second, gradient)
    rate = lr / (1 - BETAS[0] ** count)
    scale = 1 / jnp.sqrt(1 - BETAS[1] ** count)
    parameters = jax.tree.map(
        lambda w, m, v: w - rate * m / (scale * jnp.sqrt(v) + EPS), parameters, first, second
    )
    return parameters, (first, second, count)


_OPTIMIZERS = {
    "sgd": (lambda parameters: (), _sgd),
    "momentum": (_zeros, _momentum),
    "adam": (lambda p: (_zeros(p), _zeros(p), jnp.float32(0)), _adam),
}
