"""What is known of deferred steps: what weights and momentum have come to, in numbers.

See `engine.deferred`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from optsweep.engine.compiled.inputs import add_listed, aligned
from optsweep.engine.compiled.jit import compiled
from optsweep.engine.compiled.passes import Network
from optsweep.engine.compiled.rules import Rule

# Examples of the steps that are deferred together. More of them cost more products of examples
# with each other, fewer of them more passes over the weights.
EXAMPLES = 32


class Deferral(NamedTuple):
    """Room for the steps of up to `EXAMPLES` examples; matrices are flat.

    Attributes:
        images: The examples' inputs, zero or not, share by share: (EXAMPLES, inputs).
        products: (2 * EXAMPLES, width), of the examples with the weights and with the momentum.
        gram: (EXAMPLES, EXAMPLES), products of the examples with each other.
        numbers: (EXAMPLES,) int32, 0, 1, 2 …
        factors: (EXAMPLES,), of the earlier examples' gradients.
        deltas: (EXAMPLES, width), gradients of the products with the present weights.
        scaled: (2 * EXAMPLES, width), these, as they enter the weights and the momentum.
        of_weights: (2 + EXAMPLES,) float64, the numbers a, b, c that make up the weights.
        of_momentum: (2 + EXAMPLES,) float64, those that make up the momentum.
    """

    images: Any
    products: Any
    gram: Any
    numbers: Any
    factors: Any
    deltas: Any
    scaled: Any
    of_weights: Any
    of_momentum: Any


def most_deferred(rule: Rule) -> int:
    """The largest batch size whose steps are better deferred: 0 if the rule is not linear.

    An epoch of plain SGD took 0.42 instead of 0.49 s at batch size 8, of momentum 0.63 instead
    of 0.81 s at 4; at twice these it took longer.
    """
    if not rule.is_linear:
        return 0
    return 4 if rule.moments[0] else 8


def new_deferral(network: Network, num: int, dtype: np.dtype) -> Deferral:
    """Room for one thread and `num` examples: `EXAMPLES`, or 0 if nothing is deferred."""
    num_inputs, width = (int(size) for size in network.sizes[:2])
    return Deferral(
        images=aligned(num * num_inputs, dtype),
        products=aligned(2 * num * width, dtype),
        gram=aligned(num * num, dtype),
        numbers=np.arange(num, dtype=np.int32),
        factors=aligned(num, dtype),
        deltas=aligned(num * width, dtype),
        scaled=aligned(2 * num * width, dtype),
        of_weights=np.zeros(2 + num),
        of_momentum=np.zeros(2 + num),
    )


@compiled
def reset(deferral):
    """No step was taken: the weights are the weights, and the momentum is the momentum."""
    deferral.of_weights[:] = 0
    deferral.of_momentum[:] = 0
    deferral.of_weights[0] = 1
    deferral.of_momentum[1] = 1


@compiled
def present_products(deferral, row, num_before, num, batch_size, width, out):
    """Product of an example with the present weights, after steps of `num_before` examples."""
    of_weights, factors = deferral.of_weights, deferral.factors
    products, gram = deferral.products, deferral.gram
    kind = out.dtype.type
    a, b = kind(of_weights[0]), kind(of_weights[1])
    product = products[row * width : (row + 1) * width]
    for j in range(width):
        out[j] = a * product[j]
    if b != 0:
        product = products[(num + row) * width : (num + row + 1) * width]
        for j in range(width):
            out[j] += b * product[j]
    for earlier in range(num_before):
        factors[earlier] = kind(of_weights[2 + earlier // batch_size]) * gram[row * num + earlier]
    add_listed(out, 0, deferral.deltas, width, deferral.numbers, factors, 0, num_before)


@compiled
def take_step(deferral, number, momentum, step):
    """The numbers that make up weights and momentum after the step of that number."""
    of_weights, of_momentum = deferral.of_weights, deferral.of_momentum
    a1, take_first, take_gradient = step.constants[0], step.coefficients[1], step.coefficients[2]
    for k in range(number + 3):
        slope = step.l2 * of_weights[k] + (k == number + 2)
        if momentum:
            of_momentum[k] = a1 * of_momentum[k] + slope
            of_weights[k] -= take_first * of_momentum[k]
        of_weights[k] -= take_gradient * slope
