"""Compiled parts of a layer but its products: bias, ReLU, normalization."""

from __future__ import annotations

import math

from optsweep.engine.compiled.jit import compiled

_LAYER_NORM_EPS = 1e-5  # torch.nn.LayerNorm's


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
def normalize_backward(delta, scale, hat, inverse_std, share, g_scale, g_shift):
    """Gradient of `normalize`: of its rows in place, and `share` times that of scale and shift.

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
            g_scale[j] += share * slope * hat[row, j]
            g_shift[j] += share * slope
            mean += delta[row, j]
            projection += delta[row, j] * hat[row, j]
        mean /= num
        projection /= num
        for j in range(width):
            delta[row, j] = inverse_std[row] * (delta[row, j] - mean - hat[row, j] * projection)
