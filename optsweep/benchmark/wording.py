"""How cells, peers and seconds are told."""

from __future__ import annotations

import math

from optsweep.benchmark.peers import PEERS

_OPTIMIZERS = {"sgd": "SGD", "momentum": "momentum", "adam": "Adam"}


def cell_name(batch_size: int, optimizer: str, num_seeds: int | None = None) -> str:
    """A cell in words.

    >>> cell_name(60000, "sgd", 10), cell_name(1, "adam")
    ('SGD, 10 seeds, batch size 60,000', 'Adam, batch size 1')
    """
    seeds = "" if num_seeds is None else f" {seeds_name(num_seeds)},"
    return f"{optimizer_name(optimizer)},{seeds} batch size {batch_size:,}"


def seeds_name(num_seeds: int) -> str:
    """How many seeds."""
    return "1 seed" if num_seeds == 1 else f"{num_seeds} seeds"


def optimizer_name(optimizer: str) -> str:
    """An optimizer in words."""
    return _OPTIMIZERS[optimizer]


def peer_name(peer: str) -> str:
    """A peer in words."""
    return PEERS[peer].title


def seconds_text(seconds: float) -> str:
    """Seconds with three significant digits, but no more than a clock has.

    >>> [seconds_text(value) for value in (0.12345, 0.00123, 31.25, 123.4, float("nan"))]
    ['0.123', '0.001', '31.2', '123', '–']
    """
    if not math.isfinite(seconds):
        return "–"
    digits = 0 if seconds >= 100 else 1 if seconds >= 10 else 2 if seconds >= 1 else 3
    return f"{seconds:,.{digits}f}"


def ratio_text(ratio: float) -> str:
    """A ratio with two or three digits.

    >>> ratio_text(0.987), ratio_text(12.34), ratio_text(float("nan"))
    ('0.99', '12.3', '–')
    """
    if not math.isfinite(ratio):
        return "–"
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.1f}" if ratio >= 10 else f"{ratio:.2f}"


def percent(fraction: float) -> str:
    """A fraction in percent."""
    return "–" if not math.isfinite(fraction) else f"{100 * fraction:.0f} %"
