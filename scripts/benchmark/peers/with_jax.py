"""JAX: an epoch as one compiled scan over its steps; and Keras, whose computation is JAX's."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from benchmark.peers import Outcome, Train
from benchmark.tasks import EPS, NETWORKS, Start, Task, examples, updated


def scan(task: Task, settings: tuple[str, ...], starts: Sequence[Start]) -> Train:
    """Timed is one call, from weights and orders to weights ready; several networks are vmapped."""
    data = tuple(map(jnp.asarray, examples(task, settings)))
    epoch, is_stack = partial(_epoch, task), task.num_seeds > 1
    losses = jax.jit(lambda stack, *data: lax.map(lambda weights: _loss(weights, *data), stack))

    def order(seed: int) -> Any:
        drawn = np.random.default_rng([seed, 1]).permutation(task.num_examples)
        return None if task.is_full_batch else drawn.astype(np.int32)

    def given(starts: Sequence[Start]) -> Any:
        each = [(weights, order(seed)) for seed, weights in starts]
        stack = jax.tree.map(lambda *parts: np.stack(parts), *each) if is_stack else each[0]
        return jax.block_until_ready(jax.device_put(stack))

    run = jax.jit(jax.vmap(epoch, in_axes=(0, 0, None, None)) if is_stack else epoch)
    run = run.lower(*given(starts), *data).compile()

    def train(starts: Sequence[Start]) -> Outcome:
        weights_and_orders = given(starts)
        started = time.perf_counter()
        weights = jax.block_until_ready(run(*weights_and_orders, *data))
        seconds = time.perf_counter() - started
        stack = weights if is_stack else jax.tree.map(lambda part: part[None], weights)
        return Outcome(seconds, losses(stack, *data).tolist())

    return train


def _loss(weights: Any, x: Any, y: Any) -> Any:
    """Mean cross entropy of inputs x (B, 784) with labels y (B,)."""
    for layer, (weight, bias) in enumerate(weights):
        if weight.ndim == 4:
            x = x if layer else x.reshape(-1, 1, 28, 28)
            x = lax.conv_general_dilated(x, weight, (1, 1), "VALID" if layer else "SAME")
            x, window = jax.nn.relu(x + bias[:, None, None]), (1, 1, 2, 2)
            x = lax.reduce_window(x, -np.inf, lax.max, window, window, "VALID")
        else:
            x = x.reshape(len(x), -1) @ weight + bias
            x = jax.nn.relu(x) if layer + 1 < len(weights) else x
    right = jnp.take_along_axis(x, y[:, None], axis=1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(x, axis=1) - right)


def _epoch(task: Task, weights: Any, order: Any, images: Any, labels: Any) -> Any:
    """The weights after an epoch in this order, or in their own if it is None."""
    flat, tree = jax.tree.flatten(weights)
    zeros = [jnp.zeros_like(part) for part in flat]

    # Gathering a step's images inside it was as fast as, or faster than, gathering the epoch's
    # before; unrolling the loop gained nothing.
    def step(state, chosen):
        *state, count = state
        x, y = (images, labels) if chosen is None else (images[chosen], labels[chosen])
        gradient = jax.grad(_loss)(jax.tree.unflatten(tree, state[0]), x, y)
        given = zip(state[0], jax.tree.leaves(gradient), *state[1:], strict=True)
        new = [updated(task, w, g, m, v, count + 1) for w, g, m, v in given]
        return (*map(list, zip(*new, strict=True)), count + 1), None

    state = flat, zeros, zeros, jnp.float32(0)
    whole = 0 if order is None else len(order) // task.batch_size * task.batch_size
    if whole:
        state, _ = lax.scan(step, state, order[:whole].reshape(-1, task.batch_size))
    if order is None or whole < len(order):
        state, _ = step(state, None if order is None else order[whole:])
    return jax.tree.unflatten(tree, state[0])


def keras_fit(task: Task, settings: tuple[str, ...], starts: Sequence[Start]) -> Train:
    """Timed is Keras's own epoch, from the callback before it to the callback after it.

    What is compiled belongs to a model, which is trained again and again from fresh weights.
    """
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    images, labels = examples(task, settings)
    *hidden, num_classes = (num_outputs for _, num_outputs in NETWORKS[task.network].layers)
    dense = [keras.layers.Dense(size, activation="relu") for size in hidden]
    model = keras.Sequential([keras.Input((784,)), *dense, keras.layers.Dense(num_classes)])
    sgd = keras.optimizers.SGD(task.lr)
    model.compile(
        sgd if task.optimizer == "sgd" else keras.optimizers.Adam(task.lr, epsilon=EPS),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=True,
        steps_per_execution=min(64, -(-len(labels) // task.batch_size)),
    )
    model.optimizer.build(model.trainable_variables)
    fresh = [variable.numpy() for variable in model.optimizer.variables]
    clock: list[float] = []
    tick = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda *_: clock.append(time.perf_counter()),
        on_epoch_end=lambda *_: clock.append(time.perf_counter()),
    )

    def train(starts: Sequence[Start]) -> Outcome:
        ((seed, weights),) = starts
        keras.utils.set_random_seed(seed)
        model.set_weights([part for layer in weights for part in layer])
        for variable, value in zip(model.optimizer.variables, fresh, strict=True):
            variable.assign(value)
        model.fit(images, labels, task.batch_size, verbose=0, callbacks=[tick])
        parts = model.get_weights()
        loss = _loss(list(zip(parts[::2], parts[1::2], strict=True)), images, labels)
        return Outcome(clock[-1] - clock[-2], [float(loss)])

    train(starts)  # compiles
    return train
