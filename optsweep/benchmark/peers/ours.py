"""optsweep itself, by the way that a user's command takes: a configuration, planned and trained."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import hydra

from optsweep.benchmark.images import Images
from optsweep.benchmark.peers import Outcome
from optsweep.benchmark.tasks import Task
from optsweep.cli.composition import config_dir, to_config
from optsweep.cli.overrides import rewrite
from optsweep.config.schema import Config, DatasetConfig
from optsweep.training.cell import train_cell
from optsweep.training.plan import plan_cell

_FEW = 2000  # examples of a job in which what it compiles takes longer than training


class TimedPeer:
    """Times jobs; other peers are compared with the seconds that go into history.csv."""

    def __init__(self, images: Images, dataset: DatasetConfig) -> None:
        """See `Peer`; a job loads its images itself."""
        del images
        self.dataset = dataset
        self.compile_seconds = 0.0

    def prepare(self, task: Task) -> float:
        """See `Peer`: by how much a first small job takes longer than a second one.

        What is compiled serves every cell of a process, and the first job pays for it.
        """
        few = min(task.num_examples, _FEW)
        small = self._config(dataclasses.replace(task, num_examples=few), seed=0)
        torch = dataclasses.replace(small.trainer, engine="torch")
        _wall_seconds(dataclasses.replace(small, trainer=torch, num_seeds=1))  # loads the images
        first, second = (_wall_seconds(small) for _ in range(2))
        self.compile_seconds = max(self.compile_seconds, first - second)
        _wall_seconds(self._config(dataclasses.replace(task, num_seeds=1), seed=0))
        return self.compile_seconds

    def train(self, task: Task, seeds: Sequence[int]) -> Outcome:
        """See `Peer`."""
        config = self._config(task, seeds[0])
        started = time.perf_counter()
        record = train_cell(plan_cell(config))
        job_seconds = time.perf_counter() - started
        finals = [seed["final_train_loss"] for seed in record.result["per_seed"]]
        losses = [float("nan") if loss is None else loss for loss in finals]
        seconds = record.history[-1]["seconds"]
        return Outcome(seconds, losses, job_seconds, record.result["engine"])

    def _config(self, task: Task, seed: int) -> Config:
        with hydra.initialize_config_dir(str(config_dir())):
            overrides = rewrite([f"seed={seed}", *task.overrides], config_dir())
            config = to_config(hydra.compose("config", overrides))
        # The images may be others than the default ones, whose number is not theirs.
        size = None if task.num_examples == self.dataset.num_train else task.num_examples
        return dataclasses.replace(
            config, dataset=dataclasses.replace(self.dataset, train_size=size)
        )


def _wall_seconds(config: Config) -> float:
    started = time.perf_counter()
    train_cell(plan_cell(config))
    return time.perf_counter() - started
