"""Multilayer perceptrons: of one seed as a module, and of all seeds as a stack."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from optsweep.config.schema import MLPConfig
from optsweep.models.gradients import Estimate, backward
from optsweep.models.seeding import Initializer, begin


class MLP(nn.Module):
    """Linear layers with ReLU and, of the hidden ones, layer normalization and dropout.

    Its parameters are called `linear1.weight`, `linear1.bias`, `norm1.weight` and so on.
    """

    def __init__(
        self,
        num_inputs: int,
        num_classes: int,
        hidden_sizes: Sequence[int] = MLPConfig.hidden_sizes,
        layernorm_position: Sequence[int] = (),
        layernorm_placement: str = "after",
        dropout: float = 0.0,
    ) -> None:
        """Build the layers; `layernorm_position` counts hidden layers from 1."""
        super().__init__()
        self.dropout = dropout
        self.num_hidden = len(hidden_sizes)
        self.norm_before_activation = layernorm_placement == "before"
        sizes = [num_inputs, *hidden_sizes, num_classes]
        for layer in range(1, len(sizes)):
            self.add_module(f"linear{layer}", nn.Linear(sizes[layer - 1], sizes[layer]))
            if layer in layernorm_position:
                self.add_module(f"norm{layer}", nn.LayerNorm(sizes[layer]))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, *any shape), which are flattened."""
        x = images.flatten(1)
        for layer in range(1, self.num_hidden + 1):
            x = self.get_submodule(f"linear{layer}")(x)
            norm = getattr(self, f"norm{layer}", nn.Identity())
            x = torch.relu(norm(x)) if self.norm_before_activation else norm(torch.relu(x))
            x = functional.dropout(x, self.dropout, self.training)
        return self.get_submodule(f"linear{self.num_hidden + 1}")(x)


class StackedMLP:
    """S networks of one shape: what `MLP` computes, for all seeds at once.

    Attributes:
        weights: Per layer (S, out, in).
        biases: Per layer (S, out).
        norms: Hidden layer (0-based) to its scale and shift, both (S, out).
        num_seeds: S.
        num_activations: Values that a pass keeps of one example of one seed.
        note: Empty, see `Stack`.
        parts: One of all seeds, see `Stack`.
    """

    note = ""

    def __init__(
        self,
        config: MLPConfig,
        seeds: Sequence[int],
        initializer: Initializer,
        input_shape: int | Sequence[int],
        num_classes: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ):
        """Draw the initial weights of every seed.

        Args:
            config: Widths, layer normalization and dropout.
            seeds: The S seeds; see `begin`.
            initializer: Of each layer's weight and bias.
            input_shape: Of one example, which is flattened; a number for a vector.
            num_classes: Number of outputs.
            device: Where the stack is kept.
            dtype: Its precision.
        """
        self.norm_before_activation = config.layernorm_placement == "before"
        self.num_seeds = len(seeds)
        self.parts = [range(self.num_seeds)]
        kept_twice = 2 if config.dropout else 1  # the units, and what is left of them
        self.num_activations = kept_twice * sum(config.hidden_sizes) + num_classes
        shape = (input_shape,) if isinstance(input_shape, int) else tuple(input_shape)
        self._num_input_axes = len(shape)

        def build() -> MLP:
            return MLP(
                math.prod(shape),
                num_classes,
                config.hidden_sizes,
                config.layernorm_position,
                config.layernorm_placement,
                config.dropout,
            )

        beginnings = [begin(build, initializer, seed) for seed in seeds]
        states = [network.state_dict() for network, _ in beginnings]
        self._training = True
        self._dropout = config.dropout
        self._generators = [Generator(device).manual_seed(seed) for seed in seeds]
        if device.type == "cpu":
            self.rng_states = [state for _, state in beginnings]

        def stack(name: str) -> Tensor:
            drawn = torch.stack([state[name] for state in states])
            return drawn.to(device, dtype).requires_grad_()

        layers = range(1, len(config.hidden_sizes) + 2)
        self.weights = [stack(f"linear{layer}.weight") for layer in layers]
        self.biases = [stack(f"linear{layer}.bias") for layer in layers]
        self.norms = {
            position - 1: (stack(f"norm{position}.weight"), stack(f"norm{position}.bias"))
            for position in config.layernorm_position
        }

    @property
    def rng_states(self) -> list[Tensor]:
        """See `Stack.rng_states`; here, what the masks of dropout are drawn from."""
        return [generator.get_state() for generator in self._generators]

    @rng_states.setter
    def rng_states(self, states: list[Tensor]) -> None:
        for generator, state in zip(self._generators, states, strict=True):
            generator.set_state(state)

    def named_parameters(self) -> list[tuple[str, Tensor]]:
        """Every parameter in the order of the forward pass."""
        named = []
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            named += [(f"linear{layer + 1}.weight", weight), (f"linear{layer + 1}.bias", bias)]
            if layer in self.norms:
                scale, shift = self.norms[layer]
                named += [(f"norm{layer + 1}.weight", scale), (f"norm{layer + 1}.bias", shift)]
        return named

    def named_buffers(self) -> list[tuple[str, Tensor]]:
        """There are none."""
        return []

    def train(self, mode: bool) -> None:
        """See `Stack.train`."""
        self._training = mode

    def backward(
        self, losses: Iterable[Tensor], estimates: Sequence[Estimate] = ()
    ) -> Mapping[Tensor, Tensor]:
        """See `Stack.backward`."""
        parameters = [parameter for _, parameter in self.named_parameters()]
        members = dict(zip(parameters, parameters, strict=True))
        diagonals: dict[Tensor, Tensor] = {}
        for parameter in parameters:
            parameter.grad = None
        for loss in losses:
            diagonals |= backward(loss, members, estimates, self._generators)
        return diagonals

    def twin(self) -> StackedMLP:
        """See `Stack.twin`."""

        def leaf(tensor: Tensor) -> Tensor:
            return tensor.detach().requires_grad_()

        twin = copy.copy(self)
        twin._generators = [Generator(each.device) for each in self._generators]
        twin.rng_states = self.rng_states
        twin.weights = [leaf(weight) for weight in self.weights]
        twin.biases = [leaf(bias) for bias in self.biases]
        twin.norms = {layer: (leaf(a), leaf(b)) for layer, (a, b) in self.norms.items()}
        return twin

    def forward(self, images: Tensor, part: range | None = None) -> Tensor:
        """Logits of a batch.

        Args:
            images: (S, B, *input_shape), or (B, *input_shape) for a batch that all seeds share.
            part: All seeds are one part.

        Returns:
            (S, B, classes).
        """
        del part
        last = len(self.weights) - 1
        x = images.flatten(-self._num_input_axes)  # a view: (S, B, inputs) or (B, inputs)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = _linear(x, weight, bias)
            if layer == last:
                return x
            if self.norm_before_activation:
                x = torch.relu(self._normalize(layer, x))
            else:
                x = self._normalize(layer, torch.relu(x))
            if self._training and self._dropout:
                x = x * self._mask(x)
        raise AssertionError("a network has at least its output layer")

    def _mask(self, x: Tensor) -> Tensor:
        """Which values of x (S, B, units) are kept, scaled to keep their mean.

        Each seed draws from a generator of its own, as `torch.nn.Dropout` does on a CPU, which
        goes on from where the initial weights left it.
        """
        kept = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        for of_seed, generator in zip(kept, self._generators, strict=True):
            of_seed.bernoulli_(1 - self._dropout, generator=generator)
        return kept.div_(1 - self._dropout)

    def _normalize(self, layer: int, x: Tensor) -> Tensor:
        if layer not in self.norms:
            return x
        scale, shift = self.norms[layer]
        normalized = functional.layer_norm(x, x.shape[-1:])
        return torch.addcmul(shift.unsqueeze(1), normalized, scale.unsqueeze(1))


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if x.ndim == 2:  # one batch for all seeds: a single product instead of S small ones
        num_seeds, num_outputs, num_inputs = weight.shape
        product = x @ weight.reshape(-1, num_inputs).T  # (B, S * out)
        return product.view(-1, num_seeds, num_outputs).transpose(0, 1) + bias.unsqueeze(1)
    return torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))
