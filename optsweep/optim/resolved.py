"""One optimizer, resolved once: its class, its arguments, what decays, its base learning rate.

The plan of a cell carries it; engines, checks and schedules read it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from optsweep.config.checks import (
    Blaming,
    ForeignError,
    InputError,
    check_arguments,
    parameters_of,
)
from optsweep.config.schema import with_first_beta
from optsweep.config.targets import locate
from optsweep.optim.stacks import SeedwiseOptimizer, StackOptimizer, is_stackable

_SWITCHES = {"foreach", "capturable", "differentiable", "fused", "maximize"}  # not worth listing


@dataclass(frozen=True)
class ResolvedOptimizer:
    """What a configuration's section `optimizer` comes to.

    Attributes:
        target: The optimizer's class.
        arguments: Its arguments but the parameters.
        decay_biases_and_norms: False: weight decay reaches weights of two or more axes alone.
        lr: Base learning rate: the one given, or the class's own.
    """

    target: type[Optimizer]
    arguments: Mapping[str, Any]
    decay_biases_and_norms: bool
    lr: float

    def build(self, parameters: Sequence[tuple[str, Tensor]]) -> StackOptimizer:
        """Make the optimizer of a stack, or one for each seed if it does not treat seeds apart.

        Args:
            parameters: Names and leaf tensors (S, ...), with the parameter's own axes behind S.

        Raises:
            InputError: If the class does not take its arguments or these parameters.
        """
        stacks = [tensor for _, tensor in parameters]
        if is_stackable(self.make):
            return self._grouped(stacks, num_seed_axes=1)
        try:
            return SeedwiseOptimizer(stacks, lambda each: self._grouped(each, num_seed_axes=0))
        except ForeignError as error:
            if self._takes_matrices(stacks):
                raise InputError(
                    f"optimizer {self.target.__name__} takes 2D parameters alone, and this network "
                    "has others, such as biases; choose another, or a class of your own that "
                    "leaves those to a second optimizer: optimizer=mypackage.MyOptimizer "
                    "allow_targets=[mypackage]"
                ) from error
            raise

    def make(self, parameters: Sequence[Any]) -> Optimizer:
        """Call the class with parameters or groups of them."""
        with Blaming(f"optimizer {self.target.__name__}"):
            return self.target(parameters, **self.arguments)

    def _takes_matrices(self, stacks: Sequence[Tensor]) -> bool:
        """Tell whether the class, which has refused the parameters, takes the matrices of them."""
        matrices = [stack[0].detach() for stack in stacks if stack.ndim == 3]
        try:
            return bool(matrices) and bool(self.make(matrices))
        except ForeignError:
            return False

    def _grouped(self, tensors: Sequence[Tensor], num_seed_axes: int) -> Optimizer:
        """The optimizer, with biases and norms in a group of their own if they do not decay."""
        has_decay = "weight_decay" in inspect.signature(self.target).parameters
        if self.decay_biases_and_norms or not has_decay:
            return self.make(tensors)
        groups: list[dict[str, Any]] = [{"params": []}, {"params": [], "weight_decay": 0.0}]
        for tensor in tensors:
            groups[tensor.ndim - num_seed_axes < 2]["params"].append(tensor)
        return self.make([group for group in groups if group["params"]])


def resolve_optimizer(settings: Mapping[str, Any]) -> ResolvedOptimizer:
    """Resolve a validated section `optimizer`.

    Args:
        settings: `_target_`, `decay_biases_and_norms` and the class's arguments.

    Raises:
        InputError: If the path may not be named, there is no learning rate, or the class lacks
            a setting or needs a closure.
    """
    arguments = dict(settings)
    target = locate("optimizer", arguments.pop("_target_"))
    decay_biases_and_norms = arguments.pop("decay_biases_and_norms")
    parameters = inspect.signature(target).parameters
    if "momentum" in arguments and "momentum" not in parameters and "betas" in parameters:
        arguments = with_first_beta(arguments, parameters["betas"].default)
    check_settings(target, arguments)
    check_arguments("optimizer", parameters_of(target), arguments)
    closure = inspect.signature(target.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise InputError(f"optimizer {target.__name__} needs a closure; choose one without")
    default = parameters["lr"].default if "lr" in parameters else None
    lr = arguments.get("lr", default)
    if lr is None or lr is inspect.Parameter.empty:
        raise InputError(
            f"optimizer {target.__name__} has no default learning rate; give optimizer.lr"
        )
    return ResolvedOptimizer(target, arguments, decay_biases_and_norms, float(lr))


def check_settings(target: type[Optimizer], settings: Mapping[str, Any]) -> None:
    """Raise InputError for a setting that the optimizer's signature does not name.

    ``**kwargs`` do not count as names, for they would swallow a misspelt setting.

    >>> import torch
    >>> check_settings(torch.optim.Rprop, {"momentum": 0.9})  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    InputError: optimizer Rprop has no setting 'momentum'; it has: lr, etas, step_sizes
    """
    arguments = inspect.signature(target).parameters.values()
    names = [argument.name for argument in arguments if argument.kind != argument.VAR_KEYWORD][1:]
    for name in settings:
        if name not in names:
            text = ", ".join(name for name in names if name not in _SWITCHES)
            raise InputError(f"optimizer {target.__name__} has no setting {name!r}; it has: {text}")


def spare_compiler() -> None:
    """Let optimizers be made without `torch._dynamo`: 0.8 s and 150 MB, with sympy and triton.

    `Optimizer.add_param_group` imports it at the first call, to be left alone by torch.compile,
    unless the function's attribute `__dynamo_disable` says what to call instead. Where a release
    of torch knows no such attribute, nothing changes.
    """
    plain = getattr(Optimizer.add_param_group, "__wrapped__", None)
    if plain is not None:
        vars(plain).setdefault("__dynamo_disable", plain)
