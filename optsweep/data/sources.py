"""Sources: functions that return arrays, named by `dataset._target_`; no torch in here.

Any other keys of `dataset` that a function has parameters for are its arguments, `name` and
`root` too if it asks for them. A function of your own needs no more than this:

    def load(path, noise=0.0):
        ...
        return train_images, train_labels, test_images, test_labels

Images are bytes, which become pixels / 255, or floats, taken as they are; see
`optsweep.data.arrays.canonical` for their shapes. Labels are integers from 0.
"""

from __future__ import annotations

import io
import pickle
import zipfile
import zlib
from collections.abc import Mapping
from os.path import expanduser
from pathlib import Path
from typing import Any

import numpy as np

from optsweep.config.checks import InputError, known_keys, nearest
from optsweep.data.arrays import Arrays
from optsweep.data.files import FILES, FileSet, data_root, load_contents, verify

# The third byte of an IDX file.
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CIFAR_SHAPE = (3, 32, 32)
# All that CIFAR's pickles name: arrays of NumPy, as Python 2 wrote them.
_OF_NUMPY = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


def idx(
    name: str,
    root: str | None,
    sha256: Mapping[str, str],
    gz_sha256: Mapping[str, str],
    files: Mapping[str, str] | None = None,
    torchvision_class: str | None = None,
    debian_package: str | None = None,
    debian_folder: str | None = None,
) -> Arrays:
    """Four IDX files, as of MNIST and its relatives, verified and if need be fetched.

    A relative with other names and sizes, such as the letters of EMNIST from the folder that
    `torchvision.datasets.EMNIST(root, split="letters", download=True)` has filled, needs a YAML
    file such as this one, and `dataset.root=.../EMNIST/raw`. (Its labels are 1 to 26, so that
    there are 27 classes of which the first is empty, and its images are transposed.)

        name: emnist_letters
        files:
          train_images: emnist-letters-train-images-idx3-ubyte
          train_labels: emnist-letters-train-labels-idx1-ubyte
          test_images: emnist-letters-test-images-idx3-ubyte
          test_labels: emnist-letters-test-labels-idx1-ubyte
        sha256: # what `sha256sum` says of each
          emnist-letters-train-images-idx3-ubyte: ...

    Args:
        name: Of the dataset, and of a folder under `root`.
        root: Folder that is searched first and holds the cache; None: the user's cache folder.
        sha256: File to the SHA-256 of its uncompressed contents.
        gz_sha256: File to the SHA-256 of its .gz; asked where `sha256` has none.
        files: What the files of train_images, train_labels, test_images and test_labels are
            called, without .gz; None: as those of MNIST.
        torchvision_class: Class of torchvision whose mirrors are asked.
        debian_package: Debian's package of the files.
        debian_folder: Where that package puts them.

    Raises:
        InputError: If a file is corrupt, the wrong one or no IDX file, or can be had nowhere.

    Source: the format is described at the end of http://yann.lecun.com/exdb/mnist/.
    """
    _check_sums(sha256=sha256, gz_sha256=gz_sha256)
    names: tuple[str, ...] = FILES
    if files is not None:
        known_keys("dataset.files.", files, Arrays._fields)
        if missing := [field for field in Arrays._fields if field not in files]:
            raise InputError(f"dataset.files.{missing[0]} is not given")
        names = tuple(files[field] for field in Arrays._fields)
    places = (torchvision_class, debian_package, debian_folder)
    contents = load_contents(FileSet(name, names, sha256, gz_sha256, *places, root))
    return Arrays(*(_parse_idx(file, contents[file]) for file in names))


def npz(path: str) -> Arrays:
    """An .npz of NumPy with the arrays train_images, train_labels, test_images, test_labels.

    Args:
        path: Of the file.

    Raises:
        InputError: If it cannot be read or lacks an array. Pickled objects are not loaded.
    """
    try:
        # Opened here, for NumPy leaves a file open that it fails to read.
        with open(expanduser(path), "rb") as file:
            arrays = np.load(file, allow_pickle=False)
            there = getattr(arrays, "files", ["one array, and no names"])
            if missing := [name for name in Arrays._fields if name not in there]:
                hint = nearest(missing[0], there)
                raise InputError(f"{path}: there is no array {missing[0]}; {hint}")
            return Arrays(*(arrays[name] for name in Arrays._fields))
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"dataset.path={path}: there is no such file") from error
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} cannot be read as an .npz of NumPy: {error}") from error


def cifar(
    root: str | None,
    folder: str,
    train: Mapping[str, str],
    test: Mapping[str, str],
    labels: str = "labels",
) -> Arrays:
    """CIFAR's pickled batches, from a folder that torchvision has filled.

    A file is read only after its MD5 has been compared, and by an unpickler that makes nothing
    but lists, dictionaries, texts, numbers and bytes: whatever a file says, no code of it runs.

    Args:
        root: Folder that torchvision was given; None: the user's cache folder.
        folder: Its subfolder with the batches.
        train: Files of the training examples, in order, to their MD5.
        test: The same of the test examples.
        labels: What the labels are called in the batches.

    Raises:
        InputError: If a file is not there, corrupt or the wrong one.
    """
    _check_sums(train=train, test=test)
    batches = data_root(root) / folder
    return Arrays(
        *_read_batches(batches, train, labels),
        *_read_batches(batches, test, labels),
    )


def _check_sums(**arguments: Mapping[str, str]) -> None:
    for key, sums in arguments.items():
        if not isinstance(sums, Mapping) or not all(isinstance(x, str) for x in sums.values()):
            raise InputError(f"dataset.{key}={sums}: expected the checksum of each file")


def _parse_idx(file: str, contents: bytes) -> np.ndarray:
    # An IDX header: 0, 0, the type, the rank, then big-endian sizes.
    rank = contents[3] if len(contents) > 3 else 0
    dtype = _IDX_TYPES.get(contents[2]) if rank and contents[:2] == b"\0\0" else None
    start = 4 + 4 * rank
    if dtype and len(contents) >= start:
        shape = np.frombuffer(contents, ">u4", rank, offset=4).astype(int)
        if len(contents) == start + np.dtype(dtype).itemsize * shape.prod():
            return np.frombuffer(contents, dtype, offset=start).reshape(shape)
    raise InputError(
        f"{file} is no IDX file: {len(contents)} bytes that begin with "
        f"{contents[:start].hex(' ', 4) or 'nothing'}"
    )


def _read_batches(
    folder: Path, files: Mapping[str, str], labels: str
) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 3, 32, 32) and labels (N,) of some files, one after the other."""
    batches = [_read_batch(folder / file, md5, labels) for file, md5 in files.items()]
    images, classes = zip(*batches, strict=True)
    return np.concatenate(images), np.concatenate(classes)


def _read_batch(path: Path, md5: str, labels: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read {path} ({error.strerror}); dataset.root is the folder that "
            "torchvision.datasets was given to download to"
        ) from error
    verify(path, data, md5, "md5")
    try:
        batch = _PlainUnpickler(data).load()
        _, _, dtype, is_fortran, pixels = batch[b"data"].state
        if dtype.arguments[0] not in (b"u1", "u1") or is_fortran:
            raise ValueError("its pixels are not rows of bytes")
        images = np.frombuffer(pixels, np.uint8).reshape(-1, *_CIFAR_SHAPE)
        return images, np.array(batch[labels.encode()])
    except Exception as error:  # whatever a file of something else leads to
        raise InputError(f"{path} is no batch of CIFAR: {error!r}") from error


class _StandIn:
    """What a pickle says of an array or a type of NumPy's, kept as it is said."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state


class _PlainUnpickler(pickle.Unpickler):
    """Puts stand-ins where a pickle of CIFAR's names something, and refuses any other name."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="bytes")  # texts of Python 2 are bytes

    def find_class(self, module: str, name: str) -> type:
        if (module, name) not in _OF_NUMPY:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _StandIn
