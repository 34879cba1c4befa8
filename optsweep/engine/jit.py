"""How every loop of the compiled engine is compiled."""

from __future__ import annotations

from typing import Any

from numba import njit
from numba.extending import intrinsic

# Strict arithmetic: with fastmath, code from the cache rounded otherwise than code just compiled.
# error_model: a check of every divisor would keep loops from vectorising.
compiled = njit(nogil=True, cache=True, error_model="numpy")

# Functions that are written in the compiler's own language. They are called without their first
# parameter, of which numba's types do not know.
generated: Any = intrinsic
