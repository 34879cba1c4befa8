"""PyTorch without its host: the step as a graph, which a GPU replays by itself.

An eager step is some forty calls, each of which costs the host more than a GPU needs for it where
networks are small. Here the host fills a few tables once an epoch (orders of the examples,
learning rates), and the step reads its rows of them by a counter that it advances itself; so that
many steps can be captured once, as a `torch.cuda.CUDAGraph`, and launched as one. On a CPU, where
nothing can be captured, the same step is called as often: it is there to be tested.

Untested on CUDA: `auto` never chooses it. What cannot be captured is trained by `torch`.
"""

from __future__ import annotations

from optsweep.engine import Work
from optsweep.engine.graph.engine import build
from optsweep.engine.graph.trial import why_not
from optsweep.engine.reference import seconds_per_epoch

__all__ = ["build", "prepare", "seconds_per_epoch", "supports"]


def supports(work: Work) -> str:
    """Why it cannot do the work; empty if it can. Some of it is tried: it takes 0.1 seconds."""
    if work.device.type not in ("cpu", "cuda"):
        return f"torch_graph is for cuda, and emulated on cpu; trainer.device={work.device}"
    if work.cycled:
        return f"torch_graph changes the learning rate alone, this schedule {work.cycled[0]} too"
    return why_not(work)


def prepare() -> str:
    """Nothing is left to be imported, nor is there anything to say."""
    return ""
