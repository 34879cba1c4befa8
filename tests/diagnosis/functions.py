"""Functions of which it is known why gradient descent is slow on them; random instances of each.

Every one is the mean of the losses of some examples, in float64 and few dimensions, and its value
is 1 or so, as a cross entropy's is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from optsweep.diagnosis.examination import Settings, examine
from optsweep.diagnosis.forks import training_gradient
from optsweep.diagnosis.subject import Shapes
from optsweep.diagnosis.verdicts import (
    EDGE,
    GRADIENT_FLAT,
    INCONCLUSIVE,
    MINIMUM,
    NO_SIGNAL,
    NOISE,
    NOT_SLOW,
    RATE_TOO_LARGE,
    RATE_TOO_SMALL,
    SADDLE,
    judge,
)
from optsweep.diagnosis.walker import Method, Walker

DIMENSIONS = 6
_SETTLING = 100  # steps, of which thirty at the smallest rate and curvature forget where they began
QUICK = Settings(examples=None, lanczos_steps=20, batches=4, steps=50, epoch=False)


@dataclass
class Function:
    """A `Subject`: losses of the examples at a point."""

    function: Callable[[Tensor, Tensor], Tensor]  # (P,), (B,) -> (B,)
    dimensions: int
    num_examples: int = 1
    rows: int = 10_000_000
    constant_inputs: float = 0.0

    @property
    def shapes(self) -> Shapes:
        return [("w", torch.Size([self.dimensions]))]

    def losses(self, point, examples, training=False):
        return self.function(point, examples)

    def fork(self):
        return self


def sgd(lr: float, batch_size: int = 1, momentum: float = 0.0, state=None) -> Method:
    """Gradient descent without what is probed of any optimizer, which takes its time."""

    def build(named):
        tensors = [tensor for _, tensor in named]
        return torch.optim.SGD(tensors, lr=lr, momentum=momentum, foreach=False)

    return Method(build, torch.optim.SGD, lr, batch_size, {"momentum": momentum}, state)


def whole(value: Callable[[Tensor], Tensor], dimensions: int = DIMENSIONS) -> Function:
    """A function without noise."""
    return Function(lambda w, e: value(w).expand(len(e)), dimensions)


@dataclass
class Instance:
    subject: Function
    point: Tensor
    method: Method

    def examine(self, seed: int = 0, settings: Settings = QUICK):
        return examine(self.subject, self.point, self.method, settings, seed)

    def verdict(self, seed: int = 0):
        return judge(self.examine(seed).readings)


class Draw:
    """Random numbers of one instance."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand(1, generator=self.generator))

    def log(self, low: float, high: float) -> float:
        return math.exp(self.uniform(math.log(low), math.log(high)))

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def rotation(self, size: int = DIMENSIONS) -> Tensor:
        return torch.linalg.qr(self.normal(size, size))[0]

    def unit(self, size: int = DIMENSIONS) -> Tensor:
        vector = self.normal(size)
        return vector / vector.norm()


def bowl(draw: Draw, condition: float, offset: float) -> tuple[Function, Tensor, float]:
    """A quadratic, a start where it is `offset` + 1, and its largest curvature."""
    turn, sharpest = draw.rotation(), draw.log(0.3, 30)
    curvatures = torch.logspace(0, -math.log10(condition), DIMENSIONS, dtype=torch.float64)
    matrix = turn @ torch.diag(sharpest * curvatures) @ turn.T
    start = turn @ (draw.unit() / (sharpest * curvatures).sqrt()) * math.sqrt(2)
    return whole(lambda w: offset + 0.5 * w @ matrix @ w), start, sharpest


def bowl_too_small(draw: Draw) -> Instance:
    function, start, sharpest = bowl(draw, draw.log(1.5, 10), draw.uniform(0, 0.3))
    return Instance(function, start, sgd(draw.log(3e-4, 1e-2) / sharpest))


def bowl_right(draw: Draw) -> Instance:
    function, start, sharpest = bowl(draw, draw.log(1.5, 10), draw.uniform(0, 0.3))
    return Instance(function, start, sgd(draw.uniform(0.7, 1.2) / sharpest))


def bowl_too_large(draw: Draw) -> Instance:
    """Steps grow a hundredfold in a fork of 50, or more: at 2, none would see it."""
    function, start, sharpest = bowl(draw, draw.log(1.5, 10), draw.uniform(0, 0.3))
    return Instance(function, start, sgd(draw.uniform(2.1, 3) / sharpest))


def bowl_momentum_too_large(draw: Draw) -> Instance:
    """Unstable with momentum from 2 (1 + b) / lr, which is more than without."""
    function, start, sharpest = bowl(draw, draw.log(1.5, 10), draw.uniform(0, 0.3))
    return Instance(function, start, sgd(draw.uniform(3.9, 5) / sharpest, momentum=0.9))


def ill_conditioned(draw: Draw) -> Instance:
    """At the edge of its sharpest direction, with what is left of the loss in the flattest."""
    turn, sharpest = draw.rotation(), draw.log(0.3, 30)
    condition = draw.log(1e4, 1e5)
    curvatures = torch.full((DIMENSIONS,), sharpest, dtype=torch.float64)
    curvatures[1:] = sharpest / condition * torch.tensor([1.0, 1.5, 2, 3, 4], dtype=torch.float64)
    matrix = turn @ torch.diag(curvatures) @ turn.T
    shares = draw.unit().abs()
    shares[0] = draw.uniform(0.02, 0.1)  # small, and swinging
    start = turn @ (shares / curvatures.sqrt()) * math.sqrt(2)
    rate = draw.uniform(1.85, 1.99) / sharpest
    return Instance(whole(lambda w: 0.05 + 0.5 * w @ matrix @ w), start, sgd(rate))


def noisy_bowl(draw: Draw) -> Instance:
    """A stable rate that has settled, and the batches keep the loss where it is."""
    turn, sharpest = draw.rotation(), draw.log(0.3, 30)
    curvatures = sharpest * torch.linspace(1, 0.5, DIMENSIONS, dtype=torch.float64)
    matrix = turn @ torch.diag(curvatures) @ turn.T
    num_examples, rate = 256, draw.uniform(0.3, 0.8) / sharpest
    shifts = draw.normal(num_examples, DIMENSIONS)
    shifts -= shifts.mean(0)
    batch_size = int(draw.uniform(1, 4.99))
    # Where it hovers: the variance of a point is rate * curvature * that of a batch, roughly.
    hover = (rate * sharpest / 2 / batch_size) ** 0.5
    level = float(0.5 * curvatures.sum()) * hover**2  # of the loss there, to be 1

    def losses(w: Tensor, examples: Tensor) -> Tensor:
        moved = w - shifts[examples]
        own = 0.5 * ((moved @ matrix) * moved).sum(1)
        return (own - 0.5 * ((shifts[examples] @ matrix) * shifts[examples]).sum(1)) / level + 0.1

    subject, method = Function(losses, DIMENSIONS, num_examples), sgd(rate * level, batch_size)
    walker = Walker(method, hover * draw.normal(DIMENSIONS), subject.shapes)
    for _ in range(_SETTLING):
        drawn = torch.randint(num_examples, (batch_size,), generator=draw.generator)
        walker.step(training_gradient(subject, walker.point, drawn))
    return Instance(subject, walker.point, method)


def strict_saddle(draw: Draw) -> Instance:
    """One to three directions lead down, to where a quartic ends them."""
    turn, count = draw.rotation(), int(draw.uniform(1, 3.99))
    curvatures = torch.linspace(1, 0.3, DIMENSIONS, dtype=torch.float64)
    curvatures[-count:] = -torch.linspace(0.2, 0.5, count, dtype=torch.float64)
    scale = draw.log(0.3, 30)

    def value(w: Tensor) -> Tensor:
        x = turn.T @ w * scale**0.5
        down = torch.minimum(curvatures, torch.zeros_like(curvatures))
        return 1 + 0.5 * (curvatures * x**2).sum() + 0.25 * (down.abs() * x**4).sum()

    start = draw.log(1e-8, 1e-4) * draw.unit()
    return Instance(whole(value), start, sgd(draw.uniform(0.05, 0.3) / scale))


def monkey_saddle(draw: Draw) -> Instance:
    """x^3 - 3 x y^2 and a quartic wall: neither slope nor curvature at its middle."""
    turn = draw.rotation(2)

    def value(w: Tensor) -> Tensor:
        x, y = turn @ w
        return 1 + 0.3 * (x**3 - 3 * x * y**2) + 0.15 * (x**2 + y**2) ** 2

    return Instance(whole(value, 2), draw.log(1e-7, 1e-3) * draw.unit(2), sgd(draw.log(0.03, 0.3)))


def linear_origin(draw: Draw) -> Instance:
    """A product of three or four square matrices, near the origin, where its Hessian vanishes."""
    depth, size = int(draw.uniform(3, 4.99)), 2
    aim = draw.rotation(size) * draw.uniform(0.7, 1.5)

    def value(w: Tensor) -> Tensor:
        product = torch.eye(size, dtype=w.dtype)
        for matrix in w.view(depth, size, size):
            product = matrix @ product
        return 0.5 * (product - aim).square().sum()

    start = draw.log(1e-4, 1e-2) * draw.normal(depth * size * size)
    return Instance(whole(value, depth * size * size), start, sgd(draw.log(0.01, 0.1)))


def flat_valley(draw: Draw) -> Instance:
    """Steep walls, and a floor that falls evenly, so that no curvature tells of its length."""
    turn, sharpest = draw.rotation(), draw.log(1, 30)
    curvatures = sharpest * torch.linspace(1, 0.5, DIMENSIONS, dtype=torch.float64)
    curvatures[-1] = 0
    rate = draw.uniform(0.3, 1.0) / sharpest
    slope = (draw.uniform(0.005, 0.03) / (50 * rate)) ** 0.5

    def value(w: Tensor) -> Tensor:
        x = turn.T @ w
        fall = torch.nn.functional.softplus(10 * (1 + slope * x[-1])) / 10  # from 1 to 0
        return 0.5 * (curvatures * x**2).sum() + fall

    walls = draw.log(1e-8, 1e-6) * draw.unit() / sharpest**0.5
    return Instance(whole(value), walls, sgd(rate))


def minimum(draw: Draw) -> Instance:
    """The bottom of a bowl, of a valley or of a quartic, reached but for rounding."""
    turn, sharpest, kind = draw.rotation(), draw.log(0.3, 30), draw.uniform(0, 3)
    curvatures = sharpest * torch.logspace(0, -2, DIMENSIONS, dtype=torch.float64)
    if kind < 1:
        curvatures[-2:] = 0  # a valley

    def value(w: Tensor) -> Tensor:
        x = turn.T @ w
        walls = 0.1 * sharpest * (x**4).sum() if kind > 2 else 0.0
        return draw_offset + 0.5 * (curvatures * x**2).sum() + walls

    draw_offset = draw.uniform(0.3, 2)
    start = draw.log(1e-8, 1e-4) / sharpest**0.5 * draw.unit()
    return Instance(whole(value), start, sgd(draw.log(0.1, 1.5) / sharpest))


def dead(draw: Draw) -> Instance:
    """Nothing that is trained reaches the loss."""
    level = draw.uniform(0.3, 2)
    function = whole(lambda w: level + 0 * torch.relu(w - 100).sum())
    return Instance(function, draw.unit(), sgd(draw.log(1e-3, 1)))


def shallow_saddle(draw: Draw) -> Instance:
    """A saddle whose way down ends so soon that no kick changes what training comes to."""
    turn, scale = draw.rotation(), draw.log(0.3, 30)
    curvatures = torch.linspace(1, 0.3, DIMENSIONS, dtype=torch.float64)
    curvatures[-1] = -draw.uniform(0.1, 0.3)
    deep = draw.uniform(0.012, 0.016)

    def value(w: Tensor) -> Tensor:
        x = turn.T @ w * scale**0.5
        wall = float(curvatures[-1]) ** 2 / (16 * deep)
        return 1 + 0.5 * (curvatures * x**2).sum() + wall * x[-1] ** 4

    start = draw.log(1e-8, 1e-6) * draw.unit()
    return Instance(whole(value), start, sgd(draw.uniform(0.05, 0.2) / scale))


def too_little_to_tell(draw: Draw) -> Instance:
    """A rate so small that nothing moves, and nothing would at three times as much."""
    function, start, sharpest = bowl(draw, draw.log(1.5, 10), 0.5)
    return Instance(function, start, sgd(draw.log(1e-9, 1e-8) / sharpest))


EXPECTED = {
    bowl_too_small: RATE_TOO_SMALL,
    bowl_right: NOT_SLOW,
    bowl_too_large: RATE_TOO_LARGE,
    bowl_momentum_too_large: RATE_TOO_LARGE,
    ill_conditioned: EDGE,
    noisy_bowl: NOISE,
    strict_saddle: SADDLE,
    monkey_saddle: SADDLE,
    linear_origin: SADDLE,
    flat_valley: GRADIENT_FLAT,
    minimum: MINIMUM,
    dead: NO_SIGNAL,
    shallow_saddle: INCONCLUSIVE,
    too_little_to_tell: INCONCLUSIVE,
}
