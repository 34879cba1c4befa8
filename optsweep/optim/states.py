"""What an optimizer has gathered, taken out as plain data and put into another of its class."""

from __future__ import annotations

import inspect
import io
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from optsweep.config.checks import Blaming, ForeignError
from optsweep.optim import curvature
from optsweep.optim.stacks import RATE_SCALE, StackOptimizer, parts_of, set_mode, take_step

# Parameters of every role but an embedding's, to try an optimizer on.
_SHAPES = {
    "linear1.weight": (3, 4),
    "linear1.bias": (3,),
    "norm1.weight": (3,),
    "linear2.weight": (3, 3),
    "linear3.weight": (2, 3),
}
State = list[dict[str, Any]]  # of every optimizer of a stack: one, or one for each seed


def state_of(optimizer: StackOptimizer) -> State:
    """The state, which shares its tensors with the optimizer."""
    return [part.state_dict() for part in parts_of(optimizer)]


def restore(optimizer: StackOptimizer, state: State) -> bool:
    """Let an optimizer go on from where one of its class was.

    It keeps the settings that it was made with. Unlike `load_state_dict`, this changes the type
    of no number, which NAdam's float32 product under float64 weights would not survive.

    Returns:
        Whether it took the state: not if parameters are grouped otherwise, or if it lacks what
        the optimizer's settings make it gather, such as AMSGrad's largest moments.
    """
    parts = parts_of(optimizer)
    if len(parts) != len(state) or not all(map(_fits, parts, state)):
        return False
    for part, saved in zip(parts, state, strict=True):
        settings = {"params", RATE_SCALE, *_settings_of(part)}
        parameters = [tensor for group in part.param_groups for tensor in group["params"]]
        for index, values in saved["state"].items():
            device = parameters[index].device
            part.state[parameters[index]] = _moved(values, device)
        for group, others in zip(part.param_groups, saved["param_groups"], strict=True):
            group.update({key: value for key, value in others.items() if key not in settings})
    return True


def is_restorable(build: Callable[[Sequence[tuple[str, Tensor]]], StackOptimizer]) -> bool:
    """Tell whether an optimizer's state is all that it goes on from.

    Measured, not listed: after a few steps its state is put into a new one, and both take a few
    more steps. False if these differ in any bit, if the state is not plain data, or if the
    optimizer refuses a step.

    Args:
        build: Makes the optimizer of a stack; see `ResolvedOptimizer.build`.
    """
    generator = torch.Generator().manual_seed(0)

    def draw() -> list[Tensor]:
        return [torch.randn(2, *shape, generator=generator) for shape in _SHAPES.values()]

    def stepped(optimizer: StackOptimizer, stacks: list[Tensor], gradients: list) -> None:
        set_mode(optimizer, training=True)
        for of_step in gradients:
            for stack, gradient in zip(stacks, of_step, strict=True):
                stack.grad = gradient.clone()
            estimates = dict(zip(stacks, of_step, strict=True))  # of curvature: any will do
            with Blaming("optimizer"):
                take_step(optimizer, estimates)
        set_mode(optimizer, training=False)  # as after every epoch, when states are kept

    # SOAP turns its bases at every tenth step.
    stacks, first, then = draw(), [draw() for _ in range(12)], [draw() for _ in range(11)]
    stacks = [stack.requires_grad_() for stack in stacks]
    optimizer = build(list(zip(_SHAPES, stacks, strict=True)))
    buffer = io.BytesIO()
    try:
        stepped(optimizer, stacks, first)
        others = [stack.detach().clone().requires_grad_() for stack in stacks]
        continued = build(list(zip(_SHAPES, others, strict=True)))
        torch.save(state_of(optimizer), buffer)
        buffer.seek(0)
        state = torch.load(buffer, weights_only=True)
        taken = restore(continued, state)
        stepped(optimizer, stacks, then)
        stepped(continued, others, then)
    except (ForeignError, pickle.PickleError, AttributeError, TypeError):
        return False
    return taken and all(map(torch.equal, stacks, others))


def _moved(values: Any, device: torch.device) -> Any:
    """A state on a device; single numbers, such as counts of steps, are kept by the host."""
    if isinstance(values, dict):
        return {key: _moved(value, device) for key, value in values.items()}
    if isinstance(values, list):  # of SOAP's preconditioners, one for each axis
        return [_moved(value, device) for value in values]
    return values.to(device) if isinstance(values, Tensor) and values.ndim else values


def _settings_of(part: Optimizer) -> set[str]:
    """The arguments of its class but the parameters."""
    return set(inspect.signature(type(part)).parameters) - {"params"}


def _fits(part: Optimizer, saved: Mapping[str, Any]) -> bool:
    groups, others = part.param_groups, saved["param_groups"]
    if [len(group["params"]) for group in groups] != [len(group["params"]) for group in others]:
        return False
    state = saved["state"]  # without those that were never stepped
    return all(keys <= set(state.get(i, keys)) for i, keys in enumerate(_gathered(part)))


def _gathered(part: Optimizer) -> list[set[str]]:
    """What an optimizer with these settings keeps of each parameter, seen in a step of small ones.

    Of a group's parameters one of each number of axes is looked at.
    """
    # However it computes, it gathers the same; and not every way is open to a CPU.
    known = _settings_of(part) - {"capturable", "fused", "foreach"}
    kinds = []
    for group in part.param_groups:
        settings = {key: value for key, value in group.items() if key in known}
        settings["lr"] = float(settings["lr"])
        axes = {tensor.ndim: torch.zeros([1] * tensor.ndim) for tensor in group["params"]}
        small = {ndim: tensor.requires_grad_() for ndim, tensor in axes.items()}
        for tensor in small.values():
            tensor.grad = torch.zeros_like(tensor)
        twin = type(part)(list(small.values()), **settings)
        set_mode(twin, training=True)
        with Blaming("optimizer"):
            curvature.take_step(twin, {each: torch.zeros_like(each) for each in small.values()})
        kinds += [set(twin.state.get(small[tensor.ndim], ())) for tensor in group["params"]]
    return kinds
