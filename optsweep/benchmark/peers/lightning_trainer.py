"""Lightning: a LightningModule, a DataLoader over tensors, and the Trainer stripped of extras."""

from __future__ import annotations

import dataclasses
import logging
import time
import warnings
from collections.abc import Sequence
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from optsweep.benchmark.images import Images
from optsweep.benchmark.network import initial_weights, mean_loss
from optsweep.benchmark.peers import Outcome
from optsweep.benchmark.peers.torch_eager import optimizer_of, sequential, weights_of
from optsweep.benchmark.tasks import Task
from optsweep.config.schema import DatasetConfig


class TimedPeer:
    """Times the Trainer's own epoch, from the hook before it to the hook after it."""

    def __init__(self, images: Images, dataset: DatasetConfig) -> None:
        """See `Peer`."""
        del dataset
        self.images = images
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module="lightning")

    def prepare(self, task: Task) -> float:
        """See `Peer`; nothing is compiled."""
        few = min(task.num_examples, max(task.batch_size, 100))
        self.train(dataclasses.replace(task, num_examples=few), [0])
        return 0.0

    def train(self, task: Task, seeds: Sequence[int]) -> Outcome:
        """See `Peer`."""
        images = self.images.first(task.num_examples)
        torch.manual_seed(seeds[0])
        module = _Module(task, images, seeds[0])
        data = TensorDataset(torch.from_numpy(images.pixels), torch.from_numpy(images.labels))
        trainer = lightning.Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, DataLoader(data, batch_size=task.batch_size, shuffle=True))
        loss = mean_loss(weights_of(module.model), images.pixels, images.labels)
        return Outcome(module.seconds, [loss])


class _Module(lightning.LightningModule):
    def __init__(self, task: Task, images: Images, seed: int) -> None:
        super().__init__()
        self.task = task
        self.model = sequential(initial_weights(seed, images.pixels.shape[1], images.num_classes))
        self.seconds = 0.0

    def training_step(self, batch: tuple[Tensor, Tensor], _index: int) -> Tensor:
        x, y = batch
        return functional.cross_entropy(self.model(x), y)

    def configure_optimizers(self) -> Any:
        return optimizer_of(self.task, self.parameters())

    def on_train_epoch_start(self) -> None:
        self.seconds = -time.perf_counter()

    def on_train_epoch_end(self) -> None:
        self.seconds += time.perf_counter()
