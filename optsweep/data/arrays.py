"""The arrays that a source gives: called, brought into one form, checked, and known by content.

No torch in here.
"""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from optsweep.config.checks import Blaming, InputError, known_keys
from optsweep.config.dataset import IDX, OWN_KEYS, DatasetConfig, needs_looking_at, source_of
from optsweep.config.targets import locate

_CHANNELS = (1, 3, 4)  # of grey and colour images, the latter without or with transparency
_LARGEST = float(np.finfo(np.float32).max)


class Arrays(NamedTuple):
    """The examples of a dataset.

    Attributes:
        train_images: (N, ...) uint8, which become pixels / 255, or floats, taken as they are.
        train_labels: (N,) integers from 0.
        test_images: As those of training, of the same shape and type.
        test_labels: As those of training.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


# What was found in the data of each source, and the arrays looked at last: a program asks for the
# facts of a cell many times, and then trains on what it has looked at.
_facts: dict[str, dict[str, Any]] = {}
_looked_at: dict[str, Arrays] = {}


def complete(values: Mapping[str, Any]) -> dict[str, Any]:
    """The `dataset` part of a composed configuration with all that decides the result.

    What the values do not state is found out by loading the data, once in a process unless a
    file that they name has changed: num_train, num_test, num_classes, input_shape and checksum.

    Raises:
        InputError: If the data cannot be had or used, or are not what the values state.
    """
    if not needs_looking_at(values):
        return dict(values)
    source, name, root = source_of(values), values.get("name"), values.get("root")
    key = _key(source, name, root)
    if key not in _facts:
        _look_at(key, source, name, root)
    facts = _facts[key]
    stated = {fact: values[fact] for fact in facts if values.get(fact) is not None}
    _compare(stated, facts)
    return {**values, **facts, **stated}


def load_arrays(config: DatasetConfig) -> Arrays:
    """Load the data, in canonical form: images with their channels first, labels as int64.

    IDX files are read and verified anew; any other data, which are known by the checksum that
    they had when they were looked at, are kept for the next call.

    Raises:
        InputError: If they cannot be had or used, or are not those of the configuration.
    """
    source, name, root = config.source, config.name, config.root
    if config.checksum is None:
        arrays = _call(source, name, root)
        facts = _found(arrays, source)
    else:
        key = _key(source, name, root)
        if key not in _looked_at:
            _look_at(key, source, name, root)
        arrays, facts = _looked_at[key], _facts[key]
    _compare({fact: getattr(config, fact) for fact in facts}, facts)
    return arrays


def canonical(name: str, given: Any) -> Arrays:
    """Check four arrays and bring them into the form that training takes.

    Grey images (N, H, W) become (N, 1, H, W); bytes (N, H, W, C) with 1, 3 or 4 channels become
    (N, C, H, W), unless the axis after the first is as short, as in images that have their
    channels first. Any other shape stays.

    Args:
        name: Of the dataset, for messages.
        given: Images and labels of training and test, as `Arrays` or in its order.

    Raises:
        InputError: If they cannot be trained on.
    """
    if not isinstance(given, Sequence) or len(given) != len(Arrays._fields):
        raise InputError(f"dataset {name}: expected four arrays, {', '.join(Arrays._fields)}")
    try:
        raw = Arrays(*map(np.asarray, given))
    except (TypeError, ValueError) as error:
        raise InputError(f"dataset {name}: not four arrays of numbers ({error})") from error
    train = _examples(f"dataset {name}: train", raw.train_images, raw.train_labels)
    test = _examples(f"dataset {name}: test", raw.test_images, raw.test_labels)
    for what in ("shape", "dtype"):
        of_train, of_test = getattr(train[0][0], what), getattr(test[0][0], what)
        if of_train != of_test:
            raise InputError(
                f"dataset {name}: the {what} of each of train_images is {of_train}, of "
                f"test_images {of_test}: expected the same"
            )
    return Arrays(*train, *test)


def checksum(arrays: Arrays) -> str:
    """SHA-256 of type, shape and bytes of each array, the same on every machine."""
    digest = hashlib.sha256()
    for array in arrays:
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{little.dtype.str}{little.shape}".encode())
        digest.update(np.ascontiguousarray(little).data)
    return digest.hexdigest()


def _key(source: Mapping[str, Any], name: Any, root: Any) -> str:
    """The source, and the times and sizes of the files that its arguments name."""
    stamps = []
    for value in source.values():
        if isinstance(value, str) and os.path.isfile(path := os.path.expanduser(value)):
            status = os.stat(path)
            stamps.append((status.st_mtime_ns, status.st_size))
    return repr((dict(source), name, root, os.getcwd(), stamps))


def _look_at(key: str, source: Mapping[str, Any], name: Any, root: Any) -> None:
    _looked_at.clear()  # before the next ones are loaded: they may be large
    arrays = _call(source, name, root)
    _facts[key] = _found(arrays, source)
    _looked_at[key] = arrays


def _call(source: Mapping[str, Any], name: Any, root: Any) -> Arrays:
    """What the source gives, in canonical form."""
    arguments = dict(source)
    target = arguments.pop("_target_")
    function = locate("dataset", target)
    parameters = inspect.signature(function).parameters
    known_keys("dataset.", arguments, [*OWN_KEYS, *parameters])
    asked = {"name": name, "root": root}
    arguments |= {key: value for key, value in asked.items() if key in parameters}
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and key not in arguments:
            raise InputError(f"dataset.{key} is not given, and {target} needs it")
    with Blaming(f"dataset {name}: {target}"):
        given = function(**arguments)
    return canonical(str(name), given)


def _found(arrays: Arrays, source: Mapping[str, Any]) -> dict[str, Any]:
    """What the data hold, by the keys of a `DatasetConfig`."""
    highest = max(arrays.train_labels.max(), arrays.test_labels.max())
    facts = {
        "num_train": len(arrays.train_labels),
        "num_test": len(arrays.test_labels),
        "num_classes": int(highest) + 1,
        "input_shape": list(arrays.train_images.shape[1:]),
    }
    return facts if source["_target_"] == IDX else facts | {"checksum": checksum(arrays)}


def _compare(stated: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    for key, value in stated.items():
        found = facts[key]
        if key == "num_classes":
            if isinstance(value, int) and value < found:
                raise InputError(f"dataset.num_classes={value}: found the label {found - 1}")
        elif (list(value) if isinstance(value, Sequence) and key != "checksum" else value) != found:
            raise InputError(f"dataset.{key}={value}: found {found} in the data")


def _examples(where: str, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of a split in canonical form; `where` opens the names in messages."""
    if images.ndim < 2 or not images.size:
        raise InputError(f"{where}_images have the shape {images.shape}: expected (N, ...), N > 0")
    if labels.shape != images.shape[:1]:
        raise InputError(
            f"{where}_labels have the shape {labels.shape}: expected {images.shape[:1]}, "
            f"one for each of {where.rpartition(' ')[2]}_images"
        )
    if labels.dtype.kind not in "iu":
        raise InputError(f"{where}_labels are {labels.dtype}: expected whole numbers from 0")
    if labels.min() < 0 or labels.max() >= 10**9:
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise InputError(f"{where}_labels hold {wrong}: expected classes counted from 0")
    return _images(where, images), labels.astype(np.int64)


def _images(where: str, images: np.ndarray) -> np.ndarray:
    if images.dtype == np.uint8:
        if images.ndim == 4 and images.shape[3] in _CHANNELS and images.shape[1] not in _CHANNELS:
            images = images.transpose(0, 3, 1, 2)  # (N, H, W, C) -> (N, C, H, W)
    elif images.dtype.kind == "f" and images.itemsize <= 8:
        if not (images.min() >= -_LARGEST and images.max() <= _LARGEST):
            raise InputError(f"{where}_images hold a number that is not finite in float32")
        images = images.astype(images.dtype.newbyteorder("="), copy=False)
    else:
        raise InputError(f"{where}_images are {images.dtype}: expected uint8 or floats")
    if images.ndim == 3:
        images = images[:, np.newaxis]  # (N, H, W) -> (N, 1, H, W)
    return np.ascontiguousarray(images)
