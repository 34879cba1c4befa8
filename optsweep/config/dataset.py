"""The part of a configuration that says which images are trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from optsweep.config.checks import InputError, integer, known_keys


@dataclass(frozen=True)
class DatasetConfig:
    """Which images, where their files are, and how many are held out for validation."""

    name: str = "fashion_mnist"
    num_train: int = 60_000
    num_test: int = 10_000
    num_classes: int = 10
    torchvision_class: str | None = None
    debian_package: str | None = None
    debian_folder: str | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)
    gz_sha256: Mapping[str, str] = field(default_factory=dict)
    root: str | None = None
    val_size: int = 0
    val_seed: int = 0
    train_size: int | None = None  # None: all that are not held out

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Axes of an example."""
        return (1, 28, 28)

    @property
    def num_train_examples(self) -> int:
        """Training examples of an epoch."""
        return self.train_size or self.num_train - self.val_size


def dataset_config(values: Mapping[str, Any]) -> DatasetConfig:
    """Validate the `dataset` part of a composed configuration.

    Raises:
        InputError: If a key is unknown or a value cannot be used.
    """
    known_keys("dataset.", values, [f.name for f in dataclasses.fields(DatasetConfig)])
    config = dataclasses.replace(DatasetConfig(), **values)
    root = config.root
    if root is not None and (not isinstance(root, str) or not root):
        raise InputError(f"dataset.root={root}: expected a folder's path, or null")
    for key in ("num_train", "num_test", "num_classes"):
        integer(f"dataset.{key}", getattr(config, key), 1, 10**9)
    # At least one training example of each class has to remain.
    most = config.num_train - config.num_classes
    integer("dataset.val_size", config.val_size, 0, most)
    integer("dataset.val_seed", config.val_seed, 0, 2**31 - 1)
    if not config.val_size:
        config = dataclasses.replace(config, val_seed=0)  # it chooses nothing
    if config.train_size is not None:
        there = config.num_train - config.val_size
        size = integer("dataset.train_size", config.train_size, 1, there, "training examples")
        config = dataclasses.replace(config, train_size=size if size < there else None)
    return config
