"""Plain PyTorch: images resident as one tensor, autograd and `torch.optim`, a step at a time."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from optsweep.benchmark.images import Images
from optsweep.benchmark.network import Weights, initial_weights, mean_loss
from optsweep.benchmark.peers import Outcome
from optsweep.benchmark.tasks import BETAS, EPS, MOMENTUM, Task
from optsweep.config.schema import DatasetConfig


class TimedPeer:
    """Times the usual loop; several seeds are a stack whose parameters have a leading axis."""

    def __init__(self, images: Images, dataset: DatasetConfig) -> None:
        """See `Peer`."""
        del dataset
        self.images = images
        self.pixels = torch.from_numpy(images.pixels)
        self.labels = torch.from_numpy(images.labels)

    def prepare(self, task: Task) -> float:
        """See `Peer`; nothing is compiled."""
        few = min(task.num_examples, max(task.batch_size, 100))
        self.train(dataclasses.replace(task, num_examples=few), range(task.num_seeds))
        return 0.0

    def train(self, task: Task, seeds: Sequence[int]) -> Outcome:
        """See `Peer`."""
        images = self.images.first(task.num_examples)
        inputs, classes = images.pixels.shape[1], images.num_classes
        initial = [initial_weights(seed, inputs, classes) for seed in seeds]
        torch.manual_seed(seeds[0])
        if task.num_seeds == 1:
            model = sequential(initial[0])
            optimizer = optimizer_of(task, model.parameters())
            started = time.perf_counter()
            self._epoch(task, optimizer, lambda x, y: functional.cross_entropy(model(x), y))
            seconds = time.perf_counter() - started
            weights = [weights_of(model)]
        else:
            stack = [
                tuple(
                    nn.Parameter(torch.stack([torch.tensor(part) for part in parts]))
                    for parts in zip(*layer, strict=True)
                )
                for layer in zip(*initial, strict=True)
            ]
            optimizer = optimizer_of(task, [p for layer in stack for p in layer], fused=True)
            started = time.perf_counter()
            self._epoch(task, optimizer, lambda x, y: _stack_loss(stack, x, y))
            seconds = time.perf_counter() - started
            weights = [
                [(w[i].detach().numpy(), b[i].detach().numpy()) for w, b in stack]
                for i in range(task.num_seeds)
            ]
        return Outcome(seconds, [mean_loss(each, images.pixels, images.labels) for each in weights])

    def _epoch(
        self, task: Task, optimizer: torch.optim.Optimizer, loss: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        images, labels = self.pixels[: task.num_examples], self.labels[: task.num_examples]
        orders = torch.stack([torch.randperm(len(labels)) for _ in range(task.num_seeds)])
        orders = orders.squeeze(0)  # (N,) or (S, N)
        for start in range(0, len(labels), task.batch_size):
            x, y = images, labels
            if not task.is_full_batch:
                chosen = orders[..., start : start + task.batch_size]
                x, y = images[chosen], labels[chosen]
            optimizer.zero_grad()
            loss(x, y).backward()
            optimizer.step()


def sequential(weights: Weights) -> nn.Sequential:
    """The network as PyTorch's own modules."""
    layers: list[nn.Module] = []
    for weight, bias in weights:
        linear = nn.Linear(*weight.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weight).T)
            linear.bias.copy_(torch.from_numpy(bias))
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def weights_of(model: nn.Sequential) -> Weights:
    """Its weights as arrays."""
    return [
        (layer.weight.detach().T.numpy(), layer.bias.detach().numpy())
        for layer in model
        if isinstance(layer, nn.Linear)
    ]


def optimizer_of(task: Task, parameters, **settings) -> torch.optim.Optimizer:  # type: ignore[no-untyped-def]
    """The task's optimizer of `torch.optim`."""
    if task.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=task.lr, betas=BETAS, eps=EPS, **settings)
    momentum = MOMENTUM if task.optimizer == "momentum" else 0.0
    return torch.optim.SGD(parameters, lr=task.lr, momentum=momentum, **settings)


def _stack_loss(stack: list[tuple[nn.Parameter, ...]], x: Tensor, y: Tensor) -> Tensor:
    """Summed over seeds, which share no parameter: each has the gradient of its own mean.

    Args:
        stack: Per layer weights (S, in, out) and biases (S, out).
        x: (S, B, inputs), or (B, inputs) for a batch that all seeds share.
        y: (S, B) or (B,).
    """
    num_seeds = len(stack[0][0])
    if x.ndim == 2:
        x, y = x.expand(num_seeds, -1, -1), y.expand(num_seeds, -1)
    for layer, (weight, bias) in enumerate(stack):
        x = torch.baddbmm(bias.unsqueeze(1), torch.relu(x) if layer else x, weight)
    return functional.cross_entropy(x.flatten(0, 1), y.flatten()) * num_seeds
