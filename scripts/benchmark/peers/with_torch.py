"""PyTorch: the usual loop, and the same around a compiled step, subnormal numbers flushed."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmark.peers import Outcome, Train
from benchmark.tasks import Start, Task, examples, updated

Layers = Sequence[Sequence[Tensor]]  # weight and bias of each
# (images, labels, chosen ones or None): a step of all seeds, in place
Step = Callable[[Tensor, Tensor, Any], None]


def eager(task: Task, settings: tuple[str, ...], _: Sequence[Start]) -> Train:
    """Autograd, and an optimizer of `torch.optim` in its fused form."""

    def begin(layers: Layers) -> Step:
        parameters = [part.requires_grad_() for part in chain(*layers)]
        kind: Any = torch.optim.SGD if task.optimizer == "sgd" else torch.optim.Adam
        optimizer = kind(parameters, lr=task.lr, fused=True)

        def step(images: Tensor, labels: Tensor, chosen: Any) -> None:
            x, y = (images, labels) if chosen is None else (images[chosen], labels[chosen])
            optimizer.zero_grad()
            _loss(layers, x, y).backward()
            optimizer.step()

        return step

    return _loop(task, settings, begin)


def compiled(task: Task, settings: tuple[str, ...], starts: Sequence[Start]) -> Train:
    """All images are an argument of the step: a shorter epoch would compile another."""
    torch.compiler.reset()

    def step(layers, moments, count, images, labels, chosen):
        x, y = (images, labels) if chosen is None else (images[chosen], labels[chosen])
        count += 1
        gradients = torch.func.grad(_loss)(layers, x, y)
        for w, g, m, v in zip(chain(*layers), chain(*gradients), *moments, strict=True):
            for old, new in zip((w, m, v), updated(task, w, g, m, v, count), strict=True):
                if new is not old:
                    old.copy_(new)

    run = torch.compile(step, fullgraph=True, dynamic=False)

    def begin(layers: Layers) -> Step:
        moments = [[*map(torch.zeros_like, chain(*layers))] for _ in range(2)]
        return functools.partial(run, layers, moments, torch.zeros(()))

    train = _loop(task, settings, begin)
    train(starts)  # compiles
    return train


def _loop(task: Task, settings: tuple[str, ...], begin: Callable[[Layers], Step]) -> Train:
    """Several networks are a stack, whose parameters have a leading axis."""
    torch.set_flush_denormal(True)  # threads, started later, inherit it; XLA does it by itself
    images, labels = map(torch.from_numpy, examples(task, settings))

    def train(starts: Sequence[Start]) -> Outcome:
        torch.manual_seed(starts[0][0])
        networks: list[Layers] = [
            [[*map(torch.tensor, layer)] for layer in weights] for _, weights in starts
        ]
        layers = networks[0]
        if len(starts) > 1:
            pairs = [zip(*same, strict=True) for same in zip(*networks, strict=True)]
            layers = [(torch.stack(w), torch.stack(b).unsqueeze(1)) for w, b in pairs]
        step = begin(layers)
        started = time.perf_counter()
        orders = torch.stack([torch.randperm(len(labels)) for _ in starts]).squeeze(0)
        for start in range(0, len(labels), task.batch_size):
            chosen = None if task.is_full_batch else orders[..., start : start + task.batch_size]
            step(images, labels, chosen)
        seconds = time.perf_counter() - started
        if len(starts) > 1:
            networks = [[(w[i], b[i, 0]) for w, b in layers] for i in range(len(starts))]
        with torch.no_grad():
            return Outcome(seconds, [_loss(each, images, labels).item() for each in networks])

    return train


def _loss(layers: Layers, x: Tensor, y: Tensor) -> Tensor:
    """Mean cross entropy of x (B, 784); of a stack, x (S, B, 784) or (B, 784), the seeds' sum.

    Seeds share no parameter: each has the gradient of its own mean.
    """
    for index, (weight, bias) in enumerate(layers):
        if weight.dim() == 4:
            x = x if index else x.view(-1, 1, 28, 28)
            x = functional.conv2d(x, weight, bias, padding=0 if index else 2)
            x = functional.max_pool2d(x.relu(), 2)
            continue
        if weight.dim() == 3:
            x = bias.baddbmm(x.expand(len(weight), *x.shape[-2:]), weight)
        else:
            x = bias.addmm(x.flatten(1), weight)
        x = x.relu() if index + 1 < len(layers) else x
    y = y.expand(x.shape[:-1])
    return functional.cross_entropy(x.flatten(0, -2), y.flatten(), reduction="sum") / y.shape[-1]
