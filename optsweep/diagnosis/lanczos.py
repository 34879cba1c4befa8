"""Lanczos's method with full reorthogonalisation: extreme eigenvalues of a symmetric operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

Product = Callable[[Tensor], Tensor]

_CHECK_EVERY = 10  # steps between two looks at the residuals


@dataclass(frozen=True)
class Eigenpairs:
    """Some eigenvalues with their vectors.

    Attributes:
        values: (n,) float64, from large to small.
        vectors: (n, P), of length 1.
        residuals: (n,) the length of H v - value v. An eigenvalue of H lies as near to the value.
    """

    values: np.ndarray
    vectors: Tensor
    residuals: np.ndarray


@dataclass(frozen=True)
class Tridiagonal:
    """What K steps have found: T = Q H Q^T on the rows of Q.

    Attributes:
        diagonal: (K,) float64.
        beside: (K,) float64; the last one leads out of the space, 0 if nothing is left outside.
        basis: Q, (K, P).
        connected: Steps until the first start was used up; later ones began with another vector.
    """

    diagonal: np.ndarray
    beside: np.ndarray
    basis: Tensor
    connected: int

    def solve(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues (K,), ascending, and eigenvectors (K, K) in columns, of T."""
        matrix = np.diag(self.diagonal)
        between = self.beside[:-1]
        matrix += np.diag(between, 1) + np.diag(between, -1)
        return np.linalg.eigh(matrix)


def lanczos(
    product: Product,
    start: Tensor,
    max_steps: int,
    generator: Generator,
    is_done: Callable[[Tridiagonal], bool] = lambda found: False,
) -> Tridiagonal:
    """Build an orthonormal basis in which a symmetric operator is tridiagonal.

    Every new vector is made orthogonal to all before it, twice, so that no eigenvalue is found
    more often than it is there. Where a start is used up, as by an operator with few different
    eigenvalues, a random vector takes its place, so that multiple eigenvalues are found as often
    as they are there.

    Args:
        product: The operator on (P,).
        start: (P,), not 0.
        max_steps: K, at most P.
        generator: Of random vectors.
        is_done: Asked now and then whether to stop before.

    Source: Lanczos 1950; for networks Ghorbani, Krishnan & Xiao 2019, arXiv:1901.10159.
    """
    size = min(max_steps, start.numel())
    basis = torch.empty(size, start.numel(), dtype=start.dtype, device=start.device)
    diagonal, beside = np.zeros(size), np.zeros(size)
    connected, scale = 0, 0.0
    tiny = 1000 * torch.finfo(start.dtype).eps  # what rounding leaves of nothing
    vector = start / start.norm()
    for step in range(size):
        basis[step] = vector
        image = product(vector)
        diagonal[step] = float(image @ vector)
        scale = max(scale, abs(diagonal[step]), beside[step - 1] if step else 0.0)
        image = _orthogonal(image, basis[: step + 1])
        length = float(image.norm())
        if length <= tiny * max(scale, float(torch.finfo(start.dtype).tiny)):
            connected = connected or step + 1
            if step + 1 < size:
                drawn = torch.randn(start.shape, generator=generator, dtype=start.dtype)
                image = _orthogonal(drawn.to(start.device), basis[: step + 1])
                vector = image / image.norm()
        else:
            beside[step] = length
            vector = image / length
        looked = (step + 1) % _CHECK_EVERY == 0 and step + 1 < size
        if looked and is_done(_cut(diagonal, beside, basis, step + 1, connected)):
            size = step + 1
            break
    if size == start.numel():
        beside[size - 1] = 0.0
    return _cut(diagonal, beside, basis, size, connected)


def _cut(
    diagonal: np.ndarray, beside: np.ndarray, basis: Tensor, size: int, connected: int
) -> Tridiagonal:
    return Tridiagonal(diagonal[:size], beside[:size], basis[:size], connected or size)


def _orthogonal(vector: Tensor, basis: Tensor) -> Tensor:
    """What is left of a vector without its share in the rows of a basis."""
    for _ in range(2):
        vector = vector - (basis @ vector) @ basis
    return vector


def extreme_eigenpairs(found: Tridiagonal, largest: int, smallest: int) -> Eigenpairs:
    """The largest and the smallest eigenvalues that a space of Lanczos's has, each once."""
    values, vectors = found.solve()
    size = len(values)
    chosen = [*range(size - 1, max(size - 1 - largest, -1), -1)]
    chosen += [index for index in range(min(smallest, size) - 1, -1, -1) if index not in chosen]
    ritz = torch.from_numpy(vectors[:, chosen].T.copy()).to(found.basis) @ found.basis
    residuals = np.abs(found.beside[-1] * vectors[-1, chosen])
    return Eigenpairs(values[chosen], ritz, residuals)


def inverse_form(product: Product, vector: Tensor, max_steps: int, generator: Generator) -> float:
    """v^T H^+ v for an operator without negative eigenvalues, by Lanczos's method from v.

    Eigenvalues are taken to be at least 1e-12 of the largest, so that what of the vector lies
    in the kernel is not overlooked: it makes the form large.
    """
    squared = float(vector @ vector)
    if squared == 0:
        return 0.0
    found = lanczos(product, vector, max_steps, generator)
    size = found.connected
    own = Tridiagonal(found.diagonal[:size], found.beside[:size], found.basis[:size], size)
    values, vectors = own.solve()
    least = 1e-12 * max(float(np.abs(values).max()), np.finfo(float).tiny)
    return squared * float(vectors[0] ** 2 @ (1 / np.maximum(values, least)))


def until_converged(largest: int, smallest: int, tolerance: float) -> Callable[[Tridiagonal], bool]:
    """Tell whether the residuals of all these are below a share of the largest eigenvalue."""

    def is_done(found: Tridiagonal) -> bool:
        values, vectors = found.solve()
        if len(values) < largest + smallest:
            return False
        wanted = np.r_[0:smallest, len(values) - largest : len(values)]
        residuals = np.abs(found.beside[-1] * vectors[-1, wanted])
        return bool((residuals <= tolerance * np.abs(values).max()).all())

    return is_done
