"""Which reason the readings of a checkpoint and its forks agree on; none where they do not.

All rules are on numbers without a unit. A cause is named only if the readings that define it are
there *and* training that was changed against it did what the cause says. Where only one of both
speaks, the verdict is withheld: inconclusive. The rules in their order, each with its threshold
below; a fall is what a fork lowers the loss by, relative to the loss it began with:

1. no signal: the gradient is 0, or nine in ten inputs never change, or nine in ten units of a layer
   are dead, or the loss does not feel the weights' size, as of a deep network that begins too
   small; and no fork moves.
2. saddle or plateau: training is slow, at this rate and at smaller ones; the gradient is small
   (promise), or its line leads nowhere; there is negative curvature, a vanishing Hessian, or a
   gradient that grows on the way down; a way leads down that the slope does not explain; and the
   kicked fork falls further.
3. gradient-flat: slow; the gradient lies in the Hessian's kernel and its line leads down; no
   smaller rate helps, and without the sharpest directions the fall is as large.
4. local minimum: no negative curvature, no way down by lines or forks, nor by Newton's method.
5. noise: smaller rates fall further, and so do larger batches, by half as much at least; and more
   of the budget is noise than curvature, or a batch's gradient is usually noise for the most part.
6. edge of stability, or ill-conditioning: the rate is at its limit, and a larger one fails; but
   without the sharpest directions the larger one falls further. They forbid what all others need,
   and a rate that is too large for them is too small for these. Where no smaller rate helps, it is
   enough that the rate itself falls further without them.
7. rate too large: the rate is at its limit, and smaller rates fall further.
8. rate too small: the larger rate falls half as far again, and is stable by what one step does.
9. not slow: the loss falls, and it falls half as far again at no other rate, with no larger batch
   and after no kick.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from optsweep.diagnosis.readings import (
    BASE,
    BATCH,
    FASTER,
    FREED,
    KICKED,
    PROJECTED,
    SLOWER,
    Readings,
)

RATE_TOO_SMALL = "rate too small"
RATE_TOO_LARGE = "rate too large"
NOISE = "noise"
EDGE = "edge of stability"
SADDLE = "saddle or plateau"
GRADIENT_FLAT = "gradient-flat"
MINIMUM = "local minimum"
NO_SIGNAL = "no signal"
NOT_SLOW = "not slow"
INCONCLUSIVE = "inconclusive"
VERDICTS = (
    *(EDGE, RATE_TOO_LARGE, NOISE, RATE_TOO_SMALL, SADDLE, GRADIENT_FLAT, MINIMUM, NO_SIGNAL),
    *(NOT_SLOW, INCONCLUSIVE),
)

MARGIN = 0.02  # a fork falls further than another if by more than this
SLOW = 0.05  # training is slow if its fall is less, at the last horizon
STILL = 0.01  # nothing happens if no fall is larger
CRITICAL = 1e-3  # the gradient is small if its promise is less
NEGATIVE = 0.01  # curvature is negative below this share of the largest eigenvalue
NOT_NEGATIVE = 1e-3  # and there is none above this share
VANISHING = 0.05  # the Hessian vanishes if its extent is less
ESCAPE = 0.01  # a way leads down if it lowers the loss by more
FLAT = 1e-3  # the gradient lies in the kernel below this flatness
AT_LIMIT = 0.8  # of the stability's limit
NEAR_CRITICAL = 1.5  # multiple of the update; at the edge it is 1
WELL_BELOW = 3.0  # multiple of the update from which a rate three times as large is stable
FURTHER = 1.5  # one fall is half as far again as another
RESOLVED = 1e-4  # a fall that can be told from rounding
DEAD = 0.9  # of a layer's units, or of the inputs
UNFELT = 1e-4  # the weights' effect on the loss; 1e-3 on a plateau that a kick leaves, measured


@dataclass(frozen=True)
class Verdict:
    """A cause, and what decided on it.

    Attributes:
        cause: One of `VERDICTS`.
        decided_by: The readings, with their values.
    """

    cause: str
    decided_by: str


def judge(readings: Readings) -> Verdict:
    """Apply the rules in their order."""
    forks = _Forks(readings)
    if not math.isfinite(readings.loss):
        return Verdict(INCONCLUSIVE, "the loss is not finite")
    for rule in (
        *(_no_signal, _saddle, _gradient_flat, _minimum),
        *(_noise, _edge, _rate_too_large, _rate_too_small, _not_slow),
    ):
        if verdict := rule(readings, forks):
            return verdict
    return Verdict(INCONCLUSIVE, f"no rule applies: {forks.told()}")


class _Forks:
    """Comparisons of forks with the one that changes nothing."""

    def __init__(self, readings: Readings) -> None:
        self._falls = readings.falls
        self.base = self._fall(BASE, last=True)
        self.slower = max(SLOWER, key=self.gain)

    def _fall(self, name: str, last: bool) -> float:
        """At the fork's last horizon, or at its first."""
        falls = self._falls.get(name, {})
        if not falls:
            return -math.inf
        value = falls[max(falls) if last else min(falls)]
        return value if math.isfinite(value) else -math.inf

    def fall(self, name: str) -> float:
        """The larger of its falls, at any horizon."""
        return max(self._fall(name, True), self._fall(name, False))

    def gain(self, name: str, over: str = BASE) -> float:
        """How much further it falls at every horizon; infinite if only the other one fails."""
        own, base = self._falls.get(name, {}), self._falls.get(over, {})
        return min((_beyond(own[end], base[end]) for end in own if end in base), default=-math.inf)

    def resolved_gain(self, name: str, over: str = BASE) -> bool:
        """Whether it falls twice as far, however little that is."""
        own, base = self.fall(name), self._fall(over, last=True)
        return own > RESOLVED and own >= 2 * base and base > 0 and self.gain(name, over) > 0

    def some_gain(self, name: str) -> float:
        """How much further it falls at some horizon."""
        own, base = self._falls.get(name, {}), self._falls.get(BASE, {})
        return max((_beyond(own[end], base[end]) for end in own if end in base), default=-math.inf)

    @property
    def best(self) -> float:
        """The largest fall of all."""
        return max((self.fall(name) for name in self._falls), default=-math.inf)

    def falls_further(self, name: str) -> bool:
        """Whether it falls half as far again at its last horizon."""
        own, base = self._falls.get(name, {}), self._falls.get(BASE, {})
        end = max(own, default=0)
        return end in base and own[end] > FURTHER * base[end]

    @property
    def slow_below(self) -> bool:
        """Whether training is slow at this rate and at smaller ones."""
        return max(self.base, *map(self.fall, SLOWER)) < SLOW

    def told(self, *names: str) -> str:
        """The falls of forks at their last horizon, in words."""
        shown = [name for name in names or self._falls if name in self._falls]
        return ", ".join(f"{name} {_percent(self._fall(name, True))}" for name in shown)


def _percent(fall: float) -> str:
    return f"{fall:+.1%}" if fall > -10 else "grows more than tenfold"


def _beyond(own: float, base: float) -> float:
    if not math.isfinite(own):
        return -math.inf
    return own - base if math.isfinite(base) else math.inf


def _no_signal(r: Readings, forks: _Forks) -> Verdict | None:
    nothing = r.gradient_norm == 0 and r.extent == 0
    unlit = max(r.dead_units, r.constant_inputs) >= DEAD
    if not nothing and not unlit and not r.weight_effect < UNFELT:
        return None
    if max(abs(forks.fall(name)) for name in (BASE, FASTER, *SLOWER, KICKED)) >= STILL:
        return None
    told = f"gradient {r.gradient_norm:.2g}, dead units {r.dead_units:.0%}, "
    told += f"constant inputs {r.constant_inputs:.0%}, the weights' effect {r.weight_effect:.1g}"
    return Verdict(NO_SIGNAL, f"{told}; no rate moves the loss")


def _saddle(r: Readings, forks: _Forks) -> Verdict | None:
    is_critical = r.promise < CRITICAL or r.slope_drop < ESCAPE
    curved = r.smallest + r.residual < -NEGATIVE * abs(r.largest)
    vanishing = r.extent < VANISHING
    if not (is_critical or vanishing) or not (curved or vanishing or r.bending < 0):
        return None
    if not forks.slow_below or r.escape_drop <= ESCAPE:
        return None
    told = (
        f"promise {r.promise:.1g}, its line falls by {r.slope_drop:.1%}, "
        f"eigenvalues {r.smallest:.2g} to {r.largest:.2g}, a way down by {r.escape_drop:.0%}; "
        f"{forks.told(BASE, KICKED)}"
    )
    if forks.some_gain(KICKED) <= MARGIN:
        return Verdict(INCONCLUSIVE, f"a saddle by its readings, but no kick helps: {told}")
    if forks.gain(FASTER) > MARGIN and r.bending > 0 and not curved:
        return Verdict(INCONCLUSIVE, f"a saddle by its readings, but the rate is small: {told}")
    return Verdict(SADDLE, told)


def _gradient_flat(r: Readings, forks: _Forks) -> Verdict | None:
    if r.flatness >= FLAT or r.slope_drop <= ESCAPE or forks.base >= SLOW:
        return None
    told = f"‖Hg‖/(λ‖g‖) {r.flatness:.1g}, its line falls by {r.slope_drop:.0%}"
    if max(map(forks.gain, SLOWER)) > MARGIN or abs(forks.gain(PROJECTED)) > MARGIN:
        return Verdict(INCONCLUSIVE, f"gradient-flat by its readings, but {forks.told()}")
    return Verdict(GRADIENT_FLAT, f"{told}; {forks.told(BASE, PROJECTED)}")


def _minimum(r: Readings, forks: _Forks) -> Verdict | None:
    sharp = max(abs(r.largest), abs(r.smallest))
    if r.smallest < -NOT_NEGATIVE * sharp - r.residual or r.bending < -NOT_NEGATIVE * sharp:
        return None
    if max(r.escape_drop, r.slope_drop, forks.best) >= STILL or r.promise >= CRITICAL:
        return None
    if forks.resolved_gain(FASTER) or not r.decrement < STILL:
        return None
    told = f"eigenvalues {r.smallest:.2g} to {r.largest:.2g}, promise {r.promise:.1g}"
    return Verdict(MINIMUM, f"{told}; no fork falls by more than {max(forks.best, 0):.1%}")


def _noise(r: Readings, forks: _Forks) -> Verdict | None:
    gain = forks.gain(forks.slower)
    if gain <= MARGIN or forks.gain(BATCH) <= max(MARGIN, 0.5 * min(gain, 1.0)):
        return None
    is_noisy = r.noise > max(r.curvature, 0.0) or _usual_noise(r) > r.batch_size
    return Verdict(NOISE, _told_of_smaller(r, forks)) if is_noisy else None


def _usual_noise(r: Readings) -> float:
    """The noise scale by the mean ‖g‖² on the way: where training swings, one is but a draw."""
    return r.noise_scale / r.swing if r.swing > 0 else math.inf


def _edge(r: Readings, forks: _Forks) -> Verdict | None:
    if not _is_at_limit(r) or forks.some_gain(FASTER) > -MARGIN:
        return None
    freed = max(forks.gain(FREED), forks.gain(FREED, PROJECTED)) > MARGIN
    freed |= forks.resolved_gain(FREED, PROJECTED)
    helped = forks.gain(PROJECTED) > MARGIN and forks.gain(forks.slower) <= MARGIN
    if not freed and not helped:
        return None
    told = f"{forks.told(BASE, FASTER, PROJECTED, FREED, forks.slower)}; "
    told += f"stability {r.stability:.2f}, critical multiple {r.critical_multiple:.2g}"
    return Verdict(EDGE, told)


def _rate_too_large(r: Readings, forks: _Forks) -> Verdict | None:
    if forks.gain(forks.slower) <= MARGIN:
        return None
    told = f"{_told_of_smaller(r, forks)}; {forks.told(FREED)}"
    return Verdict(RATE_TOO_LARGE if _is_at_limit(r) else INCONCLUSIVE, told)


def _told_of_smaller(r: Readings, forks: _Forks) -> str:
    return (
        f"{forks.told(BASE, forks.slower, BATCH)}; stability {r.stability:.2f}, "
        f"critical multiple {r.critical_multiple:.2g}, "
        f"budget: curvature {r.curvature:.2g}, noise {r.noise:.2g}, "
        f"noise scale {r.noise_scale:.2g}, by the usual gradient {_usual_noise(r):.2g}, "
        f"at {r.batch_size:.0f} examples"
    )


def _rate_too_small(r: Readings, forks: _Forks) -> Verdict | None:
    further = forks.gain(FASTER) > MARGIN and forks.fall(FASTER) > FURTHER * forks.base
    if not further and not forks.resolved_gain(FASTER):
        return None
    told = f"{forks.told(BASE, FASTER)}; critical multiple {r.critical_multiple:.2g}"
    stable = r.critical_multiple >= WELL_BELOW and not r.stability > AT_LIMIT
    return Verdict(RATE_TOO_SMALL if stable else INCONCLUSIVE, told)


def _not_slow(r: Readings, forks: _Forks) -> Verdict | None:
    if forks.base < SLOW or any(map(forks.falls_further, (FASTER, *SLOWER, BATCH, KICKED))):
        return None
    return Verdict(NOT_SLOW, forks.told(BASE, FASTER, *SLOWER))


def _is_at_limit(r: Readings) -> bool:
    return r.stability >= AT_LIMIT or r.critical_multiple <= NEAR_CRITICAL
