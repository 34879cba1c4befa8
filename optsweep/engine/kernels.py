"""Compiled passes through the network of one seed: forward, loss, backward.

A network is one flat vector of parameters: per layer the weights (in, out), the bias, and
for a normalised hidden layer its scale and shift. Products of matrices go to SciPy's BLAS;
batches of a few examples skip it, and skip inputs that are exactly zero, of which half of all
pixels are.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

# Strict arithmetic: with fastmath, code from the cache rounded otherwise than code just compiled.
# error_model: a check of every divisor would keep loops from vectorising.
compiled = njit(nogil=True, cache=True, error_model="numpy")
_LAYER_NORM_EPS = 1e-5  # torch.nn.LayerNorm's
# Rows up to which plain loops over the non-zero inputs beat a call of BLAS.
FEW_ROWS = 4
_LANES = 8


@compiled
def multiply(x, weight, out):  # (n, in) @ (in, out)
    """Product of a batch with a weight matrix."""
    if x.shape[0] > FEW_ROWS:
        np.dot(x, weight, out)
        return
    for row in range(x.shape[0]):
        out[row, :] = 0
        for i in range(x.shape[1]):
            if x[row, i] != 0:
                for j in range(out.shape[1]):
                    out[row, j] += x[row, i] * weight[i, j]


@compiled
def multiply_outer(x, delta, out):  # (n, in), (n, out) -> (in, out)
    """Gradient of a weight matrix: the transposed batch times the gradient of its product."""
    if x.shape[0] > FEW_ROWS:
        np.dot(x.T, delta, out)
        return
    for i in range(x.shape[1]):
        outer_row(x, delta, i, out[i])


@compiled
def outer_row(x, delta, i, out):
    """Row i of `multiply_outer`."""
    out[:] = 0
    for row in range(x.shape[0]):
        if x[row, i] != 0:
            for j in range(len(out)):
                out[j] += x[row, i] * delta[row, j]


@compiled
def multiply_transposed(delta, weight, out):  # (n, out) @ (in, out).T
    """Gradient of a layer's inputs."""
    if delta.shape[0] > FEW_ROWS:
        np.dot(delta, weight.T, out)
        return
    num_inner = delta.shape[1]
    lanes = np.zeros(_LANES, out.dtype)  # sums side by side, which vectorise without reordering
    for row in range(delta.shape[0]):
        for i in range(out.shape[1]):
            lanes[:] = 0
            whole = num_inner - num_inner % _LANES
            for j in range(0, whole, _LANES):
                for lane in range(_LANES):
                    lanes[lane] += weight[i, j + lane] * delta[row, j + lane]
            for j in range(whole, num_inner):
                lanes[0] += weight[i, j] * delta[row, j]
            total = out.dtype.type(0)
            for lane in range(_LANES):
                total += lanes[lane]
            out[row, i] = total


@compiled
def rectify(x):
    """ReLU, in place."""
    for row in range(x.shape[0]):
        for j in range(x.shape[1]):
            x[row, j] = max(x[row, j], x.dtype.type(0))


@compiled
def rectify_backward(delta, rectified):
    """Gradient of ReLU, in place: nothing comes through where the output is zero."""
    for row in range(delta.shape[0]):
        for j in range(delta.shape[1]):
            delta[row, j] = delta[row, j] if rectified[row, j] > 0 else delta.dtype.type(0)


@compiled
def normalize(x, scale, shift, hat, inverse_std, out):
    """Layer normalization of every row; keeps the normalised rows `hat` and 1/std."""
    num = x.shape[1]
    for row in range(x.shape[0]):
        mean = x.dtype.type(0)
        for j in range(num):
            mean += x[row, j]
        mean /= num
        variance = x.dtype.type(0)
        for j in range(num):
            variance += (x[row, j] - mean) * (x[row, j] - mean)
        inverse = x.dtype.type(1 / math.sqrt(variance / num + _LAYER_NORM_EPS))
        inverse_std[row] = inverse
        for j in range(num):
            hat[row, j] = (x[row, j] - mean) * inverse
            out[row, j] = hat[row, j] * scale[j] + shift[j]


@compiled
def normalize_backward(delta, scale, hat, inverse_std, g_scale, g_shift):
    """Gradient of `normalize`: of its rows in place, of scale and shift in `g_scale`, `g_shift`."""
    num = delta.shape[1]
    g_scale[:] = 0
    g_shift[:] = 0
    for row in range(delta.shape[0]):
        mean = delta.dtype.type(0)
        projection = delta.dtype.type(0)
        for j in range(num):
            g_scale[j] += delta[row, j] * hat[row, j]
            g_shift[j] += delta[row, j]
            delta[row, j] *= scale[j]
            mean += delta[row, j]
            projection += delta[row, j] * hat[row, j]
        mean /= num
        projection /= num
        for j in range(num):
            delta[row, j] = inverse_std[row] * (delta[row, j] - mean - hat[row, j] * projection)


@compiled
def forward(x, w, sizes, norms, before, buffers):
    """Outputs of all layers into `buffers`; the last of them are the logits."""
    outputs, rectified, hats, inverse_stds, _ = buffers
    num_rows = x.shape[0]
    num_layers = len(sizes) - 1
    inputs = x
    offset = 0
    for layer in range(num_layers):
        fan_in, fan_out = sizes[layer], sizes[layer + 1]
        num = fan_in * fan_out
        weight = w[offset : offset + num].reshape(fan_in, fan_out)
        bias = w[offset + num : offset + num + fan_out]
        offset += num + fan_out
        out = outputs[layer][:num_rows]
        multiply(inputs, weight, out)
        for row in range(num_rows):
            for j in range(fan_out):
                out[row, j] += bias[j]
        if norms[layer]:
            scale = w[offset : offset + fan_out]
            shift = w[offset + fan_out : offset + 2 * fan_out]
            offset += 2 * fan_out
            if not before:
                rectified[layer][:num_rows] = out
                rectify(rectified[layer][:num_rows])
            source = out if before else rectified[layer][:num_rows]
            normalize(source, scale, shift, hats[layer], inverse_stds[layer], out)
        if layer < num_layers - 1 and (before or not norms[layer]):
            rectify(out)
        inputs = out


@compiled
def backward(x, w, g, sizes, norms, before, buffers, skip_first):
    """Gradient of the mean loss into `g`, from that of the logits in the last of the deltas.

    With `skip_first` the first layer's weights are left out: the caller makes them row by row.
    """
    outputs, rectified, hats, inverse_stds, deltas = buffers
    num_rows = x.shape[0]
    num_layers = len(sizes) - 1
    offset = len(w)
    for layer in range(num_layers - 1, -1, -1):
        fan_in, fan_out = sizes[layer], sizes[layer + 1]
        num = fan_in * fan_out
        delta = deltas[layer][:num_rows]
        if layer < num_layers - 1 and (before or not norms[layer]):
            rectify_backward(delta, outputs[layer])
        if norms[layer]:
            offset -= 2 * fan_out
            scale = w[offset : offset + fan_out]
            g_scale = g[offset : offset + fan_out]
            g_shift = g[offset + fan_out : offset + 2 * fan_out]
            normalize_backward(delta, scale, hats[layer], inverse_stds[layer], g_scale, g_shift)
            if not before:
                rectify_backward(delta, rectified[layer])
        offset -= num + fan_out
        g_bias = g[offset + num : offset + num + fan_out]
        g_bias[:] = 0
        for row in range(num_rows):
            for j in range(fan_out):
                g_bias[j] += delta[row, j]
        g_weight = g[offset : offset + num].reshape(fan_in, fan_out)
        if layer > 0:
            weight = w[offset : offset + num].reshape(fan_in, fan_out)
            multiply_outer(outputs[layer - 1][:num_rows], delta, g_weight)
            multiply_transposed(delta, weight, deltas[layer - 1][:num_rows])
        elif not skip_first:
            multiply_outer(x, delta, g_weight)


@compiled
def cross_entropy(logits, labels, gradient):
    """Summed loss and number of right predictions; `gradient` (n, classes) of the mean loss."""
    loss = 0.0
    num_correct = 0
    num_rows, num_classes = logits.shape
    share = logits.dtype.type(1.0 / num_rows)
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
            gradient[row, j] *= share / total
        gradient[row, labels[row]] -= share
    return loss, num_correct
