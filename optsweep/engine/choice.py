"""Which engine trains a cell: the one that was asked for, or the cheapest of those that can."""

from __future__ import annotations

from typing import NamedTuple

from optsweep.config.checks import InputError
from optsweep.engine import Work, compiled, graph, reference

ENGINES = {"numba": compiled, "torch": reference, "torch_graph": graph}
AUTOMATIC = ("numba", "torch")  # those that `auto` chooses among
# What trains in place of an engine that was asked for and cannot: the same steps, called singly.
_SUBSTITUTES = {"torch_graph": "torch"}


class Choice(NamedTuple):
    """An engine's name, and why it is not another one."""

    name: str
    reason: str = ""

    def __str__(self) -> str:
        """The name, and the reason if there is one."""
        return f"{self.name} ({self.reason})" if self.reason else self.name


def choose_engine(work: Work, wanted: str) -> Choice:
    """Choose by what engines support and what an epoch costs there.

    Args:
        work: What has to be done.
        wanted: An engine's name, or `auto`.

    Raises:
        InputError: If the engine that is wanted cannot do the work, nor can one in its place.
    """
    if wanted != "auto":
        refusal = ENGINES[wanted].supports(work)
        if refusal and wanted in _SUBSTITUTES:
            return Choice(_SUBSTITUTES[wanted], refusal)
        if refusal:
            raise InputError(f"trainer.engine={wanted}: {refusal}; auto takes another")
        return Choice(wanted)
    refusals = {name: ENGINES[name].supports(work) for name in AUTOMATIC}
    able = [name for name, refusal in refusals.items() if not refusal]
    best = min(able, key=lambda name: ENGINES[name].seconds_per_epoch(work))
    others = (refusals[name] or f"{name} would be slower" for name in AUTOMATIC if name != best)
    return Choice(best, next(others) if best == "torch" else "")
