"""The folder below the user's home for what can be fetched or made again."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache() -> Path:
    """Optsweep's folder in `XDG_CACHE_HOME`, or in `~/.cache`; it need not exist."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache) / "optsweep"
