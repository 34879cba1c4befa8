"""How every loop of the compiled engine is compiled, and kept.

Four kinds of functions: an `entry` is called from Python, a `compiled` one by compiled code
alone, an `inlined` one becomes part of its caller, and a `generated` one (an intrinsic) is
written in the compiler's own language.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from numba.extending import intrinsic

from optsweep.engine.compiled.cache import place

# They are called without their first parameter, of which numba's types do not know.
generated: Any = intrinsic

# Arguments may be functions or tuples of arrays, at no cost.
inlined: Any = numba.njit(inline="always")


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function that compiled functions alone call."""
    # Each wrapper for a call from Python unpacks tuples of arrays, which took 4 of 21 s.
    return _compiled(function, no_cpython_wrapper=True, no_cfunc_wrapper=True)


def entry(function: Callable[..., Any]) -> Any:
    """Compile a function that is called from Python."""
    return _compiled(function)


def _compiled(function: Callable[..., Any], **settings: Any) -> Any:
    """Compile a function at its first call, and keep the result on disk if that can be."""
    folder = place().folder
    config: Any = numba.config
    given = config.CACHE_DIR
    config.CACHE_DIR = str(folder)
    try:
        # Strict arithmetic: with fastmath, code from the cache rounded otherwise than code just
        # compiled. error_model: a check of every divisor would keep loops from vectorising.
        return numba.njit(nogil=True, cache=folder is not None, error_model="numpy", **settings)(
            function
        )
    finally:
        config.CACHE_DIR = given
