"""How every loop of the compiled engine is compiled, and where that is kept.

Four kinds of functions: an `entry` is called from Python, a `compiled` one by compiled code
alone, an `inlined` one becomes part of its caller, and a `generated` one (an intrinsic) is
written in the compiler's own language.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import platformdirs
from numba.extending import intrinsic

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
    """Compile a function at its first call, and keep the result on disk.

    numba takes what it kept for current as long as the function's own file is. What is called
    from other files is compiled into it, however, so that the folder is one for each state of
    all files of this engine.
    """
    config: Any = numba.config
    folder = config.CACHE_DIR
    config.CACHE_DIR = str(
        Path(folder or platformdirs.user_cache_path("optsweep") / "numba") / _state()
    )
    try:
        # Strict arithmetic: with fastmath, code from the cache rounded otherwise than code just
        # compiled. error_model: a check of every divisor would keep loops from vectorising.
        return numba.njit(nogil=True, cache=True, error_model="numpy", **settings)(function)
    finally:
        config.CACHE_DIR = folder


@functools.cache
def _state() -> str:
    """Ten hexadecimal digits of the SHA-256 of this folder's sources."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    content = b"\0".join(source.read_bytes() for source in sources)
    return hashlib.sha256(content).hexdigest()[:10]
