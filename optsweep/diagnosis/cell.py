"""The diagnosis of a cell: its checkpoints one after the other, each seed on its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from optsweep import runs
from optsweep.config.checks import InputError
from optsweep.config.schema import Config, MLPConfig
from optsweep.data.tensors import Dataset, load_dataset
from optsweep.diagnosis import records
from optsweep.diagnosis.done import Asked
from optsweep.diagnosis.examination import examine
from optsweep.diagnosis.forks import (
    FORKS,
    horizons,
    training_curvature,
    training_gradient,
)
from optsweep.diagnosis.operators import MeanLoss
from optsweep.diagnosis.settings import Settings
from optsweep.diagnosis.states import state_of_seed
from optsweep.diagnosis.subject import NetworkLoss
from optsweep.diagnosis.walker import Batches, Method, Walker
from optsweep.models.constructor import constructor, name_of
from optsweep.models.probe import probe
from optsweep.optim.rates import timetable
from optsweep.optim.resolved import resolve_optimizer, spare_compiler
from optsweep.training.checkpoints import Snapshot, read
from optsweep.training.loading import build_network
from optsweep.training.plan import DTYPES, find_device

_SEED = 0xD1A6  # of what is drawn here, with the cell's own seed
_SETTLING = 10  # steps after a small batch


@dataclass(frozen=True)
class Progress:
    """How far a diagnosis is.

    Attributes:
        done: Examinations that are done.
        total: All of them.
        epoch: The checkpoint.
        seed: Whose.
        what: Is being done.
    """

    done: int
    total: int
    epoch: int
    seed: int
    what: str


class Diagnosis:
    """What is going to be examined in a cell, and what it takes.

    Attributes:
        epochs: The checkpoints.
        seeds: The seeds.
        notes: What a user should know of.
    """

    def __init__(self, directory: Path, settings: Settings) -> None:
        """Look at the weights that a cell has kept.

        Raises:
            InputError: If it has kept none, or they cannot be read.
        """
        spare_compiler()
        self._directory = directory
        self._settings = settings
        self._config = runs.read_config(directory)
        self._asked = Asked.of(directory, self._config, settings)
        if not self._asked.epochs:
            raise InputError(
                f"{directory}: this cell has kept no weights; train it with diagnose=curvature, "
                "or with trainer.keep_weights=all"
            )
        self.epochs, self.seeds = self._asked.epochs, self._asked.seeds
        self.notes: list[str] = []
        self._device = find_device(self._config.trainer.device)
        self._optimizer = resolve_optimizer(self._config.optimizer)
        trainer = self._config.trainer
        self._rates, _ = timetable(
            self._config.scheduler,
            self._optimizer.lr,
            trainer.epochs,
            self._config.steps_per_epoch,
            self._optimizer.settings(),
        )

    @property
    def missing(self) -> list[int]:
        """The checkpoints that were not examined in the same way before."""
        return self._asked.missing

    def expected_seconds(self) -> float:
        """What it will take, from the time of a product and of a step."""
        snapshot = self._read(self.epochs[-1])
        subject = self._subject(snapshot, 0, self._dataset())
        settings, trainer = self._settings, self._config.trainer
        count = min(settings.examples or subject.num_examples, subject.num_examples)
        some = torch.arange(min(count, 1000))
        point, vector = subject.start, torch.randn_like(subject.start)
        product = MeanLoss(subject, some).hessian(point)
        batch = torch.arange(min(trainer.batch_size, subject.num_examples))
        loss = MeanLoss(subject, some)
        product(vector), training_gradient(subject, point, batch), loss.value(point)  # warm up
        of_product = _seconds(lambda: product(vector)) * count / len(some)
        of_value = _seconds(lambda: loss.value(point)) * count / len(some)
        of_step = _seconds(lambda: training_gradient(subject, point, batch))
        long = horizons(settings.steps, self._config.steps_per_epoch, settings.epoch)[-1]
        eight = min(8.0, subject.num_examples / len(batch))
        products = settings.lanczos_steps * settings.probes + 2 * settings.batches + 2
        # A step is its gradient and about half as much for the optimizer.
        steps = (len(FORKS) - 1) * long + settings.steps * eight + 3 * settings.batches
        of_one = products * of_product + 1.5 * steps * of_step + 250 * of_value
        return of_one * len(self.seeds) * len(self.missing)

    def run(self, told: Callable[[Progress], None] = lambda progress: None) -> dict[str, Any]:
        """Examine what is missing, and write all of it.

        Returns:
            The summary, see `records.write`.
        """
        dataset = self._dataset()
        missing = self.missing
        total = len(missing) * len(self.seeds)
        done = 0
        for epoch in missing:
            snapshot = self._read(epoch)
            found = []
            for index, seed in enumerate(self.seeds):
                at = done

                def tell(what: str, at: int = at, epoch: int = epoch, seed: int = seed) -> None:
                    told(Progress(at, total, epoch, seed, what))

                tell("loss")
                if snapshot.alive[index]:
                    found.append(self._examined(snapshot, index, seed, dataset, tell))
                done += 1
            records.write_epoch(self._asked, epoch, found)
        if missing:
            records.write_pixels(self._directory, self._pixels(dataset))
        return records.write(self._asked)

    def _pixels(self, dataset: Dataset) -> list[dict[str, Any]]:
        """How far the first layer's weights of each pixel have moved since the first checkpoint.

        Told is the root mean square over units and seeds that are alive.
        """
        images = dataset.train.flat
        lit = (torch.count_nonzero(images, dim=0).double() / len(images)).tolist()
        start: Tensor | None = None
        rows: list[dict[str, Any]] = []
        for epoch in self.epochs:
            snapshot = self._read(epoch)
            first = next(iter(snapshot.tensors.values()))
            if first.ndim != 3 or first.shape[2] != len(lit) or not any(snapshot.alive):
                return rows
            start = first if start is None else start
            squares = (first - start)[snapshot.alive].square()
            moved = squares.mean((0, 1)).sqrt().tolist()
            rows += [
                {"epoch": epoch, "pixel": pixel, "nonzero_fraction": lit[pixel], "moved": each}
                for pixel, each in enumerate(moved)
            ]
        return rows

    def _examined(
        self,
        snapshot: Snapshot,
        index: int,
        seed: int,
        dataset: Dataset,
        tell: Callable[[str], None],
    ) -> dict[str, Any]:
        subject = self._subject(snapshot, index, dataset)
        epoch = min(snapshot.epoch, len(self._rates) - 1)
        method = Method(
            self._optimizer.build,
            self._optimizer.target,
            float(self._rates[epoch][0]),
            self._config.trainer.batch_size,
            self._optimizer.arguments,
            state_of_seed(snapshot, index, subject.shapes),
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # of dropout in forks
            point, method = self._settled(subject, method, seed)
            found = examine(subject, point, method, self._settings, _SEED + seed, tell)
        note = f"the optimizer {self._optimizer.target.__name__} begins anew in forks"
        if not found.has_state and note not in self.notes:
            self.notes.append(note)
        return records.record(seed, found)

    def _settled(self, subject: NetworkLoss, method: Method, seed: int) -> tuple[Tensor, Method]:
        """Where a checkpoint is examined: a few steps on, if its last one was of few examples.

        10,000 examples in batches of 256 leave one of 16, whose noise is four times as large: it
        throws the loss up at the end of each epoch, and whatever is done then, it falls.
        """
        rest = subject.num_examples % method.batch_size
        if not 0 < rest < method.batch_size / 2:
            return subject.start, method
        walker = Walker(method, subject.start, subject.shapes)
        batches = Batches(subject.num_examples, _SEED - seed)
        for step in range(_SETTLING):
            batch = batches.at(step, method.batch_size)
            curvature = training_curvature(subject, walker.point, batch)
            walker.step(training_gradient(subject, walker.point, batch), curvature=curvature)
        return walker.point, replace(method, state=walker.state())

    def _subject(self, snapshot: Snapshot, index: int, dataset: Dataset) -> NetworkLoss:
        network = build_network(self._config, snapshot, index).to(self._device)
        return NetworkLoss(network, dataset.train, _num_activations(self._config))

    def _read(self, epoch: int) -> Snapshot:
        path = runs.weights_file(self._directory, epoch)
        snapshot, _ = read(path)
        if snapshot.cell != self._asked.cell:
            raise InputError(
                f"{path} is of another cell than {self._directory / runs.CONFIG_FILE} tells of"
            )
        return snapshot

    def _dataset(self) -> Dataset:
        return load_dataset(
            self._config.dataset, self._device, DTYPES[self._config.trainer.precision]
        )


def _num_activations(config: Config) -> int:
    """Values that a pass keeps of an example."""
    shape, num_classes = config.dataset.input_shape, config.dataset.num_classes
    if isinstance(config.model, MLPConfig):
        return sum(config.model.hidden_sizes) + num_classes
    with torch.random.fork_rng(devices=[]):
        network = constructor(config.model, shape, num_classes)()
        return probe(name_of(config.model), network, shape, num_classes).num_activations


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
