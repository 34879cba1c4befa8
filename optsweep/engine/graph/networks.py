"""Gradients of a stack without a look at any value: written out for perceptrons, else autograd's.

Both leave the gradient of every parameter in its `.grad` and give what is to be recorded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from optsweep.models import Stack
from optsweep.models.mlp import StackedMLP

_aten = torch.ops.aten


class Outcome(NamedTuple):
    """Of every example of a batch, both (S, B)."""

    log_likelihoods: Tensor
    hits: Tensor


class Network(Protocol):
    """A stack whose gradients a step computes."""

    def named_parameters(self) -> list[tuple[str, Tensor]]:
        """What the optimizer changes: leaf tensors (S, ...)."""
        ...

    def differentiate(self, images: Tensor, labels: Tensor) -> Outcome:
        """Give every parameter's `.grad` that of its seed's mean loss of a batch.

        Args:
            images: (S, B, *input_shape), or (B, *input_shape) for a batch that all seeds share.
            labels: (S, B) int64.
        """
        ...


def network_of(stack: Stack, num_input_axes: int) -> Network:
    """The stack as a step sees it, whose examples have so many axes."""
    if isinstance(stack, StackedMLP):
        return ExplicitMLP(stack, num_input_axes)
    return AutogradNetwork(stack, num_input_axes)


class AutogradNetwork:
    """Any stack, by autograd."""

    def __init__(self, stack: Stack, num_input_axes: int) -> None:
        """Compute with a stack as it is."""
        self._stack = stack
        self._num_input_axes = num_input_axes

    def named_parameters(self) -> list[tuple[str, Tensor]]:
        """See `Network.named_parameters`."""
        return self._stack.named_parameters()

    def differentiate(self, images: Tensor, labels: Tensor) -> Outcome:
        """See `Network.differentiate`."""
        done: list[Outcome] = []
        is_shared = images.ndim == 1 + self._num_input_axes

        def losses_of_parts() -> Iterator[Tensor]:
            for part in self._stack.parts:
                seeds = slice(part.start, part.stop)
                logits = self._stack.forward(images if is_shared else images[seeds], part)
                flat = logits.flatten(0, 1), labels[seeds].flatten()
                losses = functional.cross_entropy(*flat, reduction="none").view(logits.shape[:2])
                hits = logits.detach().argmax(-1) == labels[seeds]
                done.append(Outcome(-losses.detach(), hits))
                yield losses.mean(1).sum()

        with torch.enable_grad():
            self._stack.backward(losses_of_parts())
        if len(done) == 1:
            return done[0]
        return Outcome(*map(torch.cat, zip(*done, strict=True)))


class ExplicitMLP:
    """Multilayer perceptrons whose weights are stored (S, in, out), as products take them.

    The stack that it is made of shows them from then on, transposed; so that an evaluation, a
    checkpoint and a recorder read what is trained here.
    """

    def __init__(self, stack: StackedMLP, num_input_axes: int) -> None:
        """Take the weights of a stack over."""
        self._num_input_axes = num_input_axes

        def own(tensor: Tensor) -> nn.Parameter:
            parameter = nn.Parameter(tensor.detach().contiguous(), requires_grad=False)
            parameter.grad = torch.zeros_like(parameter)
            return parameter

        self._weights = [own(weight.transpose(1, 2)) for weight in stack.weights]
        self._biases = [own(bias) for bias in stack.biases]
        self._norms = {
            layer: (own(scale), own(shift)) for layer, (scale, shift) in stack.norms.items()
        }
        self._norm_before_activation = stack.norm_before_activation
        self._num_seeds = stack.num_seeds
        stack.weights = [weight.detach().transpose(1, 2) for weight in self._weights]
        stack.biases = [bias.detach() for bias in self._biases]
        stack.norms = {layer: (a.detach(), b.detach()) for layer, (a, b) in self._norms.items()}
        self._minus_one = torch.full((1, 1, 1), -1.0, dtype=stack.weights[0].dtype)
        self._minus_one = self._minus_one.to(stack.weights[0].device)

    def named_parameters(self) -> list[tuple[str, Tensor]]:
        """See `Network.named_parameters`; in the order and by the names of the stack."""
        named: list[tuple[str, Tensor]] = []
        for layer, (weight, bias) in enumerate(zip(self._weights, self._biases, strict=True)):
            named += [(f"linear{layer + 1}.weight", weight), (f"linear{layer + 1}.bias", bias)]
            for name, vector in zip(("weight", "bias"), self._norms.get(layer, ()), strict=False):
                named.append((f"norm{layer + 1}.{name}", vector))
        return named

    @torch.no_grad()
    def differentiate(self, images: Tensor, labels: Tensor) -> Outcome:
        """See `Network.differentiate`.

        With p the softmax of an example's logits and y its one-hot label, the gradient of its
        loss by the logits is p - y. It is carried down unscaled; that of a parameter is the mean
        over the batch.
        """
        x = images.flatten(-self._num_input_axes)
        x = x.expand(self._num_seeds, *x.shape[-2:])  # (S, B, inputs); one batch is not copied
        last = len(self._weights) - 1
        layers: list[_Layer] = []
        for layer in range(last):
            layers.append(self._layer(layer, x))
            x = layers[-1].output
        logits = torch.baddbmm(self._biases[last].unsqueeze(1), x, self._weights[last])
        log_p, column = torch.log_softmax(logits, -1), labels.unsqueeze(-1)
        outcome = Outcome(log_p.gather(-1, column).squeeze(-1), logits.argmax(-1) == labels)
        delta = log_p.exp().scatter_add_(-1, column, self._minus_one.expand(column.shape))
        for layer in range(last, 0, -1):
            below = layers[layer - 1]
            self._set_linear(layer, below.output, delta)
            delta = torch.bmm(delta, self._weights[layer].transpose(1, 2))
            delta = self._through(layer - 1, below, delta)
        self._set_linear(0, layers[0].input if layers else x, delta)
        return outcome

    def _layer(self, layer: int, x: Tensor) -> _Layer:
        """Compute a hidden layer of its input (S, B, in)."""
        z = torch.baddbmm(self._biases[layer].unsqueeze(1), x, self._weights[layer])
        if layer not in self._norms:
            z = z.relu_()
            return _Layer(x, z, z)
        scale, shift = (vector.unsqueeze(1) for vector in self._norms[layer])
        z = z if self._norm_before_activation else z.relu_()
        normal = torch.native_layer_norm(z, z.shape[-1:], None, None, 1e-5)
        output = torch.addcmul(shift, normal[0], scale)
        if self._norm_before_activation:
            output = output.relu_()
            return _Layer(x, output, output, z, *normal)
        return _Layer(x, z, output, z, *normal)

    def _through(self, layer: int, of: _Layer, delta: Tensor) -> Tensor:
        """The gradient by a hidden layer's product, of that by its output."""
        if of.normal is None or of.normalized is None:
            return _aten.threshold_backward(delta, of.activation, 0)
        if self._norm_before_activation:
            delta = _aten.threshold_backward(delta, of.activation, 0)
        scale, shift = self._norms[layer]
        _mean(delta * of.normal, scale)
        _mean(delta, shift)
        delta, _, _ = _aten.native_layer_norm_backward(
            *(delta * scale.unsqueeze(1), of.normalized, of.normalized.shape[-1:]),
            *(of.mean, of.rstd, None, None, [True, False, False]),
        )
        if not self._norm_before_activation:
            delta = _aten.threshold_backward(delta, of.activation, 0)
        return delta

    def _set_linear(self, layer: int, x: Tensor, delta: Tensor) -> None:
        """Set the gradients of a layer's weight and bias, of its input and that by its product."""
        gradient = self._weights[layer].grad
        assert gradient is not None
        gradient.baddbmm_(x.transpose(1, 2), delta, beta=0, alpha=1 / delta.shape[1])
        _mean(delta, self._biases[layer])


class _Layer(NamedTuple):
    """What a hidden layer's gradient is computed from, all (S, B, units) but the input.

    Attributes:
        input: (S, B, in).
        activation: What ReLU has given, of which the zeros pass no gradient on.
        output: Input of the next layer.
        normalized: What layer normalization was given, if there is one.
        normal: The same, normalized.
        mean: (S, B, 1), what was taken away.
        rstd: (S, B, 1), what was multiplied with.
    """

    input: Tensor
    activation: Tensor
    output: Tensor
    normalized: Tensor | None = None
    normal: Tensor | None = None
    mean: Tensor | None = None
    rstd: Tensor | None = None


def _mean(of_examples: Tensor, parameter: Tensor) -> None:
    """Make the mean over a batch the gradient of a parameter (S, units)."""
    torch.mean(of_examples, 1, out=parameter.grad)
