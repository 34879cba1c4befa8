"""Compiled epochs of one seed: every step of it, without a call into Python."""

from __future__ import annotations

import math

import numpy as np

from optsweep.engine.kernels import (
    FEW_ROWS,
    backward,
    compiled,
    cross_entropy,
    forward,
    outer_row,
)


@compiled
def update(w, g, moments, constants, coefficients, l2):
    """One step of a rule of `engine.rules`, in place; moments that it lacks are empty."""
    first, second, largest = moments
    if len(second) == 0 and len(first) == 0:
        _update_plainly(w, g, coefficients, l2)
    elif len(second) == 0:
        _update_with_momentum(w, g, first, constants, coefficients, l2)
    elif len(first) == 0:
        _update_with_size(w, g, second, constants, coefficients, l2)
    elif len(largest) == 0:
        _update_with_both(w, g, first, second, constants, coefficients, l2)
    else:
        _update_with_largest(w, g, first, second, largest, constants, coefficients, l2)


# Functions of their own: as branches of one function these loops do not vectorise, which
# made a step of Adam almost three times slower (256 instead of 92 µs for 108,000 weights).


@compiled
def _update_plainly(w, g, coefficients, l2):
    rate = coefficients[2]
    for i in range(len(w)):
        w[i] -= rate * (g[i] + l2 * w[i])


@compiled
def _update_with_momentum(w, g, first, constants, coefficients, l2):
    a1, nesterov, rate = constants[0], constants[4], coefficients[2]
    for i in range(len(w)):
        gradient = g[i] + l2 * w[i]
        first[i] = a1 * first[i] + gradient
        w[i] -= rate * (first[i] + nesterov * (gradient + (a1 - 1) * first[i]))


@compiled
def _update_with_size(w, g, second, constants, coefficients, l2):
    a2, b2 = constants[2], constants[3]
    shrink, take_gradient = coefficients[0], coefficients[2]
    scale_second, eps = coefficients[3], coefficients[4]
    for i in range(len(w)):
        gradient = g[i] + l2 * w[i]
        second[i] = a2 * second[i] + b2 * gradient * gradient
        root = scale_second * math.sqrt(second[i]) + eps
        w[i] = shrink * w[i] - take_gradient * gradient / root


@compiled
def _update_with_both(w, g, first, second, constants, coefficients, l2):
    a1, b1, a2, b2 = constants[0], constants[1], constants[2], constants[3]
    shrink, take_first, take_gradient = coefficients[0], coefficients[1], coefficients[2]
    scale_second, eps = coefficients[3], coefficients[4]
    for i in range(len(w)):
        gradient = g[i] + l2 * w[i]
        first[i] = a1 * first[i] + b1 * gradient
        second[i] = a2 * second[i] + b2 * gradient * gradient
        root = scale_second * math.sqrt(second[i]) + eps
        w[i] = shrink * w[i] - (take_first * first[i] + take_gradient * gradient) / root


@compiled
def _update_with_largest(w, g, first, second, largest, constants, coefficients, l2):
    a1, b1, a2, b2 = constants[0], constants[1], constants[2], constants[3]
    shrink, take_first, take_gradient = coefficients[0], coefficients[1], coefficients[2]
    scale_second, eps = coefficients[3], coefficients[4]
    for i in range(len(w)):
        gradient = g[i] + l2 * w[i]
        first[i] = a1 * first[i] + b1 * gradient
        second[i] = a2 * second[i] + b2 * gradient * gradient
        largest[i] = max(largest[i], second[i])
        root = scale_second * math.sqrt(largest[i]) + eps
        w[i] = shrink * w[i] - (take_first * first[i] + take_gradient * gradient) / root


@compiled
def _update_rows(x, delta, w, row_buffer, moments, constants, coefficients, l2):
    """The first layer's step, a row of weights after the other: its gradient is never stored."""
    fan_out = delta.shape[1]
    sparse = len(moments[0]) == 0 and len(moments[1]) == 0 and l2 == 0
    for i in range(x.shape[1]):
        if sparse:  # no gradient, no change
            used = False
            for row in range(x.shape[0]):
                used |= x[row, i] != 0
            if not used:
                continue
        outer_row(x, delta, i, row_buffer)
        start, end = i * fan_out, (i + 1) * fan_out
        part = (moments[0][start:end], moments[1][start:end], moments[2][start:end])
        update(w[start:end], row_buffer, part, constants, coefficients, l2)


@compiled
def train_epoch(
    images, labels, order, batch_size, w, g, moments, segments, l2, decoupled,
    sizes, norms, before, constants, table, buffers,
):  # fmt: skip
    """All steps of an epoch of one seed.

    Args:
        images: (N, inputs).
        labels: (N,) int64.
        order: (N,) int64, or empty if every step sees all examples in their own order.
        batch_size: Examples of a step; the last one may have fewer.
        w: (P,) parameters.
        g: (P,) room for their gradient.
        moments: First, second and largest second moments, each (P,) or empty.
        segments: (K, 3) int64: start, end, and whether weight decay reaches them.
        l2: Weight decay that is added to the gradient.
        decoupled: Whether the table's first column shrinks the decayed weights.
        sizes: Units of every layer, the inputs first.
        norms: Per layer whether its output is normalised.
        before: Whether that is before the activation.
        constants: (5,) of the rule.
        table: (steps, 5) coefficients of the rule at every step.
        buffers: Of `new_buffers`.

    Returns:
        Summed loss and number of right predictions, each batch as it was when it was trained on.
    """
    num_examples = images.shape[0]
    loss = 0.0
    num_correct = 0
    batch = np.empty((0 if len(order) == 0 else batch_size, images.shape[1]), images.dtype)
    batch_labels = np.empty(batch.shape[0], labels.dtype)
    row_buffer = np.empty(sizes[1], w.dtype)
    num_first = sizes[0] * sizes[1]
    last = len(sizes) - 2
    for step in range(len(table)):
        start = step * batch_size
        num_rows = min(batch_size, num_examples - start)
        if len(order) == 0:
            x, y = images, labels
        else:
            for row in range(num_rows):
                batch[row, :] = images[order[start + row]]
                batch_labels[row] = labels[order[start + row]]
            x, y = batch[:num_rows], batch_labels[:num_rows]
        forward(x, w, sizes, norms, before, buffers)
        logits, delta = buffers[0][last][:num_rows], buffers[4][last][:num_rows]
        step_loss, step_correct = cross_entropy(logits, y, delta)
        loss += step_loss
        num_correct += step_correct
        by_rows = num_rows <= FEW_ROWS
        backward(x, w, g, sizes, norms, before, buffers, by_rows)
        coefficients = table[step].copy()
        shrink = coefficients[0]
        for k in range(len(segments)):
            begin, end, decays = segments[k]
            decay = l2 if decays else w.dtype.type(0)
            coefficients[0] = shrink if decays and decoupled else w.dtype.type(1)
            if begin == 0 and by_rows:
                delta = buffers[4][0][:num_rows]
                _update_rows(x, delta, w, row_buffer, moments, constants, coefficients, decay)
                begin = num_first
            part = (moments[0][begin:end], moments[1][begin:end], moments[2][begin:end])
            update(w[begin:end], g[begin:end], part, constants, coefficients, decay)
    return loss, num_correct


@compiled
def score(images, labels, num_rows, w, sizes, norms, before, buffers):
    """Summed loss and number of right predictions of a split, `num_rows` examples at a time."""
    loss = 0.0
    num_correct = 0
    last = len(sizes) - 2
    for start in range(0, len(images), num_rows):
        x, y = images[start : start + num_rows], labels[start : start + num_rows]
        forward(x, w, sizes, norms, before, buffers)
        part = cross_entropy(buffers[0][last][: len(x)], y, buffers[4][last][: len(x)])
        loss += part[0]
        num_correct += part[1]
    return loss, num_correct


def new_buffers(num_rows: int, sizes: np.ndarray, norms: np.ndarray, dtype: np.dtype) -> tuple:
    """Room for a pass over `num_rows` examples.

    Returns:
        Per layer: outputs, rectified outputs before a normalisation, normalised rows (each
        (rows, out)), 1/std (rows,), and gradients of the outputs (rows, out). What a layer
        does not need is empty.
    """
    widths = [int(width) for width in sizes[1:]]
    # (rows, units) where a layer is normalised
    shapes = [(num_rows if norm else 0, width) for norm, width in zip(norms, widths, strict=True)]
    outputs = tuple(np.empty((num_rows, width), dtype) for width in widths)
    deltas = tuple(np.empty((num_rows, width), dtype) for width in widths)
    rectified = tuple(np.empty(shape, dtype) for shape in shapes)
    hats = tuple(np.empty(shape, dtype) for shape in shapes)
    inverse_stds = tuple(np.empty(shape[0], dtype) for shape in shapes)
    return outputs, rectified, hats, inverse_stds, deltas
