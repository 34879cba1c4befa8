"""The report's way: torchvision's dataset, a DataLoader, loss and accuracy read at every batch."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn import functional
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import FashionMNIST
from torchvision.transforms import ToTensor

from optsweep.benchmark.images import Images
from optsweep.benchmark.network import initial_weights, mean_loss
from optsweep.benchmark.peers import Outcome
from optsweep.benchmark.peers.torch_eager import optimizer_of, sequential, weights_of
from optsweep.benchmark.tasks import Task
from optsweep.config.schema import DatasetConfig
from optsweep.data.files import FILES, FileSet, load_contents


class TimedPeer:
    """Times the loop that the report's notebook has, with `ToTensor` on every image."""

    def __init__(self, images: Images, dataset: DatasetConfig) -> None:
        """See `Peer`; the files are put where torchvision looks for them."""
        self.images = images
        source = {key: value for key, value in dataset.source.items() if key != "_target_"}
        contents = load_contents(FileSet(dataset.name, root=dataset.root, **source))
        with tempfile.TemporaryDirectory() as root:
            folder = Path(root, "FashionMNIST", "raw")
            folder.mkdir(parents=True)
            for file in FILES:
                (folder / file).write_bytes(contents[file])
            self.data = FashionMNIST(root, train=True, transform=ToTensor())

    def prepare(self, task: Task) -> float:
        """See `Peer`; nothing is compiled."""
        few = min(task.num_examples, max(task.batch_size, 100))
        self.train(dataclasses.replace(task, num_examples=few), [0])
        return 0.0

    def train(self, task: Task, seeds: Sequence[int]) -> Outcome:
        """See `Peer`."""
        images = self.images.first(task.num_examples)
        torch.manual_seed(seeds[0])
        model = sequential(initial_weights(seeds[0], images.pixels.shape[1], images.num_classes))
        optimizer = optimizer_of(task, model.parameters())
        data = Subset(self.data, range(task.num_examples))
        started = time.perf_counter()
        for x, y in DataLoader(data, batch_size=task.batch_size, shuffle=True):
            logits = model(x.flatten(1))
            loss = functional.cross_entropy(logits, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item(), (logits.argmax(1) == y).float().mean().item()
        seconds = time.perf_counter() - started
        losses = [mean_loss(weights_of(model), images.pixels, images.labels)]
        return Outcome(seconds, losses)
