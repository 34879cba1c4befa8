"""Which engine trains a cell, and on what: as was asked for, or the cheapest that can."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch

from optsweep.config.checks import InputError
from optsweep.config.schema import MLPConfig
from optsweep.engine import Work, compiled, graph, reference
from optsweep.engine.costs import cuda_mlp_seconds
from optsweep.engine.speeds import Speeds

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


def choose_device(work: Work, wanted: str, speeds: Speeds) -> tuple[Work, Choice]:
    """Choose between a GPU and the CPU by what an epoch costs there.

    Of networks other than perceptrons no cost is known: they are trained on the GPU.

    Args:
        work: What has to be done, on a GPU.
        wanted: An engine's name, or `auto`.
        speeds: Of the GPU and the CPU.

    Returns:
        The work where it is cheaper, and the engine, with both costs as its reason.

    Raises:
        InputError: If the engine that is wanted can do the work on neither.
    """
    here = replace(work, device=torch.device("cpu"))
    if wanted == "numba":  # which is for the CPU alone
        return here, choose_engine(here, wanted)
    if wanted == "torch_graph" or not isinstance(work.model, MLPConfig):
        return work, choose_engine(work, wanted)
    on_cpu = choose_engine(here, wanted)
    cpu_seconds = speeds.cpu_factor * ENGINES[on_cpu.name].seconds_per_epoch(here)
    gpu_seconds = cuda_mlp_seconds(work, speeds)
    costs = f"an epoch takes about {cpu_seconds:.2g} s on the CPU, {gpu_seconds:.2g} on cuda"
    if cpu_seconds <= gpu_seconds:
        return here, on_cpu._replace(reason=costs)
    return work, choose_engine(work, wanted)._replace(reason=costs)
