"""What an epoch of a multilayer perceptron costs: by compiled loops, by PyTorch, and on a GPU.

The formulas serve to compare engines, not to tell the time. They count nanoseconds of one core:
some for every step, some for every weight that a step reads and writes, some for every example
and weight that it is multiplied with. The coefficients are non-negative least squares (of
relative errors) over 160 measurements of each engine on one core with AVX-512: 784 inputs, half
of them zero, and hidden layers of 32, 128-56, 128-56-32, 256-256, 512-256, 512-512, 1024 and
1024-1024 units; steps of 1, 8, 32, 256, 1000 and all examples; one and ten seeds; SGD and Adam;
float32. The median error is 4 % for the compiled loops on batches and 9 % for PyTorch, the largest
60 and 70 %, where neither engine is near the other.

Of all cells measured the cheaper engine by formula was the faster one, or within a tenth of it.
PyTorch was faster only from two hidden layers of 512 units on, in batches of some hundred examples
(0.63 of the compiled engine's time at 1024-1024 in batches of 1000). It is uncertain where the two
are close: 512-256 and a single layer of 1024 units in large batches. Adam's fused kernel in PyTorch
came later: its coefficient is from 16 cells on two cores, in all of which but two the cheaper
engine was the faster one or within a tenth of it (512-256 and 512-512 units, ten seeds, b = 256:
PyTorch in 0.90 and 0.88 of the compiled engine's time). Not measured, and taken to
matter to both alike: several threads, which are taken to divide the time as far as an engine can
use them; float64; processors without AVX-512. Inputs none of which is zero take the compiled loops
up to twice as long in the first layer; the formula does not know of them.

A GPU works while its host calls the next operations, so that a step takes the longer of two times:
that of the calls, as many as were counted in the reference's steps, and that of the arithmetic
and of the memory that weights, gradients and moments move. How fast a GPU and its host are is
measured where there is one (see `speeds`), and how fast the CPU is beside the one above. Layer
normalization's arithmetic and an evaluation are left out. No formula was compared with a GPU yet.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import torch

from optsweep.config.schema import MLPConfig
from optsweep.engine.compiled.rules import rule_of

if TYPE_CHECKING:
    from optsweep.engine import Work
    from optsweep.engine.speeds import Speeds

_MOST_MEMBERS = 4  # threads that the compiled engine gives to one seed at most
# Classes whose fused kernel PyTorch is to use on a CPU. Adam's epoch takes 0.70 to 0.90 of the
# time that it takes otherwise (128-56 to 1024-1024 units, b = 32 to 1000, one and ten seeds on two
# cores); SGD's takes as long.
FUSED = (torch.optim.Adam, torch.optim.AdamW)
_MOMENTS = 2  # of an optimizer that has no rule: Adam's


def compiled_mlp_seconds(work: Work) -> float:
    """Seconds per epoch of the compiled engine, for a network and a rule that it knows."""
    rule = rule_of(work.optimizer.target, work.optimizer.arguments)
    assert rule is not None
    width, first, behind = _weights(work)
    all_weights = first + behind
    loop = rule.loop(work.batch_size)
    if loop == "deferred":
        per_step, per_example = 0.0, 1400 + 0.066 * all_weights
    elif loop == "singles":
        per_step, per_example = 0.0, 9000 + 0.21 * first + 1.0 * behind
    else:
        per_step = 6200 + (0.14 + 0.21 * sum(rule.moments)) * all_weights
        # Wide rows leave the first-level cache, so that a weight costs more the more units.
        per_example = 2000 + (0.0036 + 4.2e-5 * width) * first + 0.144 * behind
    steps = math.ceil(work.num_examples / work.batch_size)
    of_seed = per_step * steps + per_example * work.num_examples
    # Seeds are trained one on a thread, and the last of them by teams.
    rounds, last = divmod(work.num_seeds, work.num_threads)
    of_last = 1 / min(work.num_threads // last, _MOST_MEMBERS) if last else 0
    return 1e-9 * of_seed * (rounds + of_last)


def torch_mlp_seconds(work: Work) -> float:
    """Seconds per epoch of the reference engine on a CPU, for any optimizer."""
    num_moments = _num_moments(work)
    _, first, behind = _weights(work)
    calls = 310_000 + 60_000 * num_moments
    of_moment = 0.3 if work.optimizer.target in FUSED else 1.3
    per_step = (3.1 + of_moment * num_moments) * (first + behind) * work.num_seeds
    per_example = (1600 + 0.048 * first + 0.082 * behind) * work.num_seeds
    steps = math.ceil(work.num_examples / work.batch_size)
    in_parallel = per_step * steps + per_example * work.num_examples
    return 1e-9 * (calls * steps + in_parallel / work.num_threads)


def cuda_mlp_seconds(work: Work, speeds: Speeds) -> float:
    """Seconds per epoch of the reference engine on a GPU of these speeds, for any optimizer."""
    _, first, behind = _weights(work)
    steps = math.ceil(work.num_examples / work.batch_size)
    of_calls = calls_of_step(work) * speeds.seconds_per_call * steps
    # Products: forward, the weights' gradients and, but for the first layer, the hidden units'.
    products = (4 * first + 6 * behind) * work.num_examples
    # Read and written: weights by three products, gradients and weights by the update, moments.
    moved = (5 + 2 * _num_moments(work)) * (first + behind) * work.dtype.itemsize * steps
    seconds_of_seed = products / speeds.flops + moved / speeds.bytes_per_second
    return max(of_calls, work.num_seeds * seconds_of_seed)


def calls_of_step(work: Work) -> int:
    """Operations that the reference engine calls in a step, whatever the number of seeds."""
    assert isinstance(work.model, MLPConfig)
    layers = len(work.model.hidden_sizes) + 1
    num_moments = _num_moments(work)
    of_update = (0, 2, 7 + 4 * layers)[min(num_moments, 2)]
    return 21 + 8 * layers + 9 * len(work.model.layernorm_position) + of_update


def _num_moments(work: Work) -> int:
    rule = rule_of(work.optimizer.target, work.optimizer.arguments)
    return _MOMENTS if rule is None else sum(rule.moments)


def _weights(work: Work) -> tuple[int, int, int]:
    """Units of the first layer, its weights, and the weights of all layers behind it."""
    assert isinstance(work.model, MLPConfig)
    sizes = [math.prod(work.input_shape), *work.model.hidden_sizes, work.num_classes]
    products = [inputs * outputs for inputs, outputs in itertools.pairwise(sizes)]
    return sizes[1], products[0], sum(products[1:])
