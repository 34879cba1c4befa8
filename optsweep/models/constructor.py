"""From the dotted path of a network to its constructor with all arguments."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from optsweep.config.checks import Blaming, InputError, check_arguments
from optsweep.config.schema import ModuleConfig
from optsweep.config.targets import locate


def constructor(
    model: ModuleConfig, input_shape: Sequence[int], num_classes: int
) -> Callable[[], nn.Module]:
    """Find what builds a network, and give it what it asks for.

    The shape of an example and the number of classes go to the parameters `input_shape`,
    `num_inputs` or `in_features`, `in_channels` (of an example with two axes or more),
    `num_classes` or `out_features`, unless the settings name them.

    Raises:
        InputError: If the path may not be named, or the constructor lacks a setting or needs
            one that is not given; from what is returned, if the constructor fails.
    """
    target = locate("model", model.target)
    name = name_of(model)
    parameters = _parameters(target)
    for setting in model.settings:
        if setting not in parameters:
            names = ", ".join(parameters) or "none"
            raise InputError(f"model {name} has no setting {setting!r}; it has: {names}")
    check_arguments("model", parameters, model.settings)
    known = _known_values(input_shape, num_classes)
    arguments = {key: value for key, value in known.items() if key in parameters}
    arguments |= model.settings
    for parameter in inspect.signature(target).parameters.values():
        optional = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if (
            parameter.default is parameter.empty
            and not optional
            and parameter.name not in arguments
        ):
            raise InputError(f"model {name} needs a setting {parameter.name!r}")
    return functools.partial(_build, name, target, arguments)


def name_of(model: ModuleConfig) -> str:
    """The last part of a network's path, by which messages call it."""
    return model.target.rpartition(".")[2]


def _known_values(input_shape: Sequence[int], num_classes: int) -> dict[str, Any]:
    num_inputs = math.prod(input_shape)
    values: dict[str, Any] = {
        "input_shape": tuple(input_shape),
        "num_inputs": num_inputs,
        "in_features": num_inputs,
        "num_classes": num_classes,
        "out_features": num_classes,
    }
    return values | ({"in_channels": input_shape[0]} if len(input_shape) > 1 else {})


def _build(name: str, target: Callable[..., Any], arguments: Mapping[str, Any]) -> nn.Module:
    with Blaming(f"model {name}"):
        network = target(**arguments)
    if not isinstance(network, nn.Module):
        kind = type(network).__name__
        raise InputError(f"model {name} gives a {kind}; expected a torch.nn.Module")
    return network


def _parameters(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Every parameter that may be given by name.

    What takes `**kwargs` hands them on: a class to its base, and a function to the class that
    it says it returns, as `resnet18(*, weights, progress, **kwargs) -> ResNet` does.
    """
    found: dict[str, inspect.Parameter] = {}
    for source in _sources(target):
        parameters = inspect.signature(source, eval_str=True).parameters
        kinds = [parameter.kind for parameter in parameters.values()]
        for name, parameter in parameters.items():
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                found.setdefault(name, parameter)
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            break
    return found


def _sources(target: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """The target and what it may hand its keywords on to, in that order."""
    returned: Any = target
    if not inspect.isclass(target):
        yield target
        returned = inspect.signature(target, eval_str=True).return_annotation
    if inspect.isclass(returned):
        yield from (base for base in returned.__mro__ if issubclass(base, nn.Module))
