"""Any network as a stack of seeds: every parameter and buffer has a leading seed axis."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call, vmap

from optsweep.config.checks import Blaming, InputError
from optsweep.config.schema import MLPConfig, ModuleConfig
from optsweep.models.constructor import constructor, name_of
from optsweep.models.gradients import Estimate, backward
from optsweep.models.mlp import StackedMLP
from optsweep.models.probe import probe, why_not_at_once
from optsweep.models.seeding import Beginning, Initializer, begin


class Stack(Protocol):
    """S networks of one shape that share nothing, as optimizers, engines and recorder see them.

    Attributes:
        num_seeds: S.
        num_activations: Values that a pass keeps of one example of one seed for its gradients.
        note: How the seeds are computed if not all at once, and why; else empty.
        rng_states: Of each seed, from where it draws on: where its initial weights left it.
        parts: The seeds, by the place in the stack, in parts that are computed at once.
    """

    num_seeds: int
    num_activations: int
    note: str
    rng_states: list[Tensor]
    parts: list[range]

    def named_parameters(self) -> list[tuple[str, Tensor]]:
        """Every parameter in the order of the modules: leaf tensors (S, *own axes)."""
        ...

    def named_buffers(self) -> list[tuple[str, Tensor]]:
        """Every buffer, such as running statistics: tensors (S, *own axes)."""
        ...

    def train(self, mode: bool) -> None:
        """Compute as in training (True: a batch normalises itself, dropout drops) or not."""
        ...

    def forward(self, images: Tensor, part: range | None = None) -> Tensor:
        """Logits (S, B, classes) of images (S, B, *input_shape), or (B, *input_shape) for all.

        Args:
            images: See above; S is the number of seeds in `part`.
            part: One of `parts`; None for all seeds.
        """
        ...

    def backward(
        self, losses: Iterable[Tensor], estimates: Sequence[Estimate] = ()
    ) -> Mapping[Tensor, Tensor]:
        """Give every parameter's `.grad` its gradient of a sum of losses; None where it has none.

        Args:
            losses: May be made one by one, so that only one of them holds memory at a time.
            estimates: Of second derivatives. With any, there is one loss for each of `parts`.

        Returns:
            The estimates (S, *own axes) of the parameters that they are wanted of.
        """
        ...

    def twin(self) -> Stack:
        """The same parameters in the same memory, as leaves of their own that autograd knows.

        An engine's may not be, and their `.grad` belongs to the training. What a twin computes
        leaves no trace in the stack.
        """
        ...


def build_stack(
    model: MLPConfig | ModuleConfig,
    initializer: Initializer,
    seeds: Sequence[int],
    input_shape: Sequence[int],
    num_classes: int,
    device: torch.device,
    dtype: torch.dtype,
) -> Stack:
    """Build the networks of all seeds, each with the weights that it begins with.

    Args:
        model: The network and its settings.
        initializer: See `begin`.
        seeds: The S seeds.
        input_shape: Of one example, such as (1, 28, 28).
        num_classes: Number of logits of an example.
        device: Where the stack is kept.
        dtype: Its precision.

    Raises:
        InputError: If the network cannot be built, does not give a row of logits for each
            example, or keeps in attributes what differs between seeds.
    """
    if isinstance(model, MLPConfig):
        return StackedMLP(model, seeds, initializer, input_shape, num_classes, device, dtype)
    build = constructor(model, input_shape, num_classes)
    beginnings = [begin(build, initializer, seed) for seed in seeds]
    return StackedModule(name_of(model), seeds, beginnings, input_shape, num_classes, device, dtype)


class StackedModule:
    """S networks of a module's kind.

    Where the module allows it, all seeds are computed at once by `torch.func.vmap`. Else, or
    where that is slower, seed by seed: each seed has a module of its own, whose parameters are
    views of the stack, and after the backward pass the gradients of all seeds are put into one
    tensor, for one step of one optimizer. Buffers are stacked as parameters are, so that each
    seed has its own running statistics; and a module that draws random numbers, as dropout does,
    draws those of each seed from a state of the seed's own, which goes on from where the initial
    weights left it. So a seed comes out as it does in a plain loop of this seed alone.
    """

    def __init__(
        self,
        name: str,
        seeds: Sequence[int],
        beginnings: Sequence[Beginning],
        input_shape: Sequence[int],
        num_classes: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        """Stack the networks in `beginnings`, one for each seed; see `build_stack`."""
        networks = [network for network, _ in beginnings]
        findings = probe(name, networks[0], input_shape, num_classes)
        self._blaming = Blaming(f"model {name}")
        self.num_seeds = len(networks)
        self.num_activations = findings.num_activations
        why_not = ""
        if self.num_seeds > 1:
            why_not = _why_slower(networks[0], device) or why_not_at_once(findings, networks[:2])
        self.note = f"seed by seed: {why_not}" if why_not else ""
        self._at_once = self.num_seeds > 1 and not why_not
        size = self.num_seeds if self._at_once else 1
        self.parts = [range(first, first + size) for first in range(0, self.num_seeds, size)]
        self._num_input_axes = len(input_shape)

        def stack(of_seeds: tuple[tuple[str, Tensor], ...]) -> Tensor:
            stacked = torch.stack([tensor.detach() for _, tensor in of_seeds]).to(device)
            stacked = stacked.to(dtype) if stacked.is_floating_point() else stacked
            return stacked.requires_grad_(of_seeds[0][1].requires_grad)

        parameters = zip(*(network.named_parameters() for network in networks), strict=True)
        self._parameters = {of_seeds[0][0]: stack(of_seeds) for of_seeds in parameters}
        buffers = zip(*(network.named_buffers() for network in networks), strict=True)
        self._buffers = {of_seeds[0][0]: stack(of_seeds) for of_seeds in buffers}
        self._device = device
        self._generator = _generator_of(device, name) if findings.is_random else None
        self.rng_states = (
            [state for _, state in beginnings]
            if device.type == "cpu"
            else [Generator(device).manual_seed(seed).get_state() for seed in seeds]
        )
        # Each stacked parameter, and those of the seeds' own modules that are views of it.
        self._members: list[tuple[Tensor, list[Tensor]]] = [
            (parameter, []) for parameter in self._parameters.values()
        ]
        if self._at_once:
            # It lends its code alone; on this device without memory nothing of it is used unseen.
            self._networks = [networks[0].to("meta")]
        else:
            self._networks = networks
            self._bind()
        self.train(True)

    def named_parameters(self) -> list[tuple[str, Tensor]]:
        """See `Stack.named_parameters`."""
        return list(self._parameters.items())

    def named_buffers(self) -> list[tuple[str, Tensor]]:
        """See `Stack.named_buffers`."""
        return list(self._buffers.items())

    def train(self, mode: bool) -> None:
        """See `Stack.train`."""
        for network in self._networks:
            network.train(mode)

    def backward(
        self, losses: Iterable[Tensor], estimates: Sequence[Estimate] = ()
    ) -> Mapping[Tensor, Tensor]:
        """See `Stack.backward`."""
        for parameter, of_seeds in self._members:
            parameter.grad = None
            for member in of_seeds:
                member.grad = None
        found = []
        for place, loss in enumerate(losses):
            with self._drawing(self.parts[place] if estimates else range(0)) as generators:
                found.append(backward(loss, self._leaves(place), estimates, generators))
        self._gather_gradients()
        return _gathered(found, self._at_once)

    def _leaves(self, place: int) -> dict[Tensor, Tensor]:
        """Each stacked parameter, and what a part is computed with: itself or a seed's own."""
        return {
            parameter: of_seeds[place] if of_seeds else parameter
            for parameter, of_seeds in self._members
        }

    @contextmanager
    def _drawing(self, part: range) -> Iterator[list[Generator]]:
        """Generators of some seeds, each of which draws on from where the seed has come to."""
        generators = [Generator(self._device) for _ in part]
        for index, generator in zip(part, generators, strict=True):
            generator.set_state(self.rng_states[index])
        yield generators
        for index, generator in zip(part, generators, strict=True):
            self.rng_states[index] = generator.get_state()

    def _gather_gradients(self) -> None:
        """Give stacked parameters the gradients of the seeds' own."""
        for parameter, of_seeds in self._members:
            gradients = [member.grad for member in of_seeds]
            found = [gradient for gradient in gradients if gradient is not None]
            if len(found) == self.num_seeds == 1:
                parameter.grad = found[0].unsqueeze(0)  # nothing is copied
            elif found:
                zeros = torch.zeros_like(found[0])
                parameter.grad = torch.stack([zeros if g is None else g for g in gradients])

    def twin(self) -> StackedModule:
        """See `Stack.twin`."""
        twin = copy.copy(self)
        twin._parameters = {
            key: value.detach().requires_grad_(value.requires_grad)
            for key, value in self._parameters.items()
        }
        twin._buffers = {key: value.clone() for key, value in self._buffers.items()}
        twin.rng_states = copy.copy(self.rng_states)
        twin._networks = copy.deepcopy(self._networks)
        twin._members = [(parameter, []) for parameter in twin._parameters.values()]
        if not self._at_once:
            twin._bind()
        return twin

    def forward(self, images: Tensor, part: range | None = None) -> Tensor:
        """See `Stack.forward`."""
        shared = images.ndim == 1 + self._num_input_axes
        if self._at_once:
            of_seeds = vmap(self._call, in_dims=(0, 0, None if shared else 0))
            with self._blaming:
                return of_seeds(self._parameters, self._buffers, images)
        logits = []
        for place, index in enumerate(part or range(self.num_seeds)):
            with self._own_randomness(index), self._blaming:
                logits.append(self._networks[index](images if shared else images[place]))
        return torch.stack(logits)

    def _call(
        self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], images: Tensor
    ) -> Tensor:
        return functional_call(self._networks[0], (parameters, buffers), (images,))

    def _bind(self) -> None:
        """Make views of the stack the parameters and buffers of the seeds' own modules.

        To call a module with tensors by `functional_call` takes lenet 4 % of a step.
        """
        members: dict[str, list[Tensor]] = {key: [] for key in self._parameters}
        for index, network in enumerate(self._networks):
            views: dict[int, Tensor] = {}  # by what it takes the place of, which may be tied
            for key, tensor in network.named_parameters():
                view = self._parameters[key].detach()[index]
                views[id(tensor)] = nn.Parameter(view, requires_grad=tensor.requires_grad)
                members[key].append(views[id(tensor)])
            views |= {id(old): self._buffers[key][index] for key, old in network.named_buffers()}
            for module in network.modules():
                own = {**module._parameters, **module._buffers}
                for key, old in own.items():
                    if old is not None:
                        setattr(module, key, views[id(old)])
        self._members = [(self._parameters[key], of_seeds) for key, of_seeds in members.items()]

    @contextmanager
    def _own_randomness(self, index: int) -> Iterator[None]:
        """Let one seed go on with its own random numbers, and the caller then with his."""
        if self._generator is None or not self._networks[0].training:
            yield
            return
        callers = self._generator.get_state()
        self._generator.set_state(self.rng_states[index])
        yield
        self.rng_states[index] = self._generator.get_state()
        self._generator.set_state(callers)


def _gathered(parts: Sequence[dict[Tensor, Tensor]], at_once: bool) -> dict[Tensor, Tensor]:
    """Estimates of stacked parameters from those of the parts; 0 where a seed has none."""
    if at_once:
        return parts[0]
    return {
        parameter: torch.stack(
            [part.get(parameter, torch.zeros_like(parameter[0])) for part in parts]
        )
        for parameter in dict.fromkeys(key for part in parts for key in part)
    }


def _why_slower(network: nn.Module, device: torch.device) -> str:
    """Why seeds at once would be slower than one after the other; empty if they are not.

    Of convolutions vmap makes grouped ones, which the CPU's library does poorly: lenet with ten
    seeds at b = 256 takes 47 ms a step and seed at once, 23 seed by seed (one core of an EPYC).
    """
    if device.type == "cpu" and any(weight.ndim > 2 for weight in network.parameters()):
        return "convolutions of several seeds at once are slower on the CPU"
    return ""


def _generator_of(device: torch.device, name: str) -> Generator:
    """The generator that modules on a device draw from."""
    if device.type == "cpu":
        return torch.default_generator
    if device.type == "cuda":
        return torch.cuda.default_generators[device.index or 0]
    raise InputError(
        f"model {name} draws random numbers, which are kept apart for each seed on cpu and cuda "
        f"alone; trainer.device={device}"
    )
