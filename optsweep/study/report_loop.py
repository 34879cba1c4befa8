"""The lab report's own way to train, timed with and without what surrounds the arithmetic."""

from __future__ import annotations

import io
import multiprocessing
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn
from torch.utils import data
from torchvision.transforms import ToTensor

from optsweep.config.dataset import DatasetConfig
from optsweep.data.tensors import Split, load_dataset
from optsweep.models.mlp import MLP
from optsweep.report.loops import BARE, LOOPS, WHOLE, Timing, keep_timings
from optsweep.report.wording import count
from optsweep.runs import LOOPS_FILE
from optsweep.surroundings import OtherCores

BATCH_SIZES = (256, 500, 1000)
NUM_REPEATS = 5  # as few as a verdict takes
_BATCHES_PER_FIGURE = 50
_STYLES = {"train loss": "-", "train acc": "m--", "test acc": "g-."}

Batches = Iterable[tuple[Tensor, Tensor]]


def measure_loops(
    folder: Path,
    dataset: DatasetConfig,
    say: Callable[[str], None],
    num_repeats: int = NUM_REPEATS,
) -> None:
    """Time the loops, each repeat in a process of its own, unless that is done.

    Args:
        folder: Of the runs.
        dataset: On which they train.
        say: Told what is being done.
        num_repeats: Processes.
    """
    if (folder / LOOPS_FILE).exists():
        return
    say(f"timing the report's own loop, {count(num_repeats, 'process', 'processes')}")
    spawn = multiprocessing.get_context("spawn")
    timings: list[Timing] = []
    for repeat in range(num_repeats):
        with ProcessPoolExecutor(1, spawn) as process:
            timings += process.submit(time_loops, dataset, repeat).result()
    keep_timings(folder, timings)


def time_loops(dataset: DatasetConfig, repeat: int) -> list[Timing]:
    """Time an epoch of every loop with every batch size, in an order that the repeat decides."""
    loaded = load_dataset(dataset, torch.device("cpu"), torch.float32)
    tasks = [(loop, size) for loop in LOOPS for size in BATCH_SIZES]
    random.Random(repeat).shuffle(tasks)
    train_epoch(loaded.train, loaded.test, BARE, BATCH_SIZES[0])  # warms up
    timings = []
    for loop, size in tasks:
        others, started = OtherCores(), time.perf_counter()
        train_epoch(loaded.train, loaded.test, loop, size)
        seconds = time.perf_counter() - started
        timings.append(Timing(repeat, loop, size, seconds, others.mean()))
    return timings


def train_epoch(train: Split, test: Split, loop: str, batch_size: int) -> tuple[float, float]:
    """Train plain SGD for an epoch as the report does.

    Args:
        train: Images (N, 1, height, width) with their labels.
        test: Images that are evaluated after it.
        loop: One of `LOOPS`.
        batch_size: Images of a step.

    Returns:
        The train loss, averaged over the epoch, and the test accuracy behind it.
    """
    torch.manual_seed(0)
    batches = _in_memory if loop == BARE else _through_loader
    train_batches, test_batches = batches(train, batch_size, True), batches(test, batch_size, False)
    model = MLP(train.flat.shape[1], 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    figure = _LiveFigure() if loop == WHOLE else None
    num_batches = -(-len(train) // batch_size)
    loss_sum, num_right, num_seen = 0.0, 0.0, 0
    for i, (images, labels) in enumerate(train_batches):
        model.train()
        optimizer.zero_grad()
        logits = model(images)
        loss = nn.functional.cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()
        loss_sum += loss.item() * len(labels)
        num_right += float((logits.argmax(1) == labels).sum())
        num_seen += len(labels)
        if figure and (i + 1) % _BATCHES_PER_FIGURE == 0:
            figure.add(i / num_batches, (loss_sum / num_seen, num_right / num_seen, None))
    model.eval()
    with torch.no_grad():
        right = [float((model(x).argmax(1) == y).sum()) for x, y in test_batches]
    test_accuracy = sum(right) / len(test)
    if figure:
        figure.add(1, (None, None, test_accuracy))
    return loss_sum / num_seen, test_accuracy


class _Pictures(data.Dataset[tuple[Tensor, int]]):
    """Images as torchvision's data sets give them: one by one, from bytes, by way of PIL."""

    def __init__(self, split: Split) -> None:
        self.pixels = (split.images[:, 0] * 255).round().byte().numpy()
        self.labels = split.labels.tolist()
        self.transform = ToTensor()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), self.labels[index]


def _through_loader(split: Split, batch_size: int, shuffle: bool) -> Batches:
    """Batches of a DataLoader with no processes of its own, which is its default."""
    return data.DataLoader(_Pictures(split), batch_size, shuffle=shuffle)


def _in_memory(split: Split, batch_size: int, shuffle: bool) -> Iterator[tuple[Tensor, Tensor]]:
    order = torch.randperm(len(split)) if shuffle else torch.arange(len(split))
    for chosen in order.split(batch_size):
        yield split.images[chosen], split.labels[chosen]


class _LiveFigure:
    """Three curves, drawn anew with every point as a notebook shows them: as SVG."""

    def __init__(self) -> None:
        self.figure = Figure(figsize=(3.5, 2.5))
        self.axes = self.figure.subplots()
        self.points: dict[str, list[tuple[float, float]]] = {name: [] for name in _STYLES}

    def add(self, x: float, values: Sequence[float | None]) -> None:
        """Add a point to each curve that has a value, and draw."""
        self.axes.clear()
        for (name, style), y in zip(_STYLES.items(), values, strict=True):
            if y is not None:
                self.points[name].append((x, y))
            xs, ys = [x for x, _ in self.points[name]], [y for _, y in self.points[name]]
            self.axes.plot(xs, ys, style, label=name)
        self.axes.set(xlabel="epoch")
        self.axes.legend()
        self.axes.grid()
        self.figure.savefig(io.BytesIO(), format="svg")
