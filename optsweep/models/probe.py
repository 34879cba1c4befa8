"""What a network does that its class does not tell, found by trying it on two examples."""

from __future__ import annotations

import copy
import pickle
import random
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.parameter import is_lazy

from optsweep.config.checks import Blaming, InputError, first_line

_NUM_EXAMPLES = 2  # a batch normalization of vectors takes no fewer


@dataclass(frozen=True)
class Findings:
    """What was found.

    Attributes:
        images: (2, *input_shape), what the network was tried on.
        num_activations: Values that a pass keeps of one example for its gradients.
        is_random: Whether it draws random numbers in training.
    """

    images: Tensor
    num_activations: int
    is_random: bool


def probe(name: str, network: nn.Module, input_shape: Sequence[int], num_classes: int) -> Findings:
    """Try a network in training and in evaluation; it is not changed.

    Raises:
        InputError: If it cannot be a network of a stack: its sizes are not known yet, it does
            not give a row of logits for each example, or a pass leaves in it something that is
            neither a parameter nor a buffer changed in place, so that seeds would share it.
    """
    if any(map(is_lazy, [*network.parameters(), *network.buffers()])):
        raise InputError(f"model {name} has lazy modules; give the sizes of all layers")
    images = torch.rand(_NUM_EXAMPLES, *input_shape, generator=Generator().manual_seed(0))
    plain = copy.deepcopy(network).train()
    buffers = {key: buffer.clone() for key, buffer in network.named_buffers()}
    foreign, attributes = _foreign_generators(), _attributes(plain)
    with torch.random.fork_rng(devices=[]):
        rng_state = torch.get_rng_state()
        num_activations = _tried(name, plain, images, num_classes)
        is_random = not torch.equal(torch.get_rng_state(), rng_state)
        torch.set_rng_state(rng_state)
        functional_call(network.train(), (buffers,), (images,))
        for key, buffer in plain.named_buffers():
            if not torch.equal(buffer, buffers[key]):
                raise InputError(f"model {name} replaces its buffer {key}; change it in place")
        rng_state = torch.get_rng_state()
        _tried(name, plain.eval(), images, num_classes)
        if not torch.equal(torch.get_rng_state(), rng_state):
            raise InputError(f"model {name} draws random numbers in evaluation too")
    if _foreign_generators() != foreign:
        raise InputError(f"model {name} draws random numbers that are not torch's")
    for key, value in _attributes(plain.train()).items():
        if attributes.get(key) != value:
            raise InputError(f"model {name} changes its attribute {key}; seeds would share it")
    return Findings(images, num_activations, is_random)


def why_not_at_once(findings: Findings, networks: Sequence[nn.Module]) -> str:
    """Why `torch.func.vmap` cannot compute these networks at once; empty if it can.

    Compared are the logits and the buffers after one pass of training with those of each alone.
    """
    if findings.is_random:
        return "each draws random numbers of its own"
    module = networks[0]
    parameters = [{k: p.detach() for k, p in network.named_parameters()} for network in networks]
    buffers = [{k: b.clone() for k, b in network.named_buffers()} for network in networks]
    stacked = {key: torch.stack([each[key] for each in parameters]) for key in parameters[0]}
    stacked_buffers = {key: torch.stack([each[key] for each in buffers]) for key in buffers[0]}
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("error")  # vmap warns where it falls back on a slow loop
            logits = vmap(lambda p, b: functional_call(module, (p, b), (findings.images,)))(
                stacked, stacked_buffers
            )
            alone = [
                functional_call(module, each, (findings.images,))
                for each in zip(parameters, buffers, strict=True)
            ]
    except Exception as error:  # whatever a module does that vmap cannot follow
        return f"torch.func.vmap: {first_line(error)}"
    expected = {key: torch.stack([each[key] for each in buffers]) for key in buffers[0]}
    # Rounding is 1e-6 or so; a rule that takes seeds for examples is off by much more.
    pairs = [(logits, torch.stack(alone)), *((stacked_buffers[k], expected[k]) for k in expected)]
    if all(torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in pairs):
        return ""
    return "torch.func.vmap gives other values"


def _tried(name: str, network: nn.Module, images: Tensor, num_classes: int) -> int:
    """Compute logits, and count the values that their graph keeps of one example."""
    own = {tensor.data_ptr() for tensor in [*network.parameters(), *network.buffers()]}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.data_ptr()] = tensor
        return tensor

    shape = " x ".join(map(str, images.shape[1:]))
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        Blaming(f"model {name} cannot take examples of shape {shape}"),
    ):
        logits = network(images)
    if not isinstance(logits, Tensor):
        raise InputError(
            f"model {name} gives a {type(logits).__name__}; expected a tensor of logits"
        )
    if logits.shape != (len(images), num_classes):
        found = " x ".join(map(str, logits.shape[1:])) or "a number"
        raise InputError(
            f"model {name} gives {found} for an example; expected {num_classes} logits"
        )
    values = sum(tensor.numel() for tensor in kept.values()) + logits.numel()
    return -(-values // len(images))


def _attributes(network: nn.Module) -> Mapping[str, str]:
    """Everything that a network's modules keep beside parameters and buffers, as text."""
    return {
        f"{prefix}.{key}".lstrip("."): re.sub(" at 0x[0-9a-f]+", "", repr(value))
        for prefix, module in network.named_modules()
        for key, value in vars(module).items()
        if key not in ("_parameters", "_buffers", "_modules")
    }


def _foreign_generators() -> bytes:
    return pickle.dumps((random.getstate(), np.random.get_state()))
