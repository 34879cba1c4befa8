"""Compiled passes of a chunk's examples through the layers of one seed: forward, loss, backward.

The first layer's products are another file's (`inputs`); here are all other products, biases,
ReLU, layer normalization and the cross entropy. A network's parameters are two flat vectors: the
first layer's weights (in, out), and per layer all others: weights (in, out), the bias, and for a
normalised hidden layer its scale and shift.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from optsweep.engine.compiled.jit import compiled
from optsweep.engine.compiled.memory import aligned, copy
from optsweep.engine.compiled.team import CHUNK, HALVES

_LAYER_NORM_EPS = 1e-5  # torch.nn.LayerNorm's


class Network(NamedTuple):
    """The shape of a network.

    Attributes:
        sizes: (layers + 1,) int64, units of every layer, the inputs first.
        norms: (layers,) bool, whether a layer's output is normalised.
        before: Whether that is before the activation.
    """

    sizes: Any
    norms: Any
    before: bool


class Passes(NamedTuple):
    """Room for passes of a chunk; layer by layer, each (CHUNK, units) and flat.

    Attributes:
        outputs: What each layer gives to the next; the logits last.
        rectified: Outputs before a normalisation that follows the activation.
        hats: Normalised rows.
        inverse_stds: (layers * CHUNK,), 1/std of every row.
        deltas: Gradients of the outputs.
        product: (HALVES, in * out), gradients of one layer's weights from a half of the examples.
    """

    outputs: Any
    rectified: Any
    hats: Any
    inverse_stds: Any
    deltas: Any
    product: Any


def new_passes(network: Network, dtype: np.dtype) -> Passes:
    """Room for a pass through the network."""
    widths = network.sizes[1:]
    units = CHUNK * int(widths.sum())
    normalized = units if network.norms.any() else 0
    return Passes(
        outputs=aligned(units, dtype),
        rectified=aligned(normalized, dtype),
        hats=aligned(normalized, dtype),
        inverse_stds=aligned(CHUNK * len(widths), dtype),
        deltas=aligned(units, dtype),
        product=aligned((HALVES, int(np.max(widths[:-1] * widths[1:], initial=0))), dtype),
    )


@compiled
def rows_of(buffer, network, layer, first, num_rows):
    """The `num_rows` rows of a layer from `first` on: (n, units)."""
    start = 0
    for before in range(layer):
        start += CHUNK * network.sizes[before + 1]
    width = network.sizes[layer + 1]
    start += first * width
    return buffer[start : start + num_rows * width].reshape(num_rows, width)


@compiled
def forward(first, num_rows, rest, network, passes):
    """Outputs of all layers for the rows from `first` on.

    The first layer's products are already in their place.
    """
    num_layers = len(network.sizes) - 1
    offset = 0
    for layer in range(num_layers):
        out = rows_of(passes.outputs, network, layer, first, num_rows)
        fan_in, fan_out = network.sizes[layer], network.sizes[layer + 1]
        if layer > 0:
            inputs = rows_of(passes.outputs, network, layer - 1, first, num_rows)
            weight = rest[offset : offset + fan_in * fan_out].reshape(fan_in, fan_out)
            offset += fan_in * fan_out
            np.dot(inputs, weight, out)
        bias = rest[offset : offset + fan_out]
        offset += fan_out
        normalized = network.norms[layer]
        add_bias(out, bias, layer < num_layers - 1 and not (normalized and network.before))
        if normalized:
            scale = rest[offset : offset + fan_out]
            shift = rest[offset + fan_out : offset + 2 * fan_out]
            offset += 2 * fan_out
            hat = rows_of(passes.hats, network, layer, first, num_rows)
            inverse_std = passes.inverse_stds[layer * CHUNK + first :]
            if network.before:
                normalize(out, scale, shift, hat, inverse_std, out)
                rectify(out)
            else:
                rectified = rows_of(passes.rectified, network, layer, first, num_rows)
                for row in range(num_rows):
                    copy(out[row], rectified[row])
                normalize(rectified, scale, shift, hat, inverse_std, out)


@compiled
def backward(half, first, num_rows, rest, gradient, network, passes):
    """Add a half's gradient of all parameters but the first layer's weights to `gradient`.

    It starts from that of the logits, in the last of the deltas, and leaves that of the first
    layer's products in the first.
    """
    one = rest.dtype.type(1)
    num_layers = len(network.sizes) - 1
    offset = len(rest)
    for layer in range(num_layers - 1, -1, -1):
        fan_in, fan_out = network.sizes[layer], network.sizes[layer + 1]
        delta = rows_of(passes.deltas, network, layer, first, num_rows)
        normalized = network.norms[layer]
        if layer < num_layers - 1 and (network.before or not normalized):
            rectify_backward(delta, rows_of(passes.outputs, network, layer, first, num_rows))
        if normalized:
            offset -= 2 * fan_out
            scale = rest[offset : offset + fan_out]
            g_scale = gradient[offset : offset + fan_out]
            g_shift = gradient[offset + fan_out : offset + 2 * fan_out]
            hat = rows_of(passes.hats, network, layer, first, num_rows)
            inverse_std = passes.inverse_stds[layer * CHUNK + first :]
            normalize_backward(delta, scale, hat, inverse_std, one, g_scale, g_shift)
            if not network.before:
                rectify_backward(delta, rows_of(passes.rectified, network, layer, first, num_rows))
        offset -= fan_out
        g_bias = gradient[offset : offset + fan_out]
        for row in range(num_rows):
            slope = delta[row]
            for j in range(fan_out):
                g_bias[j] += slope[j]
        if layer > 0:
            num = fan_in * fan_out
            offset -= num
            weight = rest[offset : offset + num].reshape(fan_in, fan_out)
            g_weight, product = (
                gradient[offset : offset + num],
                passes.product[half, :num],
            )
            inputs = rows_of(passes.outputs, network, layer - 1, first, num_rows)
            np.dot(inputs.T, delta, product.reshape(fan_in, fan_out))
            for i in range(num):
                g_weight[i] += product[i]
            np.dot(delta, weight.T, rows_of(passes.deltas, network, layer - 1, first, num_rows))


@compiled
def cross_entropy(logits, labels, batch_size, gradient):
    """Summed loss and number of right predictions of a part of a batch.

    `gradient` (n, classes) becomes that of the batch's mean loss.
    """
    loss = 0.0
    num_correct = 0
    num_rows, num_classes = logits.shape
    factor = logits.dtype.type(1.0 / batch_size)
    for row in range(num_rows):
        best = 0
        for j in range(1, num_classes):
            if logits[row, j] > logits[row, best]:
                best = j
        highest = logits[row, best]
        total = logits.dtype.type(0)
        for j in range(num_classes):
            gradient[row, j] = math.exp(logits[row, j] - highest)
            total += gradient[row, j]
        loss += math.log(total) - (logits[row, labels[row]] - highest)
        num_correct += best == labels[row]
        for j in range(num_classes):
            gradient[row, j] *= factor / total
        gradient[row, labels[row]] -= factor
    return loss, num_correct


@compiled
def add_bias(x, bias, rectify):
    """Add the bias to every row, in place, and rectify the sums or not."""
    for row in range(x.shape[0]):
        values = x[row]
        if rectify:
            for j in range(len(bias)):
                values[j] = max(values[j] + bias[j], x.dtype.type(0))
        else:
            for j in range(len(bias)):
                values[j] += bias[j]


@compiled
def rectify(x):
    """ReLU, in place."""
    for row in range(x.shape[0]):
        values = x[row]
        for j in range(len(values)):
            values[j] = max(values[j], x.dtype.type(0))


@compiled
def rectify_backward(delta, rectified):
    """Gradient of ReLU, in place: nothing comes through where the output is zero."""
    for row in range(delta.shape[0]):
        slope, values = delta[row], rectified[row]
        for j in range(len(slope)):
            slope[j] = slope[j] if values[j] > 0 else delta.dtype.type(0)


@compiled
def normalize(x, scale, shift, hat, inverse_std, out):
    """Layer normalization of every row; keeps the normalised rows `hat` and 1/std."""
    width = x.shape[1]
    num = x.dtype.type(width)  # an integer would make float64 of all that it divides
    for row in range(x.shape[0]):
        mean = x.dtype.type(0)
        for j in range(width):
            mean += x[row, j]
        mean /= num
        variance = x.dtype.type(0)
        for j in range(width):
            variance += (x[row, j] - mean) * (x[row, j] - mean)
        inverse = x.dtype.type(1 / math.sqrt(variance / num + _LAYER_NORM_EPS))
        inverse_std[row] = inverse
        for j in range(width):
            hat[row, j] = (x[row, j] - mean) * inverse
            out[row, j] = hat[row, j] * scale[j] + shift[j]


@compiled
def normalize_backward(delta, scale, hat, inverse_std, factor, g_scale, g_shift):
    """Gradient of `normalize`: of its rows in place, and `factor` times that of scale and shift.

    The latter are added to `g_scale` and `g_shift`, which may be a single row's scale and shift.
    """
    width = delta.shape[1]
    num = delta.dtype.type(width)
    for row in range(delta.shape[0]):
        mean = delta.dtype.type(0)
        projection = delta.dtype.type(0)
        for j in range(width):
            slope = delta[row, j]
            delta[row, j] *= scale[j]
            g_scale[j] += factor * slope * hat[row, j]
            g_shift[j] += factor * slope
            mean += delta[row, j]
            projection += delta[row, j] * hat[row, j]
        mean /= num
        projection /= num
        for j in range(width):
            delta[row, j] = inverse_std[row] * (delta[row, j] - mean - hat[row, j] * projection)
