"""Can a graph train this? Measured, not listed: a small stack is trained from a tape of a step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from optsweep.config.checks import first_line
from optsweep.config.schema import MLPConfig
from optsweep.data.tensors import Split, epoch_orders
from optsweep.engine import Work, reference
from optsweep.engine.graph import engine
from optsweep.engine.graph.optimizers import capturable, needs_gpu
from optsweep.engine.graph.replay import TapedSteps
from optsweep.models import Stack, build_stack
from optsweep.models.initializers import default
from optsweep.optim.curvature import takes_curvature
from optsweep.optim.resolved import ResolvedOptimizer

_NUM_SEEDS, _NUM_EXAMPLES, _BATCH_SIZE = 2, 8, 2
_EPOCHS = 8  # 32 steps: RAdam rectifies after the 5th, Shampoo begins at the 25th
_TOLERANCE = 1e-9  # of float64, in which both ways differ by rounding alone
# In place of one that only a GPU takes, and of which torch says that it can be captured.
_PLAIN = ResolvedOptimizer(torch.optim.SGD, {"lr": 0.1}, decay_biases_and_norms=True, lr=0.1)


def why_not(work: Work) -> str:
    """Why replayed steps would not train as called ones do; empty if they would.

    Two seeds of the network, or of a narrow one for a perceptron, are trained in float64 on a few
    random examples, at rates that change: by the reference, and from a tape of the fourth step.
    """
    name = work.optimizer.target.__name__
    both = [work.optimizer, work.optimizer.rest]
    if any(each is not None and takes_curvature(each.target) for each in both):
        return f"torch_graph cannot capture the second derivatives of optimizer {name}"
    if needs_gpu(capturable(work.optimizer)):
        if work.device.type == "cpu":
            return f"torch_graph: torch captures optimizer {name} on a GPU alone"
        work = replace(work, optimizer=_PLAIN)
    work = _small(work)
    split = _examples(work)
    try:
        called, replayed = _stack(work), _stack(work)
        states = [state.clone() for state in called.rng_states]
        _train(reference.build(work, called, split), work)
        if not all(map(torch.equal, states, called.rng_states)):
            return "torch_graph cannot capture a network that draws random numbers"
        _train(engine.build(work, replayed, split, lambda step, *_: TapedSteps(step)), work)
    except Exception as error:  # of code that a setting names, and that does what it likes
        return f"torch_graph cannot capture optimizer {name} here: {first_line(error)}"
    if all(map(_is_close, _values(called), _values(replayed))):
        return ""
    return f"torch_graph cannot capture optimizer {name} here: replayed steps would differ"


def _small(work: Work) -> Work:
    if isinstance(work.model, MLPConfig):
        narrow = replace(work.model, hidden_sizes=(4,) * len(work.model.hidden_sizes))
        work = replace(work, model=narrow, input_shape=(3,), num_classes=3)
    return replace(
        work,
        num_examples=_NUM_EXAMPLES,
        batch_size=_BATCH_SIZE,
        num_seeds=_NUM_SEEDS,
        device=torch.device("cpu"),
        dtype=torch.float64,
    )


def _examples(work: Work) -> Split:
    generator = torch.Generator().manual_seed(0)
    shape = _NUM_EXAMPLES, *work.input_shape
    images = torch.rand(shape, generator=generator, dtype=work.dtype)
    return Split(images, torch.arange(_NUM_EXAMPLES) % work.num_classes)


def _stack(work: Work) -> Stack:
    shape, classes, device = work.input_shape, work.num_classes, work.device
    return build_stack(work.model, default, range(_NUM_SEEDS), shape, classes, device, work.dtype)


def _train(trained: reference.ReferenceEngine, work: Work) -> None:
    for epoch in range(1, _EPOCHS + 1):
        orders = epoch_orders(range(_NUM_SEEDS), epoch, _NUM_EXAMPLES, work.device)
        rates = np.linspace(0.5, 1, _NUM_EXAMPLES // _BATCH_SIZE) * work.optimizer.lr / epoch
        trained.train_epoch(orders, rates)


def _values(stack: Stack) -> list[Tensor]:
    named = [*stack.named_parameters(), *stack.named_buffers()]
    return [tensor.detach() for _, tensor in named]


def _is_close(called: Tensor, replayed: Tensor) -> bool:
    return torch.allclose(called, replayed, rtol=_TOLERANCE, atol=_TOLERANCE)
