"""An optimizer's state of one seed, out of what a cell has kept of all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from optsweep.diagnosis.subject import Shapes
from optsweep.optim.states import State
from optsweep.training.checkpoints import Snapshot

# What torch calls the moments of the compiled engine, by the optimizer's class; its steps are
# counted where True. NAdam's product of momenta is not kept there.
_MOMENTS: Mapping[str, tuple[Mapping[str, str], bool]] = {
    "torch.optim.sgd.SGD": ({"first": "momentum_buffer"}, False),
    **{
        f"torch.optim.{name.lower()}.{name}": (
            {"first": "exp_avg", "second": "exp_avg_sq", "largest": "max_exp_avg_sq"},
            True,
        )
        for name in ("Adam", "AdamW", "RAdam")
    },
    "torch.optim.rmsprop.RMSprop": ({"second": "square_avg"}, True),
    "torch.optim.adagrad.Adagrad": ({"second": "sum"}, True),
}


def state_of_seed(snapshot: Snapshot, index: int, shapes: Shapes) -> State | None:
    """The state for a stack of this seed alone; None if it was not kept or cannot be read.

    Args:
        snapshot: Of all seeds.
        index: Of the seed in it.
        shapes: Of the parameters.
    """
    if snapshot.state is None:
        return None
    if isinstance(snapshot.state, Mapping):
        return _from_compiled(snapshot, index, shapes)
    if len(snapshot.state) == len(snapshot.seeds) > 1:  # an optimizer for each seed
        return [snapshot.state[index]]
    (state,) = snapshot.state
    num_seeds = len(snapshot.seeds)

    def own(value: Any) -> Any:
        stacked = isinstance(value, Tensor) and value.ndim and value.shape[0] == num_seeds
        return value[index : index + 1] if stacked else value

    of_seed = {
        place: {key: own(value) for key, value in values.items()}
        for place, values in state["state"].items()
    }
    return [{**state, "state": of_seed}]


def _from_compiled(snapshot: Snapshot, index: int, shapes: Shapes) -> State | None:
    """The compiled engine's moments, in torch's words.

    It keeps those of the first layer's weights and of all others apart, weights with inputs
    before outputs, in the order of the parameters.
    """
    if snapshot.optimizer not in _MOMENTS:
        return None
    names, counts_steps = _MOMENTS[snapshot.optimizer]
    state = snapshot.state
    values: dict[int, dict[str, Any]] = {place: {} for place in range(len(shapes))}
    for moment, key in names.items():
        if f"inputs.{moment}" not in state:
            continue
        flat = torch.cat([state[f"{part}.{moment}"][index] for part in ("inputs", "rest")])
        sizes = [shape.numel() for _, shape in shapes]
        for place, piece in enumerate(flat.split(sizes)):
            shape = shapes[place][1]
            turned = piece.view(*reversed(shape)).T if len(shape) == 2 else piece.view(shape)
            values[place][key] = turned.unsqueeze(0).contiguous()
    if counts_steps:
        for of_parameter in values.values():
            of_parameter["step"] = torch.tensor(float(state["num_steps"]))
    has_any = any(values.values())
    groups = [{"params": list(range(len(shapes)))}]
    return [{"state": values if has_any else {}, "param_groups": groups}]
