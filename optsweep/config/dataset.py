"""The part of a configuration that says which examples are trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optsweep.config.checks import InputError, integer, known_keys, name

IDX = "optsweep.data.sources.idx"
_IDX_ARGUMENTS: dict[str, Any] = {
    "torchvision_class": None,
    "debian_package": None,
    "debian_folder": None,
    "sha256": {},
    "gz_sha256": {},
}
_IDX_SHAPE = (1, 28, 28)


@dataclass(frozen=True)
class DatasetConfig:
    """Which examples, where they come from, and how many are held out for validation.

    What the data hold (from `num_train` to `checksum`) is stated in the YAML of a dataset or, if
    not, found out by `optsweep.data.arrays.complete` before there is a configuration.

    Attributes:
        name: In the names of run directories; for IDX files also that of a folder under `root`.
        source: The dotted `_target_` of a function that returns arrays, and its arguments.
        num_train: Examples of the training arrays.
        num_test: Examples of the test arrays.
        num_classes: Labels are 0 to num_classes - 1.
        input_shape: Of one example, channels first.
        checksum: SHA-256 of the arrays; None for IDX files, whose own are in the source.
        root: Folder in which a source looks for its files; None: the user's cache folder.
        val_size: Training examples that are held out.
        val_seed: Which ones.
        train_size: How many of the others are trained on; None: all.
    """

    name: str = "fashion_mnist"
    source: Mapping[str, Any] = field(default_factory=lambda: {"_target_": IDX, **_IDX_ARGUMENTS})
    num_train: int = 60_000
    num_test: int = 10_000
    num_classes: int = 10
    input_shape: tuple[int, ...] = _IDX_SHAPE
    checksum: str | None = None
    root: str | None = None
    val_size: int = 0
    val_seed: int = 0
    train_size: int | None = None

    @property
    def num_train_examples(self) -> int:
        """Training examples of an epoch."""
        return self.train_size or self.num_train - self.val_size

    def to_mapping(self) -> dict[str, Any]:
        """Plain data that `dataset_config` reads back.

        That of four IDX files of 28 x 28 bytes is as it was when there was nothing else, so that
        finished cells are found again; what came later is in it only where it is used.
        """
        source = dict(self.source)
        if source["_target_"] == IDX:
            del source["_target_"]
        values = {
            "name": self.name,
            "num_train": self.num_train,
            "num_test": self.num_test,
            "num_classes": self.num_classes,
            "input_shape": list(self.input_shape),
            "checksum": self.checksum,
            **source,
            "root": self.root,
            "val_size": self.val_size,
            "val_seed": self.val_seed,
            "train_size": self.train_size,
        }
        if self.checksum is None:
            del values["checksum"]
            if self.input_shape == _IDX_SHAPE:
                del values["input_shape"]
        return values

    def deciding_values(self) -> dict[str, Any]:
        """Of `to_mapping`, what the data hold and what is done with them.

        Where the checksum of the arrays is known, it does not matter which source they came from.
        """
        idle = () if self.checksum is None else self.source
        return {key: value for key, value in self.to_mapping().items() if key not in idle}


OWN_KEYS = tuple(key.name for key in dataclasses.fields(DatasetConfig) if key.name != "source")


def source_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The `_target_` of composed values, and those of its arguments that are given (not null).

    Raises:
        InputError: If the target is not a dotted path, or has no such argument.
    """
    arguments = {key: value for key, value in values.items() if key not in OWN_KEYS}
    target = arguments.pop("_target_", IDX)
    if not isinstance(target, str) or "." not in target:
        raise InputError(f"dataset._target_={target}: expected a dotted path to a function")
    if target == IDX:
        known_keys("dataset.", arguments, [*OWN_KEYS, *_IDX_ARGUMENTS, "files"])
        return {"_target_": IDX, **_IDX_ARGUMENTS, **_given(arguments)}
    return {"_target_": target, **_given(arguments)}


def needs_looking_at(values: Mapping[str, Any]) -> bool:
    """Whether the data must be loaded to know what decides the result.

    Not those of IDX files that are fully described, which the start of a program then need not
    wait for.
    """
    stated = all(values.get(key) for key in ("num_train", "num_test", "num_classes"))
    return source_of(values)["_target_"] != IDX or not stated


def dataset_config(values: Mapping[str, Any]) -> DatasetConfig:
    """Validate the `dataset` part of a composed configuration, in which the facts are known.

    Raises:
        InputError: If a key is unknown or a value cannot be used.
    """
    source = source_of(values)
    own = {key: value for key, value in values.items() if key in OWN_KEYS}
    if (source["_target_"] == IDX) != (own.get("checksum") is None):
        # Only IDX files are known by checksums of their own.
        raise InputError(f"dataset.checksum={own.get('checksum')}: expected that of the data")
    config = dataclasses.replace(DatasetConfig(), **own, source=source)
    name("dataset.name", config.name)
    root = config.root
    if root is not None and (not isinstance(root, str) or not root):
        raise InputError(f"dataset.root={root}: expected a folder's path, or null")
    for key in ("num_train", "num_test", "num_classes"):
        integer(f"dataset.{key}", getattr(config, key), 1, 10**9)
    shape = config.input_shape
    if not isinstance(shape, Sequence) or isinstance(shape, str) or not shape:
        raise InputError(f"dataset.input_shape={shape}: expected a list such as [1,28,28]")
    shape = tuple(integer("dataset.input_shape", size, 1, 10**9) for size in shape)
    # At least one training example of each class has to remain.
    most = config.num_train - config.num_classes
    if most < 0:
        raise InputError(
            f"dataset.num_classes={config.num_classes}: expected at most {config.num_train}, "
            "the number of training examples"
        )
    integer("dataset.val_size", config.val_size, 0, most)
    integer("dataset.val_seed", config.val_seed, 0, 2**31 - 1)
    if not config.val_size:
        config = dataclasses.replace(config, val_seed=0)  # it chooses nothing
    if config.train_size is not None:
        there = config.num_train - config.val_size
        size = integer("dataset.train_size", config.train_size, 1, there, "training examples")
        config = dataclasses.replace(config, train_size=size if size < there else None)
    return dataclasses.replace(config, input_shape=shape)


def _given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in arguments.items() if value is not None}
