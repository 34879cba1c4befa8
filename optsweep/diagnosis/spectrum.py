"""The density of a Hessian's eigenvalues, by stochastic Lanczos quadrature."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from optsweep.diagnosis.lanczos import Tridiagonal

_DEVIATIONS = 3  # of the error that random starts bring, in the accuracy that is stated


@dataclass(frozen=True)
class Density:
    """A distribution of eigenvalues on n points.

    Attributes:
        nodes: (n,), ascending.
        weights: (n,), of sum 1.
        accuracy: What the distance to the true distribution is stated to be at most.
    """

    nodes: np.ndarray
    weights: np.ndarray
    accuracy: float

    def distance(self, eigenvalues: np.ndarray) -> float:
        """Wasserstein's distance W1, the area between both distribution functions."""
        places = np.sort(np.concatenate([self.nodes, eigenvalues]))
        own = np.concatenate([[0.0], np.cumsum(self.weights)])
        own = own[np.searchsorted(self.nodes, places[:-1], side="right")]
        count = np.searchsorted(np.sort(eigenvalues), places[:-1], side="right")
        return float(np.abs(own - count / len(eigenvalues)) @ np.diff(places))


def density(probes: Sequence[Tridiagonal], num_parameters: int) -> Density:
    """Average what each of m probes, begun in a uniformly random direction, says of the spectrum.

    A probe of K steps is Gauss's quadrature for the eigenvalues, each weighted by the square of
    the start's share in its vector. What is stated of its accuracy is a sum:

    - of quadrature: both agree on polynomials of degree 2K - 1, and a function of slope 1 on
      [a, b] is within pi (b - a) / (8 K) of one of these (Jackson), so that W1 between both is
      at most pi (b - a) / (4 K); none if a probe has seen all of the space it began in;
    - of chance: the weights' sum F up to a place has variance at most 2 F (1 - F) / (m (P + 2));
      three times the area of its root.

    Source: Ubaru, Chen & Saad 2017, doi:10.1137/16M1104974; Ghorbani et al., arXiv:1901.10159.
    """
    nodes, weights, quadrature = [], [], 0.0
    for probe in probes:
        size = probe.connected
        own = Tridiagonal(
            probe.diagonal[:size], probe.beside[:size], probe.basis[:size], probe.connected
        )
        values, vectors = own.solve()
        nodes.append(values)
        weights.append(vectors[0] ** 2 / len(probes))
        if own.beside[-1] > 0:
            span = values[-1] - values[0]
            quadrature = max(quadrature, math.pi * float(span) / (4 * size))
    order = np.argsort(np.concatenate(nodes), kind="stable")
    places, shares = np.concatenate(nodes)[order], np.concatenate(weights)[order]
    below = np.clip(np.cumsum(shares), 0, 1)[:-1]
    area = float(np.sqrt(below * (1 - below)) @ np.diff(places))
    chance = math.sqrt(2 / (len(probes) * (num_parameters + 2))) * area
    return Density(places, shares, quadrature + _DEVIATIONS * chance)
