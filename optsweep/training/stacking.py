"""Cells of one shape, trained as one stack of (cells x seeds) members and recorded as by itself.

What a GPU does with a small network it does with a hundred in hardly more time; and their
optimizers, schedules and initialisers need not be the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from optsweep.engine import Scores, Work
from optsweep.engine.choice import ENGINES
from optsweep.models import Stack, build_stack
from optsweep.optim.curvature import takes_curvature
from optsweep.provenance import made_by
from optsweep.surroundings import OtherCores, available_memory
from optsweep.training.cell import Record, loaded, record_of, threads
from optsweep.training.loop import Epoch, Training, train
from optsweep.training.plan import Plan

_SHARE_OF_MEMORY = 0.5  # of what is free: an estimate may be short of the truth
_MOST_CELLS = 256  # each has a claim and a log while it trains, and all begin anew if one fails


def stacks_of(
    plans: Iterable[Plan], free: Callable[[torch.device], int | None]
) -> list[list[Plan]]:
    """Put cells together that can be one stack, in their order; a cell may stay alone.

    Args:
        plans: Of the cells.
        free: Bytes that are free on a device; None: unknown.
    """
    groups: dict[str, list[list[Plan]]] = {}
    for plan in plans:
        alike = groups.setdefault(_shape(plan), [[]])
        limit = free(plan.work.device)
        room = None if limit is None else _SHARE_OF_MEMORY * limit
        joined = [*alike[-1], plan]
        is_alone = not alike[-1] or why_alone(plan) or len(joined) > _MOST_CELLS
        if is_alone or (room is not None and _num_bytes(joined) > room):
            alike.append([plan])
        else:
            alike[-1].append(plan)
    return [group for alike in groups.values() for group in alike if group]


def why_alone(plan: Plan) -> str:
    """Why a cell cannot be part of a stack; empty if it can.

    It can if it is nothing but epochs of steps, each at a rate from a table. What ends early,
    begins with weights, keeps them or records gradients is a cell of its own, and so is one whose
    schedule changes more than the rate, or whose optimizer wants curvature. The compiled engine
    has no stacks: its threads train seeds one by one.
    """
    config = plan.config
    optimizers = filter(None, (plan.work.optimizer, plan.work.optimizer.rest))
    reasons = {
        "engine numba trains seeds one by one": plan.engine.name == "numba",
        "checkpoints are kept": config.trainer.checkpoint,
        "weights are kept": config.trainer.keep_weights,
        "weights or gradients are recorded": config.record.weights or config.record.gradients,
        "it begins with weights": config.start_from is not None,
        "it may end early": config.stopping,
        "its schedule changes more than the learning rate": plan.cycled,
        "its optimizer wants curvature": any(takes_curvature(each.target) for each in optimizers),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def pays(plan: Plan) -> bool:
    """Whether a stack is faster than its cells one after the other.

    It is where the host's calls take the time, on a GPU, and where they are replayed as a graph.
    On a CPU the arithmetic does, of which a stack has as much as its cells have.
    """
    return plan.work.device.type == "cuda" or plan.engine.name == "torch_graph"


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free on a device; None: unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return available_memory() if device.type == "cpu" else None


def _num_bytes(plans: Sequence[Plan]) -> int:
    num_rates = max(plan.learning_rates.size for plan in plans) * len(plans)
    return plans[0].num_bytes(stacked(plans), num_rates)


def stacked(plans: Sequence[Plan]) -> Work:
    """The work of several cells at once."""
    cells = tuple((plan.work.num_seeds, plan.work.optimizer) for plan in plans)
    return replace(plans[0].work, num_seeds=sum(num for num, _ in cells), cells=cells)


def train_cells(
    plans: Sequence[Plan],
    on_epoch: Callable[[Sequence[Epoch]], None] = lambda epochs: None,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Record]:
    """Train cells as one stack, and record each as if it had been alone.

    They differ by rounding from what each gives alone: sums run in another order. Of the time of
    training each has its share by seeds, which its record says among its warnings.

    Args:
        plans: Of one group of `stacks_of`.
        on_epoch: Told of every epoch, as it is for each cell.
        tell: Told in a line what a user should know.

    Raises:
        InputError: If the data are missing or corrupt, or one of the cells cannot be trained.
    """
    work, config = stacked(plans), plans[0].config
    module = ENGINES[plans[0].engine.name]
    with threads(work.num_threads):
        if remark := module.prepare():
            tell(remark)
        dataset = loaded(config.dataset, work.device, work.dtype)
        engine = module.build(work, _stack(plans, work), dataset.train)

        def told(epoch: Epoch) -> None:
            on_epoch([_of_cell(epoch, plan, seeds) for plan, seeds in _places(plans)])

        seeds = [seed for plan in plans for seed in plan.config.seeds]
        others = OtherCores()
        training = train(engine, dataset, seeds, _rates(plans), work.batch_size, told)
        records = []
        for plan, place in _places(plans):
            note = f"trained in one stack with {len(plans) - 1} other cells; the time is its share"
            noted = replace(plan, warnings=(*plan.warnings, note))
            own = _training(training, plan, place)
            records.append(record_of(noted, own, made_by(plan.config), [], others))
        return records


def _shape(plan: Plan) -> str:
    """What cells of a stack have in common."""
    common = replace(plan.config, init={}, optimizer={}, scheduler={}, seed=0, num_seeds=1)
    return repr((common, plan.engine.name, plan.work.device, bool(why_alone(plan))))


def _stack(plans: Sequence[Plan], work: Work) -> Stack:
    """The networks of all cells, each with the weights that it begins with by itself."""

    def build(plan: Plan, seeds: Sequence[int]) -> Stack:
        arguments = (work.input_shape, work.num_classes, work.device, work.dtype)
        return build_stack(work.model, plan.initializer, seeds, *arguments)

    whole = build(plans[0], [seed for plan in plans for seed in plan.config.seeds])
    rng_states: list[torch.Tensor] = []
    for plan, seeds in _places(plans):
        own = build(plan, plan.config.seeds)
        theirs = [*own.named_parameters(), *own.named_buffers()]
        for (_, tensor), (_, begun) in zip(_tensors(whole), theirs, strict=True):
            tensor.detach()[seeds] = begun.detach()
        rng_states += own.rng_states or []
    if rng_states:
        whole.rng_states = rng_states
    return whole


def _tensors(stack: Stack) -> list[tuple[str, torch.Tensor]]:
    return [*stack.named_parameters(), *stack.named_buffers()]


def _places(plans: Sequence[Plan]) -> Iterator[tuple[Plan, slice]]:
    """Every cell, and which members of the stack are its seeds."""
    first = 0
    for plan in plans:
        yield plan, slice(first, first + plan.work.num_seeds)
        first += plan.work.num_seeds


def _rates(plans: Sequence[Plan]) -> np.ndarray:
    """(epochs, cells, 1), or (epochs, cells, steps) if the rate of one changes with the step."""
    num_ticks = max(plan.learning_rates.shape[1] for plan in plans)
    tables = [
        np.broadcast_to(plan.learning_rates, (len(plan.learning_rates), num_ticks))
        for plan in plans
    ]
    return np.stack(tables, axis=1)


def _training(training: Training, plan: Plan, seeds: slice) -> Training:
    """What the stack's training was for one cell, which alone ends when all its seeds diverge."""
    epochs: list[Epoch] = []
    for epoch in training.epochs:
        epochs.append(_of_cell(epoch, plan, seeds))
        if epoch.epoch and not epochs[-1].alive.any():
            break
    return Training(epochs, _of_seeds(training.final_train, seeds))


def _of_cell(epoch: Epoch, plan: Plan, seeds: slice) -> Epoch:
    """What an epoch of the stack was for one cell."""
    alive = epoch.alive[seeds]
    return replace(
        epoch,
        lr=float(plan.learning_rates[epoch.epoch - 1][-1]) if epoch.epoch else None,
        train=_of_seeds(epoch.train, seeds),
        val=None if epoch.val is None else _of_seeds(epoch.val, seeds),
        test=_of_seeds(epoch.test, seeds),
        seconds=epoch.seconds * len(alive) / len(epoch.alive),
        alive=alive,
    )


def _of_seeds(scores: Scores, seeds: slice) -> Scores:
    return Scores(scores.loss[seeds], scores.accuracy[seeds])
