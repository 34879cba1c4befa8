"""One example through the network: over non-zero inputs alone, and without BLAS.

Half of what ReLU lets through is exactly zero, as half of all pixels are, so that the layers
behind the first one list what is not zero too. A pass takes about a microsecond.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from optsweep.engine.compiled.inputs import add_listed
from optsweep.engine.compiled.jit import compiled, inlined
from optsweep.engine.compiled.layers import Network, cross_entropy, normalize, normalize_backward
from optsweep.engine.compiled.memory import aligned, at, copy, pack, vector_width
from optsweep.engine.compiled.vectors import (
    SUMS,
    add_products,
    add_scaled,
    load_short,
    load_vector,
    no_sums,
    short_width,
    store,
    sum_of,
)


class Example(NamedTuple):
    """Room for the pass of one example; layer by layer, and flat.

    Attributes:
        outputs: What each layer gives to the next; the logits last.
        rectified: Outputs before a normalisation that follows the activation.
        hats: Normalised outputs.
        inverse_stds: (layers,), 1/std of the outputs.
        deltas: Gradients of the outputs.
        values: Outputs that are not zero, those of a layer from where its units would begin.
        numbers: int32, which of the layer's outputs these are.
        ends: (layers,) int64, where a layer's list ends.
    """

    outputs: Any
    rectified: Any
    hats: Any
    inverse_stds: Any
    deltas: Any
    values: Any
    numbers: Any
    ends: Any


def new_example(network: Network, dtype: np.dtype) -> Example:
    """Room for one thread."""
    num_units = int(network.sizes[1:].sum())
    num_layers = len(network.sizes) - 1
    stride = num_units + 16  # whole vectors are written, of up to 16 numbers
    return Example(
        outputs=aligned(stride, dtype),
        rectified=aligned(stride, dtype),
        hats=aligned(stride, dtype),
        inverse_stds=aligned(num_layers, dtype),
        deltas=aligned(stride, dtype),
        values=aligned(stride, dtype),
        numbers=aligned(stride, np.dtype(np.int32)),
        ends=np.zeros(num_layers, np.int64),
    )


@inlined
def _list(out, values, numbers, begin, every):
    """List what of a layer's outputs is not zero, or every one; return the list's end."""
    end, whole = begin, 0
    if not every:
        whole = len(out) - len(out) % vector_width(out)
        for i in range(0, whole, vector_width(out)):
            end = pack(out, i, i, values, numbers, end)
    for i in range(whole, len(out)):
        values[end], numbers[end] = out[i], i
        end += every or out[i] != 0
    return end


@compiled
def _forward(rest, network, example):
    """Outputs of all layers, where the first layer's products already are."""
    sizes, norms, before = network
    outputs, rectified, hats, inverse_stds, _, values, numbers, ends = example
    num_layers = len(sizes) - 1
    o = begin = 0
    for layer in range(num_layers):
        width = sizes[layer + 1]
        out = outputs[begin : begin + width]
        if layer > 0:
            fan_in = sizes[layer]
            out[:] = 0
            weight = rest[o : o + fan_in * width]
            add_listed(out, 0, weight, width, numbers, values, begin - fan_in, ends[layer - 1])
            o += fan_in * width
        bias = rest[o : o + width]
        o += width
        zero = out.dtype.type(0)
        if layer < num_layers - 1 and not (norms[layer] and before):
            for j in range(width):
                out[j] = max(out[j] + bias[j], zero)
        else:
            for j in range(width):
                out[j] += bias[j]
        if norms[layer]:
            scale, shift = rest[o : o + width], rest[o + width : o + 2 * width]
            o += 2 * width
            hat = hats[begin : begin + width].reshape(1, width)
            inverse_std = inverse_stds[layer : layer + 1]
            row = out.reshape(1, width)
            if before:
                normalize(row, scale, shift, hat, inverse_std, row)
                for j in range(width):
                    out[j] = max(out[j], zero)
            else:
                kept = rectified[begin : begin + width]
                copy(out, kept)
                normalize(kept.reshape(1, width), scale, shift, hat, inverse_std, row)
        if layer < num_layers - 1:
            # A normalised output may be zero and yet have a gradient.
            every = norms[layer] and not before
            ends[layer] = _list(out, values, numbers, begin, every)
        begin += width


@compiled
def _backward(rest, factor, gradient, network, example):
    """Add `factor` times the gradient of all but the first layer's weights to `gradient`.

    It starts from that of the logits, in the last of the deltas, and leaves that of the first
    layer's products in the first. `gradient` may be the parameters themselves, none of which is
    read after it was changed.
    """
    sizes, norms, before = network
    outputs, rectified, hats, inverse_stds, deltas, values, numbers, ends = example
    num_layers = len(sizes) - 1
    o = len(rest)
    begin = np.sum(sizes[1:])
    for layer in range(num_layers - 1, -1, -1):
        width = sizes[layer + 1]
        begin -= width
        delta = deltas[begin : begin + width]
        zero = delta.dtype.type(0)
        if layer < num_layers - 1 and (before or not norms[layer]):
            out = outputs[begin : begin + width]
            for j in range(width):
                delta[j] = delta[j] if out[j] > 0 else zero
        if norms[layer]:
            o -= 2 * width
            scale = rest[o : o + width]
            g_scale, g_shift = gradient[o : o + width], gradient[o + width : o + 2 * width]
            hat = hats[begin : begin + width].reshape(1, width)
            inverse_std = inverse_stds[layer : layer + 1]
            row = delta.reshape(1, width)
            normalize_backward(row, scale, hat, inverse_std, factor, g_scale, g_shift)
            if not before:
                kept = rectified[begin : begin + width]
                for j in range(width):
                    delta[j] = delta[j] if kept[j] > 0 else zero
        o -= width
        g_bias = gradient[o : o + width]
        for j in range(width):
            g_bias[j] += factor * delta[j]
        if layer > 0:
            fan_in = sizes[layer]
            o -= fan_in * width
            weight, g_weight = rest[o : o + fan_in * width], gradient[o : o + fan_in * width]
            start = begin - fan_in
            slopes = deltas[start:begin]
            _multiply_transposed(
                delta, weight, width, values, numbers, start, ends[layer - 1], slopes
            )
            _add_outer(delta, factor, width, values, numbers, start, ends[layer - 1], g_weight)


@inlined
def _multiply_transposed(delta, weight, width, values, numbers, begin, end, out):
    """Gradient of the listed inputs of a layer; zero for all others."""
    whole = width - width % SUMS
    out[:] = 0
    for k in range(begin, end):
        row = at(numbers, k) * width
        total = no_sums(weight)
        for j in range(0, whole, SUMS):
            total = add_products(total, weight, row + j, delta, j)
        rest = weight.dtype.type(0)
        for j in range(whole, width):
            rest += weight[row + j] * delta[j]
        out[at(numbers, k)] = sum_of(total) + rest


@inlined
def _add_outer(delta, factor, width, values, numbers, begin, end, out):
    """Add `factor` times the gradient of a layer's weights, in the rows of the listed inputs."""
    vector, short = vector_width(out), short_width(out)
    whole = width - width % vector
    fine = width - width % short
    for j in range(0, whole, vector):
        slope = load_vector(delta, j)
        for k in range(begin, end):
            o = at(numbers, k) * width + j
            store(out, o, add_scaled(load_vector(out, o), factor * at(values, k), slope))
    for j in range(whole, fine, short):
        last = load_short(delta, j)
        for k in range(begin, end):
            o = at(numbers, k) * width + j
            store(out, o, add_scaled(load_short(out, o), factor * at(values, k), last))
    if fine < width:
        for k in range(begin, end):
            o = at(numbers, k) * width
            for j in range(fine, width):
                out[o + j] += factor * values[k] * delta[j]


@compiled
def learn_example(rest, factor, gradient, label, batch_size, network, example):
    """Pass one example, whose first product is in its outputs, forward and backward.

    Args:
        rest: (P,) parameters but the first layer's weights.
        factor: What their gradient is multiplied by.
        gradient: (P,), to which it is added.
        label: (1,) int64.
        batch_size: Examples in whose mean loss this one's counts.
        network: The shape.
        example: Room; its deltas begin with the gradient of the first product afterwards.

    Returns:
        Its loss, and whether it was predicted right.
    """
    _forward(rest, network, example)
    after = np.sum(network.sizes[1:])
    num_classes = network.sizes[-1]
    logits = example.outputs[after - num_classes : after].reshape(1, num_classes)
    slopes = example.deltas[after - num_classes : after].reshape(1, num_classes)
    scores = cross_entropy(logits, label, batch_size, slopes)
    _backward(rest, factor, gradient, network, example)
    return scores
