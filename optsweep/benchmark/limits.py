"""What the machine can do: float32 products of the network's shapes, and bandwidth.

Every library multiplies in a process of its own. A rate is the best of several repeats: a limit
is not what usually happens but what is possible.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from optsweep.benchmark.images import load_images
from optsweep.benchmark.libraries import LIBRARIES
from optsweep.benchmark.network import widths
from optsweep.config.dataset import dataset_config

_MIN_SECONDS = 0.02  # of one repeat, so that the clock's own time does not count
_SQUARE = 2048


def products(batch_size: int, num_inputs: int = 784, num_classes: int = 10) -> Iterator[tuple]:
    """Every product of a step, as (rows, inner, columns) and which operand is transposed.

    >>> [shape for *shape, _ in products(32)][:3]
    [[32, 784, 128], [784, 32, 128], [32, 128, 56]]
    """
    for layer, (a, b) in enumerate(itertools.pairwise(widths(num_inputs, num_classes))):
        yield batch_size, a, b, "none"  # outputs
        yield a, batch_size, b, "left"  # gradient of the weights
        if layer:
            yield batch_size, b, a, "right"  # gradient of the inputs


def matmul_rates(library: str, batch_sizes: list[int], num_threads: int) -> list[dict[str, Any]]:
    """GFLOP/s of a large square product (batch size 0), and of all products of a step.

    Each as `together`, all threads on one product after the other, and `apart`, every thread
    on products of its own, as when seeds are trained side by side.
    """
    make, limit = LIBRARIES[library]()
    rng = np.random.default_rng(0)
    rows = []

    def calls(shapes: list[tuple]) -> Callable[[], None]:
        return _all([make(*_operands(rng, *shape)) for shape in shapes])

    for batch_size in [0, *batch_sizes]:
        shapes = list(products(batch_size)) if batch_size else [(_SQUARE, _SQUARE, _SQUARE, "none")]
        flops = sum(2 * n * k * m for n, k, m, _ in shapes)
        row: dict[str, Any] = {
            "of": "products" if batch_size else "square product",
            "library": library,
        }
        row |= {"batch_size": batch_size, "unit": "GFLOP/s"}
        limit(num_threads)
        seconds = _best(calls(shapes))
        rows.append(row | {"how": "together", "rate": flops / seconds / 1e9})
        if num_threads > 1 and library != "JAX":  # whose threads cannot be told
            limit(1)
            with ThreadPoolExecutor(num_threads, initializer=limit, initargs=(1,)) as pool:
                seconds = _best(_side_by_side(pool, [calls(shapes) for _ in range(num_threads)]))
            rows.append(row | {"how": "apart", "rate": num_threads * flops / seconds / 1e9})
    return rows


def other_limits(
    library: str,
    num_weights: int,
    num_threads: int,
    batch_sizes: list[int],
    dataset: dict[str, Any],
) -> list[dict[str, Any]]:
    """Bandwidths, and which share of the pixels is not zero in a whole batch."""
    del library
    rows = bandwidths(num_weights, num_threads)
    pixels = load_images(dataset_config(dataset)).pixels != 0
    rng = np.random.default_rng(0)
    for size in batch_sizes:
        batches = [rng.choice(len(pixels), size, replace=False) for _ in range(100)]
        share = float(np.mean([pixels[batch].any(0).mean() for batch in batches[: 10**6 // size]]))
        rows.append({"of": "pixels not zero", "batch_size": size, "rate": share, "unit": "share"})
    return rows


def bandwidths(num_weights: int, num_threads: int) -> list[dict[str, Any]]:
    """GB/s of compiled `a += b`: two arrays read, one written, every thread on its own arrays.

    Args:
        num_weights: Numbers in the network's weights, which is the size of one of the arrays.
        num_threads: Threads.
    """
    from numba import njit  # noqa: PLC0415

    @njit(nogil=True)
    def add_often(pair: np.ndarray, times: int) -> None:
        for _ in range(times):
            for i in range(pair.shape[1]):
                pair[0, i] += pair[1, i]

    def adding(pair: np.ndarray, times: int) -> Callable[[], None]:
        return lambda: add_often(pair, times)

    rows = []
    for name, size in {"12 kB": 1500, "weights": num_weights, "160 MB": 20_000_000}.items():
        times = max(1, 2_000_000 // size)
        for threads in sorted({1, num_threads}):
            with ThreadPoolExecutor(threads) as pool:
                pairs = [np.zeros((2, size), np.float32) for _ in range(threads)]
                seconds = _best(_side_by_side(pool, [adding(pair, times) for pair in pairs]))
            rate = threads * 3 * 4 * size * times / seconds / 1e9
            how = f"{threads} threads" if threads > 1 else "1 thread"
            rows.append({"of": f"a += b, {name}", "how": how, "rate": rate, "unit": "GB/s"})
    return rows


def _operands(
    rng: np.random.Generator, n: int, k: int, m: int, transposed: str
) -> tuple[np.ndarray, np.ndarray]:
    """Arrays (n, k) and (k, m), one of them a transposed view as in a backward pass."""
    left = (
        rng.random((k, n), np.float32).T if transposed == "left" else rng.random((n, k), np.float32)
    )
    right = (
        rng.random((m, k), np.float32).T
        if transposed == "right"
        else rng.random((k, m), np.float32)
    )
    return left, right


def _all(calls: list[Callable[[], Any]]) -> Callable[[], None]:
    def run() -> None:
        for call in calls:
            call()

    return run


def _side_by_side(
    pool: ThreadPoolExecutor, calls: list[Callable[[], Any]]
) -> Callable[[], list[Any]]:
    """One call for each thread of the pool."""
    return lambda: list(pool.map(lambda call: call(), calls))


def _best(run: Callable[[], Any], repeats: int = 5) -> float:
    """Seconds of the fastest of several calls, each many times if it is short."""
    run()
    started = time.perf_counter()
    run()
    times = max(1, round(_MIN_SECONDS / (time.perf_counter() - started)))
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        for _ in range(times):
            run()
        best = min(best, (time.perf_counter() - started) / times)
    return best


MEASUREMENTS: dict[str, Callable[..., list[dict[str, Any]]]] = {
    "matmul": matmul_rates,
    "others": other_limits,
}
