"""The training images as NumPy arrays, for peers that should not have to load PyTorch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from optsweep.config.schema import DatasetConfig
from optsweep.data.arrays import load_arrays


class Images(NamedTuple):
    """Training examples.

    Attributes:
        pixels: (N, inputs) float32 in [0, 1].
        labels: (N,) int64.
        num_classes: Of the labels.
    """

    pixels: np.ndarray
    labels: np.ndarray
    num_classes: int

    def first(self, num_examples: int) -> Images:
        """The first examples, without a copy."""
        return Images(self.pixels[:num_examples], self.labels[:num_examples], self.num_classes)


def load_images(config: DatasetConfig) -> Images:
    """Load the training images that optsweep itself would train on.

    Raises:
        InputError: If the data are missing or corrupt.
    """
    arrays = load_arrays(config)
    pixels = arrays.train_images.reshape(config.num_train, -1) / np.float32(255)
    return Images(pixels.astype(np.float32, copy=False), arrays.train_labels, config.num_classes)
