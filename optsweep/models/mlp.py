"""A stack of multilayer perceptrons, one per seed: every parameter has a leading seed axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor
from torch.nn import functional

from optsweep.config.schema import MLPConfig
from optsweep.models.initializers import default, generator_of

Initializer = Callable[[Tensor, Tensor, Generator], None]


class StackedMLP:
    """S networks of one shape, with ReLU and optional layer normalization.

    Attributes:
        weights: Per layer (S, out, in).
        biases: Per layer (S, out).
        norms: Hidden layer (0-based) to its scale and shift, both (S, out).
    """

    def __init__(
        self,
        config: MLPConfig,
        seeds: Sequence[int],
        initializer: Initializer,
        num_inputs: int,
        num_classes: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ):
        """Draw the initial weights of every seed.

        Weights are drawn on the CPU in float32 whatever the device and precision, so
        that they are the same everywhere.
        """
        self.norm_before_activation = config.layernorm_placement == "before"
        sizes = [num_inputs, *config.hidden_sizes, num_classes]
        shapes = list(zip(sizes[1:], sizes[:-1], strict=True))
        drawn = [_draw(seed, shapes, initializer) for seed in seeds]

        def stack(layers: tuple[Tensor, ...]) -> Tensor:
            return torch.stack(layers).to(device, dtype).requires_grad_()

        self.weights = [stack(layer) for layer in zip(*(w for w, _ in drawn), strict=True)]
        self.biases = [stack(layer) for layer in zip(*(b for _, b in drawn), strict=True)]
        self.norms: dict[int, tuple[Tensor, Tensor]] = {}
        for position in config.layernorm_position:
            shape = (len(seeds), sizes[position])
            scale = torch.ones(shape, device=device, dtype=dtype, requires_grad=True)
            shift = torch.zeros(shape, device=device, dtype=dtype, requires_grad=True)
            self.norms[position - 1] = (scale, shift)

    def named_parameters(self) -> list[tuple[str, Tensor]]:
        """Every parameter in the order of the forward pass."""
        named = []
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            named += [(f"linear{layer + 1}.weight", weight), (f"linear{layer + 1}.bias", bias)]
            if layer in self.norms:
                scale, shift = self.norms[layer]
                named += [(f"norm{layer + 1}.weight", scale), (f"norm{layer + 1}.bias", shift)]
        return named

    def forward(self, images: Tensor) -> Tensor:
        """Logits of a batch.

        Args:
            images: (S, B, inputs), or (B, inputs) for a batch that all seeds share.

        Returns:
            (S, B, classes).
        """
        last = len(self.weights) - 1
        x = images
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = _linear(x, weight, bias)
            if layer == last:
                return x
            if self.norm_before_activation:
                x = torch.relu(self._normalize(layer, x))
            else:
                x = self._normalize(layer, torch.relu(x))
        raise AssertionError("a network has at least its output layer")

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


def _draw(
    seed: int, shapes: Sequence[tuple[int, int]], initializer: Initializer
) -> tuple[list[Tensor], list[Tensor]]:
    """Initial weights and biases of one seed, layer by layer."""
    generator = generator_of(seed)
    weights = [torch.empty(shape, dtype=torch.float32) for shape in shapes]
    biases = [torch.empty(shape[0], dtype=torch.float32) for shape in shapes]
    layers = list(zip(weights, biases, strict=True))
    # As in a script that builds nn.Sequential first and then applies an initialiser to it.
    for weight, bias in layers:
        default(weight, bias, generator)
    if initializer is not default:
        for weight, bias in layers:
            initializer(weight, bias, generator)
    return weights, biases
