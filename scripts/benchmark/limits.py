"""What the machine can do: float32 products of the network's shapes, and bandwidth.

Every library multiplies in a process of its own. A rate is the best of several repeats: a limit
is not what usually happens but what is possible.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmark.runner import Rows, Worker, WorkerError
from benchmark.tasks import Images, flops_of, initial_weights, products

FILE = "limits.csv"
COLUMNS = ("of", "library", "how", "batch_size", "rate", "unit", "other_cores", "round")

_MIN_SECONDS = 0.02  # of one repeat, so that the clock's own time does not count
_SQUARE = 2048

# Two arrays -> their product, when it is called.
Multiply = Callable[[np.ndarray, np.ndarray], Callable[[], Any]]
Row = dict[str, Any]


def _numpy() -> tuple[Multiply, Callable[[int], Any]]:
    def multiply(left: np.ndarray, right: np.ndarray) -> Callable[[], Any]:
        out = np.empty((left.shape[0], right.shape[1]), np.float32)
        return lambda: np.matmul(left, right, out=out)

    return multiply, lambda num_threads: threadpool_limits(num_threads, user_api="blas")


def _torch() -> tuple[Multiply, Callable[[int], Any]]:
    import torch

    def multiply(left: np.ndarray, right: np.ndarray) -> Callable[[], Any]:
        a, b = torch.from_numpy(left), torch.from_numpy(right)
        out = torch.empty(a.shape[0], b.shape[1])
        return lambda: torch.mm(a, b, out=out)

    return multiply, torch.set_num_threads


def _onednn() -> tuple[Multiply, Callable[[int], Any]]:
    import torch

    linear = torch.ops.mkldnn._linear_pointwise

    def multiply(left: np.ndarray, right: np.ndarray) -> Callable[[], Any]:
        a, b = torch.from_numpy(left), torch.from_numpy(right).T
        return lambda: linear(a, b, None, "none", [], "")

    return multiply, torch.set_num_threads


def _jax() -> tuple[Multiply, None]:
    import jax

    def multiply(left: np.ndarray, right: np.ndarray) -> Callable[[], Any]:
        # The transposition is a part of the compiled product, as in a step.
        turned = [not array.flags.c_contiguous for array in (left, right)]
        a, b = (
            jax.numpy.asarray(x.T if t else x) for x, t in zip((left, right), turned, strict=True)
        )
        product = jax.jit(lambda x, y: (x.T if turned[0] else x) @ (y.T if turned[1] else y))
        return lambda: product(a, b).block_until_ready()

    return multiply, None


# How each multiplies and is told its threads, which JAX cannot be.
LIBRARIES: dict[str, Callable[[], tuple[Multiply, Callable[[int], Any] | None]]] = {
    "NumPy": _numpy,
    "torch.mm": _torch,
    "oneDNN": _onednn,
    "JAX": _jax,
}


def installed() -> list[str]:
    """Libraries that are there; all but JAX come with optsweep."""
    return [name for name in LIBRARIES if name != "JAX" or importlib.util.find_spec("jax")]


class Library:
    """Times a library's products."""

    def __init__(self, name: str) -> None:
        """Import it."""
        self.multiply, self.limit = LIBRARIES[name]()

    def rates(self, batch_sizes: Sequence[int], num_threads: int) -> list[Row]:
        """GFLOP/s of all products of a step, and for batch size 0 of a large square one.

        Each as `together`, all threads on one product after the other, and `apart`, every thread
        on products of its own, as when seeds are trained side by side.
        """
        limit = self.limit or (lambda num_threads: None)
        rows = []
        for size in batch_sizes:
            shapes = list(products(size)) if size else [(_SQUARE, _SQUARE, _SQUARE, "none")]
            of = "products" if size else "square product"
            row: Row = {"of": of, "batch_size": size, "unit": "GFLOP/s"}
            flops = flops_of(shapes)
            limit(num_threads)
            seconds = best_seconds(self._step(shapes))
            rows.append(row | {"how": "together", "rate": flops / seconds / 1e9})
            if num_threads > 1 and self.limit:
                limit(1)
                steps = [self._step(shapes) for _ in range(num_threads)]
                with ThreadPoolExecutor(num_threads, initializer=limit, initargs=(1,)) as pool:
                    seconds = best_seconds(partial(_side_by_side, pool, steps))
                rows.append(row | {"how": "apart", "rate": num_threads * flops / seconds / 1e9})
        return rows

    def _step(self, shapes: Sequence[tuple[int, int, int, str]]) -> Callable[[], None]:
        """All products of a step, one after the other."""
        rng = np.random.default_rng(0)
        calls = [self.multiply(*operands(rng, *shape)) for shape in shapes]

        def run() -> None:
            for call in calls:
                call()

        return run


class Machine:
    """Measures what is no library's."""

    def __init__(self, images: Images) -> None:
        """Look where the images have ink."""
        self.ink = images.pixels != 0

    def rates(self, batch_sizes: Sequence[int], num_threads: int) -> list[Row]:
        """For a batch size the share of pixels not zero in all of a batch; for 0 bandwidths."""
        rows = []
        rng = np.random.default_rng(0)
        for size in batch_sizes:
            if size == 0:
                rows += bandwidths(num_threads)
                continue
            times = max(1, min(100, 10**6 // size))
            batches = [rng.choice(len(self.ink), size, replace=False) for _ in range(times)]
            share = float(np.mean([self.ink[batch].any(0).mean() for batch in batches]))
            rows.append({"of": "pixels not zero", "batch_size": size, "rate": share})
            rows[-1]["unit"] = "share"
        return rows


def bandwidths(num_threads: int) -> list[Row]:
    """GB/s of compiled `a += b`: two arrays read, one written, every thread on its own arrays.

    The arrays fit the fastest cache, are as large as the network's weights, or fit no cache.
    """
    from numba import njit

    @njit(nogil=True)
    def add_often(pair: np.ndarray, times: int) -> None:
        for _ in range(times):
            for i in range(pair.shape[1]):
                pair[0, i] += pair[1, i]

    num_weights = sum(part.size for layer in initial_weights(0) for part in layer)
    rows = []
    for name, size in {"12 kB": 1500, "weights": num_weights, "160 MB": 20_000_000}.items():
        times = max(1, 2_000_000 // size)
        for threads in sorted({1, num_threads}):
            pairs = [np.zeros((2, size), np.float32) for _ in range(threads)]
            adding = [partial(add_often, pair, times) for pair in pairs]
            with ThreadPoolExecutor(threads) as pool:
                seconds = best_seconds(partial(_side_by_side, pool, adding))
            rate = threads * 3 * 4 * size * times / seconds / 1e9
            how = f"{threads} threads" if threads > 1 else "1 thread"
            rows.append({"of": f"a += b, {name}", "how": how, "rate": rate, "unit": "GB/s"})
    return rows


def operands(
    rng: np.random.Generator, n: int, k: int, m: int, transposed: str
) -> tuple[np.ndarray, np.ndarray]:
    """Arrays (n, k) and (k, m), one of them a transposed view as in a backward pass."""

    def draw(shape: tuple[int, int]) -> np.ndarray:
        return rng.random(shape, np.float32)

    return (
        draw((k, n)).T if transposed == "left" else draw((n, k)),
        draw((m, k)).T if transposed == "right" else draw((k, m)),
    )


def best_seconds(run: Callable[[], Any], repeats: int = 5) -> float:
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


def _side_by_side(pool: ThreadPoolExecutor, calls: Sequence[Callable[[], Any]]) -> None:
    """One call for each thread of the pool."""
    list(pool.map(lambda call: call(), calls))


def measure_limits(
    rows: Rows,
    images: Images,
    batch_sizes: Sequence[int],
    num_threads: int,
    num_rounds: int,
    logs: Path,
    told: Callable[[str], None],
) -> list[str]:
    """Measure what is not there yet, in rounds, so that no library has all of a busy moment.

    Returns:
        What failed, a line each.
    """
    failures = []
    done = rows.keys("library", "round", "batch_size")
    for number in range(num_rounds):
        for library in [*installed(), "Numba"]:
            missing = [size for size in [0, *batch_sizes] if (library, number, size) not in done]
            if not missing:
                continue
            told(library)
            made = (Machine, images) if library == "Numba" else (Library, library)
            try:
                with Worker(logs / f"limits-{library}.log", *made) as worker:
                    for row in worker.ask("rates", missing, num_threads):
                        told_of = {"library": library, "batch_size": 0, "round": number}
                        rows.add(**told_of | row, other_cores=worker.other_cores)
            except WorkerError as error:
                failures.append(f"limits, {library}: {error}")
    return failures
