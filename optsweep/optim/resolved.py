"""One optimizer, resolved once: its class, its arguments, its groups, its base learning rate.

The plan of a cell carries it; engines, checks and schedules read it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from optsweep.config.checks import (
    Blaming,
    ForeignError,
    InputError,
    as_text,
    check_arguments,
    parameters_of,
)
from optsweep.config.roles import NOT_HIDDEN, ROLES, VECTORS, flagged
from optsweep.config.schema import with_first_beta
from optsweep.config.targets import locate
from optsweep.optim.curvature import takes_curvature, tells_its_noise
from optsweep.optim.roles import roles_of
from optsweep.optim.stacks import (
    RATE_SCALE,
    JoinedOptimizer,
    SeedwiseOptimizer,
    StackOptimizer,
    is_stackable,
)

# Arguments of classes that say how they compute.
SWITCHES = {"foreach", "capturable", "differentiable", "fused", "maximize"}


@dataclass(frozen=True)
class ResolvedOptimizer:
    """What a configuration's section `optimizer` comes to.

    Attributes:
        target: The optimizer's class.
        arguments: Its arguments but the parameters.
        decay_biases_and_norms: False: weight decay reaches weights of two or more axes alone.
        lr: Base learning rate: the one given, or the class's own.
        groups: Settings of parameters by their role, beside what that flag says.
        rest: The optimizer of the parameters that this one leaves alone; None: it has all.
        rest_roles: Their roles.
        switches: Arguments that say how the class computes, and not what, beside those given.
    """

    target: type[Optimizer]
    arguments: Mapping[str, Any]
    decay_biases_and_norms: bool
    lr: float
    groups: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rest: ResolvedOptimizer | None = None
    rest_roles: tuple[str, ...] = NOT_HIDDEN
    switches: Mapping[str, Any] = field(default_factory=dict)

    def build(self, parameters: Sequence[tuple[str, Tensor]]) -> StackOptimizer:
        """Make the optimizer of a stack, or one for each seed if it does not treat seeds apart.

        Args:
            parameters: Names and leaf tensors (S, ...), with the parameter's own axes behind S.

        Raises:
            InputError: If the class does not take its arguments or these parameters.
        """
        tensors = [tensor for _, tensor in parameters]
        members = [*zip(tensors, roles_of(parameters), strict=True)]
        if self.rest is None:
            return self._of_stack(members)
        own = [member for member in members if member[1] not in self.rest_roles]
        others = [member for member in members if member[1] in self.rest_roles]
        if not own:
            roles = " or ".join(role for role in ROLES if role not in self.rest_roles) or "none"
            raise InputError(
                f"optimizer {self.target.__name__} is for parameters in the role {roles}, of which "
                "this network has none; give it more layers, such as depth=2, or other "
                "optimizer.rest.roles"
            )
        joined = [self._of_stack(own)]
        if others:
            scale = self.rest.lr / self.lr if self.lr else 1.0
            joined.append(self.rest._of_stack(others, scale))
        return JoinedOptimizer(joined)

    @property
    def kind(self) -> str:
        """What its state is a state of: the class, and which parameters go together if not all."""
        name = f"{self.target.__module__}.{self.target.__qualname__}"
        if not self.groups and self.rest is None:
            return name
        alike: dict[str, list[str]] = {}
        for role in ROLES:
            place = "rest" if self.rest is not None and role in self.rest_roles else "own"
            alike.setdefault(f"{place} {self._settings_of(role, 1.0)}", []).append(role)
        parts = " ".join("+".join(roles) for roles in alike.values())
        others = "" if self.rest is None else f" with {self.rest.target.__qualname__}"
        return f"{name} of {parts}{others}"

    def settings(self) -> dict[str, Any]:
        """Every setting but the rate: those given, and the class's own defaults of the others."""
        parameters = [*inspect.signature(self.target).parameters.values()][1:]
        defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
        return {key: value for key, value in {**defaults, **self.arguments}.items() if key != "lr"}

    def make(self, parameters: Sequence[Any]) -> Optimizer:
        """Call the class with parameters or groups of them."""
        with Blaming(f"optimizer {self.target.__name__}"):
            return self.target(parameters, **{**self.arguments, **self.switches})

    def _of_stack(self, members: Sequence[_Member], rate_scale: float = 1.0) -> StackOptimizer:
        """The optimizer of these stacks, at a rate that is a multiple of the schedule's."""
        stacks = [stack for stack, _ in members]
        roles = [role for _, role in members]

        def grouped(tensors: Sequence[Tensor]) -> Optimizer:
            return self._grouped(tensors, roles, rate_scale)

        plain = replace(self, switches={})  # some of these no CPU takes
        if is_stackable(plain.make, {stack.ndim - 1 for stack in stacks}):
            return grouped(stacks)
        try:
            return SeedwiseOptimizer(stacks, grouped)
        except ForeignError as error:
            if not self._takes_matrices(stacks):
                raise
            if all(stack.ndim > 2 for stack in stacks):  # kernels of a convolution among them
                return SeedwiseOptimizer(stacks, grouped, as_matrices=True)
            raise InputError(
                f"optimizer {self.target.__name__} takes 2D parameters alone, and this network "
                "has others, such as biases; give those to a second optimizer: "
                "optimizer.rest._target_=torch.optim.AdamW, as optimizer=muon does"
            ) from error

    def _takes_matrices(self, stacks: Sequence[Tensor]) -> bool:
        """Tell whether the class, which has refused the parameters, takes the matrices of them."""
        matrices = [stack[0].detach().flatten(1) for stack in stacks if stack.ndim > 2]
        try:
            return bool(matrices) and bool(self.make(matrices))
        except ForeignError:
            return False

    def _grouped(
        self, tensors: Sequence[Tensor], roles: Sequence[str], rate_scale: float
    ) -> Optimizer:
        """The optimizer, with parameters whose roles have other settings in groups of their own."""
        groups: list[tuple[dict[str, Any], list[Tensor]]] = []
        for tensor, role in zip(tensors, roles, strict=True):
            settings = self._settings_of(role, rate_scale)
            alike = next((group for own, group in groups if own == settings), None)
            if alike is None:
                groups.append((settings, [tensor]))
            else:
                alike.append(tensor)
        if not any(settings for settings, _ in groups):
            return self.make(tensors)
        return self.make([{"params": group, **settings} for settings, group in groups])

    def _settings_of(self, role: str, rate_scale: float) -> dict[str, Any]:
        """What parameters of a role have of their own."""
        settings = dict(self.groups.get(role, {}))
        has_decay = "weight_decay" in inspect.signature(self.target).parameters
        if role in VECTORS and has_decay and not self.decay_biases_and_norms:
            settings.setdefault("weight_decay", 0.0)
        if "lr" in settings and self.lr:
            rate_scale *= settings["lr"] / self.lr
        return settings | ({RATE_SCALE: rate_scale} if rate_scale != 1 else {})


_Member = tuple[Tensor, str]  # a stack and its role


def resolve_optimizer(settings: Mapping[str, Any]) -> ResolvedOptimizer:
    """Resolve a validated section `optimizer`.

    Args:
        settings: `_target_`, `decay_biases_and_norms`, perhaps `groups` and `rest`, and the
            class's arguments.

    Raises:
        InputError: If the path may not be named, there is no learning rate, or the class lacks
            a setting or needs a closure.
    """
    arguments = dict(settings)
    decay = arguments.pop("decay_biases_and_norms")
    adapts = arguments.pop("adapt_biases_and_norms", True)
    groups = {role: dict(own) for role, own in arguments.pop("groups", {}).items()}
    for role in VECTORS if not adapts else ():
        groups[role] = flagged({"adapt_biases_and_norms": False}) | groups.get(role, {})
    others = arguments.pop("rest", None)
    own = _resolve_class("optimizer", arguments, decay, groups)
    if others is None:
        _check_groups(own, groups)
        return own
    others = dict(others)
    roles = tuple(others.pop("roles", NOT_HIDDEN))
    rest = _resolve_class("optimizer.rest", others, decay, groups)
    for optimizer, takes in ((own, False), (rest, True)):
        _check_groups(optimizer, {r: g for r, g in groups.items() if (r in roles) is takes})
    return replace(own, rest=rest, rest_roles=roles)


def _resolve_class(
    place: str, settings: Mapping[str, Any], decay: bool, groups: Mapping[str, Any]
) -> ResolvedOptimizer:
    """One class with its arguments; see `resolve_optimizer`."""
    arguments = dict(settings)
    target = locate("optimizer", arguments.pop("_target_"))
    parameters = inspect.signature(target).parameters
    if "momentum" in arguments and "momentum" not in parameters and "betas" in parameters:
        arguments = with_first_beta(arguments, parameters["betas"].default)
    check_settings(target, arguments)
    check_arguments(place, parameters_of(target), arguments)
    _check_betas(place, arguments, parameters)
    closure = inspect.signature(target.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise InputError(f"optimizer {target.__name__} needs a closure; choose one without")
    if takes_curvature(target) and not tells_its_noise(target):
        raise InputError(
            f"optimizer {target.__name__} needs second derivatives, and has no settings of "
            "SophiaH that tell how they are estimated; choose one without"
        )
    default = parameters["lr"].default if "lr" in parameters else None
    lr = arguments.get("lr", default)
    if lr is None or lr is inspect.Parameter.empty:
        raise InputError(
            f"optimizer {target.__name__} has no default learning rate; give {place}.lr"
        )
    return ResolvedOptimizer(target, arguments, decay, float(lr), groups)


def _check_betas(
    place: str, arguments: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter]
) -> None:
    """Refuse more or fewer betas than the class's own: two, or three of AdEMAMix."""
    betas = arguments.get("betas")
    default = parameters["betas"].default if "betas" in parameters else None
    if betas is not None and isinstance(default, Sequence) and len(betas) != len(default):
        count = {2: "two", 3: "three"}.get(len(default), str(len(default)))
        raise InputError(f"{place}.betas={as_text(betas)}: expected {count} numbers in [0, 1)")


def _check_groups(optimizer: ResolvedOptimizer, groups: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse settings of groups that the class does not have, or of another kind."""
    for role, settings in groups.items():
        check_settings(optimizer.target, settings)
        parameters = parameters_of(optimizer.target)
        check_arguments(f"optimizer.groups.{role}", parameters, settings)


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
            text = ", ".join(name for name in names if name not in SWITCHES)
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
