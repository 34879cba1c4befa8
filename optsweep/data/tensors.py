"""A dataset as tensors that stay on the device, and the order in which each epoch visits it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from optsweep.config.checks import InputError
from optsweep.config.dataset import DatasetConfig
from optsweep.data.arrays import load_arrays

# First word of every seed sequence: keeps what is drawn here independent of what else is
# drawn from the same seed, such as the initialisation's torch.Generator().manual_seed(seed).
_ORDER_STREAM = 0x0DE5
_VAL_STREAM = 0x7A11


@dataclass(frozen=True)
class Split:
    """Examples with their labels, all on one device."""

    images: torch.Tensor  # (N, *input_shape), pixels in [0, 1] or floats as they were given
    labels: torch.Tensor  # (N,) int64

    @property
    def flat(self) -> torch.Tensor:
        """(N, inputs), a view."""
        return self.images.flatten(1)

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """The training, validation (None if nothing is held out) and test examples."""

    train: Split
    val: Split | None
    test: Split
    num_classes: int


def load_dataset(config: DatasetConfig, device: torch.device, dtype: torch.dtype) -> Dataset:
    """Load the dataset and put it on `device`, fetching its files if need be.

    Pixels are bytes / 255, to the bit what torchvision's ToTensor makes of them; floats are
    as they are given. Training examples are in the order of their file; those held out are
    left out.

    Args:
        config: Which data, and how many examples are held out.
        device: Where the tensors stay.
        dtype: Of the images.

    Raises:
        InputError: If the data are missing or corrupt, or if val_size is not in
            0 … num_train - num_classes.
    """
    most = config.num_train - config.num_classes
    if not 0 <= config.val_size <= most:
        raise InputError(f"dataset.val_size={config.val_size}: expected 0 to {most}")
    images, labels, test_images, test_labels = load_arrays(config)
    val = None
    if config.val_size:
        held_out = val_mask(labels, config.val_size, config.val_seed)
        val = _split(images[held_out], labels[held_out], device, dtype)
        # Bytes are gathered here, a quarter or an eighth of the size of the floats.
        images, labels = images[~held_out], labels[~held_out]
    images, labels = images[: config.train_size], labels[: config.train_size]
    return Dataset(
        train=_split(images, labels, device, dtype),
        val=val,
        test=_split(test_images, test_labels, device, dtype),
        num_classes=config.num_classes,
    )


def val_mask(labels: np.ndarray, val_size: int, val_seed: int) -> np.ndarray:
    """Choose the held-out examples, each class by its share of all examples.

    Class c with n_c of the N examples gives val_size * n_c / N, rounded down; what is then
    short of val_size comes from the classes with the largest remainders, one each, the lower
    class first among equals.

    Args:
        labels: (N,) classes, integers from 0.
        val_size: Number of examples to hold out.
        val_seed: Decides, alone, which examples of each class.

    Returns:
        (N,) bool, True where held out.
    """
    shares, remainders = np.divmod(val_size * np.bincount(labels), len(labels))
    largest = np.argsort(-remainders, kind="stable")
    shares[largest[: val_size - shares.sum()]] += 1
    generator = _generator(_VAL_STREAM, val_seed)
    mask = np.zeros(len(labels), dtype=bool)
    for label, share in enumerate(shares):
        members = np.flatnonzero(labels == label)
        chosen = torch.randperm(len(members), generator=generator)[:share]
        mask[members[chosen.numpy()]] = True
    return mask


def epoch_orders(
    seeds: Sequence[int], epoch: int, num_examples: int, device: torch.device
) -> torch.Tensor:
    """Draw the order in which each seed visits the training examples in one epoch.

    A row depends on its seed and the epoch alone: not on the other seeds of the stack, nor
    on the device, since it is drawn on the CPU, nor on earlier draws.

    Args:
        seeds: The S seeds of the stack, >= 0.
        epoch: Number of the epoch, >= 0.
        num_examples: N.
        device: Where the result is wanted.

    Returns:
        (S, N) int64, a permutation of 0 … N - 1 in each row.

    >>> epoch_orders([0, 1], epoch=1, num_examples=4, device="cpu").sort().values.tolist()
    [[0, 1, 2, 3], [0, 1, 2, 3]]
    """
    orders = torch.empty((len(seeds), num_examples), dtype=torch.int64)
    for row, seed in zip(orders, seeds, strict=True):
        torch.randperm(num_examples, generator=_generator(_ORDER_STREAM, seed, epoch), out=row)
    return orders.to(device)


def _generator(*key: int) -> torch.Generator:
    # Neighbouring seeds and epochs are hashed apart.
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


def _split(
    images: np.ndarray, labels: np.ndarray, device: torch.device, dtype: torch.dtype
) -> Split:
    if images.dtype != np.uint8:
        return Split(torch.tensor(images, dtype=dtype).to(device), torch.tensor(labels).to(device))
    # Moved as bytes, so that there is never more than one copy in floats. Divided by a tensor
    # of the device: CUDA turns a division by a number into a product, which rounds otherwise.
    pixels = torch.tensor(images).to(device).to(dtype)
    pixels.div_(torch.tensor(255, dtype=dtype, device=device))
    return Split(pixels, torch.tensor(labels).to(device))
