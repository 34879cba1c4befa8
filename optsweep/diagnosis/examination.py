"""All readings at one checkpoint of one seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor

from optsweep.diagnosis.budget import critical_multiple, descent_budget
from optsweep.diagnosis.escape import find_escape, random_directions, slope_drop
from optsweep.diagnosis.forks import (
    FORKS,
    Forked,
    horizons,
    run_fork,
    training_curvature,
    training_gradient,
)
from optsweep.diagnosis.lanczos import (
    Eigenpairs,
    Product,
    Tridiagonal,
    extreme_eigenpairs,
    inverse_form,
    lanczos,
    until_converged,
)
from optsweep.diagnosis.noise import Noise, gradient_noise, mean_cosine, signal
from optsweep.diagnosis.operators import MeanLoss
from optsweep.diagnosis.readings import Readings
from optsweep.diagnosis.settings import LARGEST, SMALLEST, Settings
from optsweep.diagnosis.spectrum import Density, density
from optsweep.diagnosis.subject import Subject, split
from optsweep.diagnosis.verdicts import CRITICAL, NOT_NEGATIVE, VANISHING
from optsweep.diagnosis.walker import (
    Batches,
    Method,
    Walker,
    smallest_limit,
    stability_limit,
)

_ON_THE_WAY = 8  # gradients of the next points, which are compared with each other
_CRITICAL_BATCHES = 4  # updates over which the critical multiple is an average


@dataclass(frozen=True)
class Examination:
    """What was found at a checkpoint.

    Attributes:
        readings: For the verdict.
        eigenpairs: Ten largest and five smallest.
        density: Of all eigenvalues.
        forks: By name.
        has_state: Whether the optimizer went on with what it had gathered.
    """

    readings: Readings
    eigenpairs: Eigenpairs
    density: Density
    forks: Mapping[str, Forked]
    has_state: bool


def examine(
    subject: Subject,
    point: Tensor,
    method: Method,
    settings: Settings,
    seed: int,
    tell: Callable[[str], None] = lambda what: None,
) -> Examination:
    """Take all readings at a point.

    Args:
        subject: The loss.
        point: (P,).
        method: How it is trained there.
        settings: How much is measured.
        seed: Of everything that is drawn.
        tell: Told what is being done.
    """
    generator = torch.Generator().manual_seed(seed)
    loss = MeanLoss(subject, _chosen(subject, settings, generator))
    value, gradient, product = loss.value(point), loss.gradient(point), loss.hessian(point)
    tell("spectrum")
    probes, pairs = _spectrum(product, point, settings, generator)
    sharp = float(abs(pairs.values).max())
    walker = Walker(method, point, subject.shapes)
    bent = product(gradient)
    length = float(gradient.norm())
    tell("noise and budget")
    found = _of_batches(subject, point, method, walker, loss, gradient, product, settings, seed)
    size = max(1.0, float(point.norm()))
    readings = Readings(
        loss=value,
        gradient_norm=length,
        largest=float(pairs.values.max()),
        smallest=float(pairs.values.min()),
        residual=float(pairs.residuals[[0, -1]].max()),
        flatness=_ratio(float(bent.norm()), sharp * length),
        bending=_ratio(float(gradient @ bent), length**2),
        hessian_gradient=_ratio(float(bent.norm()), length),
        top_share=_ratio(float((pairs.vectors[:LARGEST] @ gradient).square().sum()), length**2),
        promise=_ratio(length**2, 2 * sharp * value) if sharp else (math.inf if length else 0.0),
        slope_drop=slope_drop(loss.value, point, value, gradient),
        extent=sharp * size**2 / (2 * value) if value > 0 else math.inf,
        weight_effect=_weight_effect(subject, point, gradient, product, value),
        batch_size=method.batch_size,
        constant_inputs=subject.constant_inputs,
        **found,
    )
    positive = readings.smallest > -NOT_NEGATIVE * sharp - readings.residual
    if readings.promise < CRITICAL and positive and value > 0:
        left = inverse_form(product, gradient, settings.lanczos_steps, generator)
        readings = replace(readings, decrement=left / (2 * value))
    limit = stability_limit(method)
    if limit is not None:
        sharpness = _preconditioned(product, walker, settings, generator) or readings.largest
        readings = replace(readings, sharpness=max(sharpness, 0.0) / limit)
        if method.batch_size >= subject.num_examples:
            readings = replace(readings, stability=readings.sharpness)
    directions = [pairs.vectors[-1]]
    if length:
        directions.append(gradient / length)
    if readings.extent < VANISHING:
        directions += random_directions(point, generator)
    escape = find_escape(loss.value, point, value, gradient, directions)
    tell("forks")
    ends = horizons(settings.steps, -(-subject.num_examples // method.batch_size), settings.epoch)
    batches = Batches(subject.num_examples, seed)
    common = (subject, loss, walker, method, batches, ends)
    sharpest = pairs.vectors[: min(LARGEST, max(1, len(point) // 3))]
    # Of all examples there is no larger batch.
    ways = [f for f in FORKS if f.batch == 1 or method.batch_size < subject.num_examples]
    forks = {f.name: run_fork(f, *common, sharpest, escape.kick) for f in ways}
    readings = replace(readings, escape_drop=escape.drop, falls=_falls(forks, value))
    has_state = method.state is None or walker.has_state
    return Examination(readings, pairs, density(probes, len(point)), forks, has_state)


def _chosen(subject: Subject, settings: Settings, generator: Generator) -> Tensor:
    """The examples that are looked at, the same for every checkpoint and fork of a seed."""
    if settings.examples is None or settings.examples >= subject.num_examples:
        return torch.arange(subject.num_examples)
    return torch.randperm(subject.num_examples, generator=generator)[: settings.examples]


def _spectrum(
    product: Product, point: Tensor, settings: Settings, generator: Generator
) -> tuple[list[Tridiagonal], Eigenpairs]:
    def start() -> Tensor:
        drawn = torch.randn(len(point), generator=generator, dtype=torch.float64)
        return drawn.to(point)

    done = until_converged(LARGEST, SMALLEST, settings.tolerance)
    steps = settings.lanczos_steps
    probes = [lanczos(product, start(), steps, generator, done)]
    probes += [lanczos(product, start(), steps, generator) for _ in range(settings.probes - 1)]
    return probes, extreme_eigenpairs(probes[0], LARGEST, SMALLEST)


def _of_batches(
    subject: Subject,
    point: Tensor,
    method: Method,
    walker: Walker,
    loss: MeanLoss,
    gradient: Tensor,
    product: Product,
    settings: Settings,
    seed: int,
) -> dict[str, Any]:
    """Readings that mini-batches give: noise, budget, critical multiple, signal."""
    is_full = method.batch_size >= subject.num_examples
    drawn = Batches(subject.num_examples, seed + 1)
    count = 1 if is_full else max(2, settings.batches)
    batches = [drawn.at(index, method.batch_size) for index in range(count)]
    gradients = torch.stack([MeanLoss(subject, batch).gradient(point) for batch in batches])
    stepped = [training_gradient(subject.fork(), point, batch) for batch in batches]
    curvatures = [training_curvature(subject, point, batch) for batch in batches]
    updates = torch.stack(list(map(walker.update, stepped, curvatures)))
    before = loss.value(point)

    def change(multiple: float) -> float:
        some = updates[:_CRITICAL_BATCHES]
        changes = [loss.value(point + multiple * each) - before for each in some]
        mean = sum(changes) / len(changes)
        return mean if math.isfinite(mean) else math.inf

    changes = torch.tensor([loss.value(point + each) - before for each in updates])
    budget = descent_budget(gradient, product, updates, changes)
    preconditioner = walker.preconditioner()
    noise = gradient_noise(subject, point, batches, gradients, preconditioner)
    limit = smallest_limit(method)
    # One of all examples: over a subset, |g|^2 has noise of its own.
    whole = gradient
    if len(loss.examples) < subject.num_examples:
        whole = MeanLoss(subject, torch.arange(subject.num_examples)).gradient(point)
    squared = float(whole.square().sum())
    noise = _of_single_examples(subject, point, whole, seed) if is_full else noise
    pieces = zip(split(point, subject.shapes), split(whole, subject.shapes), strict=True)
    weights = [(weight, of) for (_, weight), (_, of) in pieces if weight.ndim > 1]
    reach = signal(weights, updates[0], point)
    return {
        "stability": noise.sharpness / limit if limit and not is_full else math.nan,
        "critical_multiple": critical_multiple(change) if float(updates.norm()) else math.inf,
        "descent": budget.descent,
        "curvature": budget.curvature,
        "noise": budget.noise,
        "measured": budget.measured,
        "noise_scale": noise.scale(squared),
        "noise_scale_error": _ratio(noise.error, squared),
        **_on_the_way(subject, walker, loss, drawn, method),
        "update_ratio": reach.update_ratio,
        "dead_units": reach.dead_units,
        "gradient_ratio": reach.gradient_ratio,
    }


def _of_single_examples(subject: Subject, point: Tensor, gradient: Tensor, seed: int) -> Noise:
    """The noise that a run of full batches is spared, from some single examples."""
    drawn = Batches(subject.num_examples, seed + 2).at(0, 64)
    distances = torch.stack(
        [
            (MeanLoss(subject, one).gradient(point) - gradient).double().square().sum()
            for one in drawn.split(1)
        ]
    )
    error = float(distances.std()) / math.sqrt(len(distances)) if len(distances) > 1 else 0.0
    return Noise(float(distances.mean()), error, 0.0)


def _weight_effect(
    subject: Subject, point: Tensor, gradient: Tensor, product: Product, value: float
) -> float:
    if not value or all(len(shape) < 2 for _, shape in subject.shapes):
        return math.nan
    pieces = [
        piece.flatten() if piece.ndim > 1 else torch.zeros_like(piece)
        for _, piece in split(point, subject.shapes)
    ]
    weights = torch.cat(pieces)
    return (abs(float(gradient @ weights)) + abs(float(weights @ product(weights)))) / value


def _on_the_way(
    subject: Subject, walker: Walker, loss: MeanLoss, batches: Batches, method: Method
) -> dict[str, float]:
    """How the gradient turns and how its length changes over the next steps."""
    subject, walker = subject.fork(), walker.copy()
    gradients = []
    for step in range(_ON_THE_WAY):
        gradients.append(MeanLoss(subject, loss.examples).gradient(walker.point))
        batch = batches.at(step, min(method.batch_size, subject.num_examples))
        curvature = training_curvature(subject, walker.point, batch)
        walker.step(training_gradient(subject, walker.point, batch), curvature=curvature)
    squares = [float(each.square().sum()) for each in gradients]
    swing = sum(squares) / len(squares) / squares[0] if squares[0] else 1.0
    return {"cosine": mean_cosine(gradients), "swing": swing}


def _preconditioned(
    product: Product, walker: Walker, settings: Settings, generator: Generator
) -> float | None:
    """The largest eigenvalue of D^(-1/2) H D^(-1/2), with D what Adam divides by."""
    divisor = walker.preconditioner()
    if divisor is None:
        return None
    root = divisor.sqrt()
    start = torch.randn(len(root), generator=generator, dtype=torch.float64).to(root)
    done = until_converged(1, 0, settings.tolerance)
    found = lanczos(
        lambda v: product(v / root) / root, start, settings.lanczos_steps, generator, done
    )
    return float(found.solve()[0][-1])


def _falls(forks: Mapping[str, Forked], loss: float) -> dict[str, dict[int, float]]:
    def fall(end: float) -> float:
        value = (loss - end) / loss if loss else 0.0
        return value if math.isfinite(value) else -math.inf

    return {name: {h: fall(end) for h, end in of.ends.items()} for name, of in forks.items()}


def _ratio(part: float, of: float) -> float:
    return part / of if of else 0.0
