"""Peers: ways to train the same network, one a file, all behind the interface below.

A peer is imported in a process of its own, so that libraries' threads do not meet.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from optsweep.benchmark.images import Images
from optsweep.benchmark.tasks import Task
from optsweep.config.schema import DatasetConfig


class Outcome(NamedTuple):
    """An epoch that was trained.

    Attributes:
        seconds: Wall time of the epoch, all seeds together.
        losses: Of every seed's trained weights on the epoch's images.
        job_seconds: Wall time with all that a job does besides, where a peer has jobs.
        engine: What trained, where a peer has a choice.
    """

    seconds: float
    losses: list[float]
    job_seconds: float | None = None
    engine: str = ""


class Peer(Protocol):
    """Trains networks from fresh weights."""

    def __init__(self, images: Images, dataset: DatasetConfig) -> None:
        """Make the images resident, in the peer's own way."""

    def prepare(self, task: Task) -> float:
        """Compile what the task needs, and warm up.

        Returns:
            Seconds of compilation alone.
        """
        ...

    def train(self, task: Task, seeds: Sequence[int]) -> Outcome:
        """Train a network for each seed and wait until that is done."""
        ...


@dataclass(frozen=True)
class About:
    """What is known of a peer before it is imported.

    Attributes:
        title: Its name in tables and figures.
        module: Of this package.
        packages: What has to be installed: module to what pip calls it.
        parts: Examples that it is timed on, by batch size, where an epoch would take too long.
        stacks: Whether it can train several seeds at once; else ten cost ten times as much.
        note: What differs from the others.
        environment: Variables that have to be set before it is imported.
    """

    title: str
    module: str
    packages: dict[str, str] = field(default_factory=dict)
    parts: dict[int, int] = field(default_factory=dict)
    stacks: bool = False
    note: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    def missing(self) -> list[str]:
        """What pip would have to install."""
        return [
            pip for name, pip in self.packages.items() if importlib.util.find_spec(name) is None
        ]

    def load(self) -> type[Peer]:
        """Import the peer."""
        return importlib.import_module(f"optsweep.benchmark.peers.{self.module}").TimedPeer


# At a batch size of 1 a step of these takes 0.2 to 0.5 ms whatever its data, and an epoch up to
# half a minute.
_SINGLE = {1: 3000}
OURS = "optsweep"
PEERS = {
    OURS: About(
        "optsweep",
        "ours",
        stacks=True,
        note="the public path, optsweep.training.cell, engine auto",
    ),
    "jax": About(
        "JAX, jit + scan",
        "jax_scan",
        {"jax": "jax"},
        stacks=True,
        note="one compiled lax.scan over the epoch, vmap over seeds; orders drawn by NumPy",
    ),
    "torch": About(
        "PyTorch, eager",
        "torch_eager",
        parts=_SINGLE,
        stacks=True,
        note="images resident, autograd, torch.optim with its defaults; ten seeds as a stack "
        "with baddbmm and fused updates",
    ),
    "lightning": About(
        "Lightning",
        "lightning_trainer",
        {"lightning": "lightning"},
        parts=_SINGLE,
        note="TensorDataset and DataLoader, the Trainer without logs, checkpoints and bars",
    ),
    "keras": About(
        "Keras on JAX",
        "keras_jax",
        {"keras": "keras", "jax": "jax"},
        parts=_SINGLE,
        note="Model.fit with jit_compile",
        environment={"KERAS_BACKEND": "jax"},
    ),
    "sklearn": About(
        "scikit-learn",
        "scikit_learn",
        {"sklearn": "scikit-learn"},
        parts=_SINGLE,
        note="MLPClassifier.fit with warm_start, by which it takes the others' initial weights "
        "in place of its own",
    ),
    "report": About(
        "the report's way",
        "torchvision_loader",
        # What it takes is for each image, and 4 s for all of them.
        parts=_SINGLE | dict.fromkeys((32, 256, 1000), 15_000),
        note="torchvision's dataset, DataLoader, loss and accuracy read at every batch",
    ),
}
