"""The libraries whose products are timed: how each multiplies, and is told its threads.

A library is imported when its entry of `LIBRARIES` is called, in a process of its own.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

# Two arrays -> their product, when it is called.
Multiply = Callable[[np.ndarray, np.ndarray], Callable[[], Any]]


def _numpy() -> tuple[Multiply, Callable[[int], Any]]:
    def make(left: np.ndarray, right: np.ndarray) -> Callable[[], Any]:
        out = np.empty((left.shape[0], right.shape[1]), np.float32)
        return lambda: np.matmul(left, right, out=out)

    return make, _limit_blas


def _scipy() -> tuple[Multiply, Callable[[int], Any]]:
    """SciPy's BLAS called as compiled code calls it; SciPy's own wrappers keep Python's lock."""
    import scipy.linalg.cython_blas as blas  # noqa: PLC0415

    of_capsule = ctypes.pythonapi.PyCapsule_GetPointer
    of_capsule.restype, of_capsule.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    name = ctypes.pythonapi.PyCapsule_GetName
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    capsule = blas.__pyx_capi__["sgemm"]
    sgemm = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 13)(of_capsule(capsule, name(capsule)))

    def make(left: np.ndarray, right: np.ndarray) -> Callable[[], Any]:
        # Row by row, out = left @ right is column by column out.T = right.T @ left.T.
        (n, k), m = left.shape, right.shape[1]
        out = np.empty((n, m), np.float32)
        flags = [b"n" if array.flags.c_contiguous else b"t" for array in (right, left)]
        strides = [a.shape[a.flags.c_contiguous] for a in (right, left)]
        sizes = [ctypes.c_int(value) for value in (m, n, k, strides[0], strides[1], m)]
        one, zero = ctypes.c_float(1), ctypes.c_float(0)
        texts = [ctypes.c_char(flag) for flag in flags]
        at = ctypes.byref
        given = (
            *(at(text) for text in texts), at(sizes[0]), at(sizes[1]), at(sizes[2]), at(one),
            right.ctypes.data, at(sizes[3]), left.ctypes.data, at(sizes[4]), at(zero),
            out.ctypes.data, at(sizes[5]),
        )  # fmt: skip
        return lambda: (sgemm(*given), left, right, out)

    return make, _limit_blas


def _torch() -> tuple[Multiply, Callable[[int], Any]]:
    import torch  # noqa: PLC0415

    def make(left: np.ndarray, right: np.ndarray) -> Callable[[], Any]:
        a, b = torch.from_numpy(left), torch.from_numpy(right)
        out = torch.empty(a.shape[0], b.shape[1])
        return lambda: torch.mm(a, b, out=out)

    return make, torch.set_num_threads


def _onednn() -> tuple[Multiply, Callable[[int], Any]]:
    import torch  # noqa: PLC0415

    linear = torch.ops.mkldnn._linear_pointwise

    def make(left: np.ndarray, right: np.ndarray) -> Callable[[], Any]:
        a, b = torch.from_numpy(left), torch.from_numpy(right).T
        return lambda: linear(a, b, None, "none", [], "")

    return make, torch.set_num_threads


def _jax() -> tuple[Multiply, Callable[[int], Any]]:
    import jax  # noqa: PLC0415

    def make(left: np.ndarray, right: np.ndarray) -> Callable[[], Any]:
        # The transposition is a part of the compiled product, as in a step.
        turned = [not array.flags.c_contiguous for array in (left, right)]
        a, b = (
            jax.numpy.asarray(x.T if t else x) for x, t in zip((left, right), turned, strict=True)
        )
        product = jax.jit(lambda x, y: (x.T if turned[0] else x) @ (y.T if turned[1] else y))
        return lambda: product(a, b).block_until_ready()

    return make, lambda num_threads: None


def _limit_blas(num_threads: int) -> None:
    threadpool_limits(num_threads, user_api="blas")


LIBRARIES = {
    "NumPy": _numpy,
    "SciPy": _scipy,
    "torch.mm": _torch,
    "oneDNN": _onednn,
    "JAX": _jax,
}
NEEDS = {"JAX": "jax"}  # the others come with optsweep
