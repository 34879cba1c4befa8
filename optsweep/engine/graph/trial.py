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
from optsweep.optim.stacks import StackOptimizer, parts_of

_NUM_SEEDS, _NUM_EXAMPLES, _BATCH_SIZE = 2, 8, 2
_EPOCHS = 8  # 32 steps: RAdam rectifies after the 5th, Shampoo begins at the 25th
_RATES = 1e-3, 1.0  # the least and the largest: at 0 or 1e30 nothing would be seen
# Of the way that weights have gone, in float64: both ways of training differ by rounding alone.
_TOLERANCE = 1e-6
# In place of one that only a GPU takes, and of which torch says that it can be captured.
_PLAIN = ResolvedOptimizer(torch.optim.SGD, {"lr": 0.1}, decay_biases_and_norms=True, lr=0.1)


def why_not(work: Work) -> str:
    """Why replayed steps would not train as called ones do; empty if they would.

    Two seeds of the network, or of a narrow one for a perceptron, are trained in float64 on a few
    random examples, at rates that change: by the reference, and from a tape of the fourth step.
    And the optimizer must leave its plain numbers as they are, for they may matter only later.
    """
    if reason := _why_unfit(work):
        return reason
    name = work.optimizer.target.__name__
    if needs_gpu(capturable(work.optimizer)):
        work = replace(work, optimizer=_PLAIN)
    has_dropout = isinstance(work.model, MLPConfig) and bool(work.model.dropout)
    work = _small(work)
    split = _examples(work)
    try:
        begun, called, replayed, counted = (_stack(work) for _ in range(4))
        counting = engine.build(work, counted, split)
        _train(counting, work, num_epochs=1)
        if has_dropout or not _has_drawn_nothing(begun, counted):
            return "torch_graph cannot capture a network that draws random numbers"
        before = _plain_values(counting.optimizer)
        _train(counting, work, num_epochs=1)
        if _plain_values(counting.optimizer) != before:
            return f"torch_graph cannot capture optimizer {name}: it counts in Python"
        _train(reference.build(work, called, split), work)
        _train(engine.build(work, replayed, split, lambda step, *_: TapedSteps(step)), work)
    except Exception as error:  # of code that a setting names, and that does what it likes
        return f"torch_graph cannot capture optimizer {name} here: {first_line(error)}"
    if all(map(_is_close, _values(begun), _values(called), _values(replayed))):
        return ""
    return f"torch_graph cannot capture optimizer {name} here: replayed steps would differ"


def _why_unfit(work: Work) -> str:
    """What need not be tried."""
    name = work.optimizer.target.__name__
    both = [work.optimizer, work.optimizer.rest]
    if any(each is not None and takes_curvature(each.target) for each in both):
        return f"torch_graph cannot capture the second derivatives of optimizer {name}"
    if needs_gpu(capturable(work.optimizer)) and work.device.type == "cpu":
        return f"torch_graph: torch captures optimizer {name} on a GPU alone"
    return ""


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


def _train(trained: reference.ReferenceEngine, work: Work, num_epochs: int = _EPOCHS) -> None:
    for epoch in range(1, num_epochs + 1):
        orders = epoch_orders(range(_NUM_SEEDS), epoch, _NUM_EXAMPLES, work.device)
        rates = np.linspace(0.5, 1, _NUM_EXAMPLES // _BATCH_SIZE) / epoch
        rates *= min(max(work.optimizer.lr, _RATES[0]), _RATES[1])
        trained.train_epoch(orders, rates)


def _has_drawn_nothing(begun: Stack, trained: Stack) -> bool:
    """Whether every seed would draw the same numbers as before it was trained."""
    return all(map(torch.equal, begun.rng_states or [], trained.rng_states or []))


def _plain_values(optimizer: StackOptimizer) -> str:
    """What it keeps in its groups and of its parameters that is no tensor."""
    parts = parts_of(optimizer)
    kept = [values for part in parts for values in [*part.param_groups, *part.state.values()]]
    return repr(
        [
            {key: value for key, value in values.items() if not isinstance(value, Tensor)}
            for values in ({**each, "params": None} for each in kept)
        ]
    )


def _values(stack: Stack) -> list[Tensor]:
    named = [*stack.named_parameters(), *stack.named_buffers()]
    return [tensor.detach() for _, tensor in named]


def _is_close(begun: Tensor, called: Tensor, replayed: Tensor) -> bool:
    way, difference = (called - begun).double().norm(), (called - replayed).double().norm()
    return bool(difference <= _TOLERANCE * way)
