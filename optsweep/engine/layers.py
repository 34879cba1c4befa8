"""Compiled parts of a layer behind the first one: products, bias, ReLU, normalization.

Products of matrices go to SciPy's BLAS; batches of a few examples skip it.
"""

from __future__ import annotations

import math

import numpy as np

from optsweep.engine.jit import compiled
from optsweep.engine.lanes import add_products, no_sums, sum_of, sum_width

_LAYER_NORM_EPS = 1e-5  # torch.nn.LayerNorm's
# Rows up to which plain loops beat a call of BLAS.
_FEW_ROWS = 2


@compiled
def multiply(x, weight, out):  # (n, in) @ (in, out)
    """Product of a batch with a weight matrix."""
    if x.shape[0] > _FEW_ROWS:
        np.dot(x, weight, out)
        return
    whole = x.shape[1] - x.shape[1] % 4
    for row in range(x.shape[0]):
        total = out[row]
        total[:] = 0
        for i in range(0, whole, 4):  # four rows of weights for one pass over the sums
            x0, x1, x2, x3 = x[row, i], x[row, i + 1], x[row, i + 2], x[row, i + 3]
            w0, w1, w2, w3 = weight[i], weight[i + 1], weight[i + 2], weight[i + 3]
            for j in range(len(total)):
                total[j] += x0 * w0[j] + x1 * w1[j] + x2 * w2[j] + x3 * w3[j]
        for i in range(whole, x.shape[1]):
            for j in range(len(total)):
                total[j] += x[row, i] * weight[i, j]


@compiled
def add_outer(x, delta, gradient, product):  # (n, in), (n, out) -> (in, out)
    """Add the gradient of a weight matrix: the transposed batch times that of its product."""
    if x.shape[0] > _FEW_ROWS:
        np.dot(x.T, delta, product)
        for i in range(gradient.shape[0]):
            for j in range(gradient.shape[1]):
                gradient[i, j] += product[i, j]
        return
    for row in range(x.shape[0]):
        slope = delta[row]
        for i in range(x.shape[1]):
            total, value = gradient[i], x[row, i]
            for j in range(len(slope)):
                total[j] += value * slope[j]


@compiled
def multiply_transposed(delta, weight, out):  # (n, out) @ (in, out).T
    """Gradient of a layer's inputs."""
    if delta.shape[0] > _FEW_ROWS:
        np.dot(delta, weight.T, out)
        return
    lanes = sum_width(weight)
    width = delta.shape[1]
    whole = width - width % lanes
    for row in range(delta.shape[0]):
        slope = delta[row]
        for i in range(out.shape[1]):
            part = weight[i]
            total = no_sums(weight)
            for j in range(0, whole, lanes):
                total = add_products(total, part, j, slope, j)
            rest = weight.dtype.type(0)
            for j in range(whole, width):
                rest += part[j] * slope[j]
            out[row, i] = sum_of(total) + rest


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
def normalize_backward(delta, scale, hat, inverse_std, g_scale, g_shift):
    """Gradient of `normalize`: of its rows in place; of scale and shift, which is added."""
    width = delta.shape[1]
    num = delta.dtype.type(width)
    for row in range(delta.shape[0]):
        mean = delta.dtype.type(0)
        projection = delta.dtype.type(0)
        for j in range(width):
            g_scale[j] += delta[row, j] * hat[row, j]
            g_shift[j] += delta[row, j]
            delta[row, j] *= scale[j]
            mean += delta[row, j]
            projection += delta[row, j] * hat[row, j]
        mean /= num
        projection /= num
        for j in range(width):
            delta[row, j] = inverse_std[row] * (delta[row, j] - mean - hat[row, j] * projection)
