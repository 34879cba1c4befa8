"""Sources with real files: IDX relatives, an .npz, CIFAR's pickles; and every file of conf."""

import gzip
import hashlib
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import yaml

from optsweep.cli.composition import config_dir
from optsweep.config.checks import InputError
from optsweep.config.identity import config_hash
from optsweep.data.arrays import canonical, load_arrays
from optsweep.data.files import FILES
from optsweep.data.sources import cifar, idx, npz

SLICE = Path(__file__).parent / "slice"
ROLES = ("train_images", "train_labels", "test_images", "test_labels")


# --- IDX

EMNIST = {
    "train_images": "emnist-letters-train-images-idx3-ubyte",
    "train_labels": "emnist-letters-train-labels-idx1-ubyte",
    "test_images": "emnist-letters-test-images-idx3-ubyte",
    "test_labels": "emnist-letters-test-labels-idx1-ubyte",
}
CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def idx_bytes(array):
    code = CODES[array.dtype.str[1:]]
    header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def relative(tmp_path, example_arrays):
    """Letters in the manner of EMNIST: other names, numbers and sizes, labels from 1."""
    given = example_arrays("grey")
    arrays = {
        "train_images": given.train_images[:90, 3:27, 2:24],
        "train_labels": given.train_labels[:90] + 1,
        "test_images": given.test_images[:40, 3:27, 2:24],
        "test_labels": given.test_labels[:40] + 1,
    }
    contents = {EMNIST[role]: idx_bytes(array) for role, array in arrays.items()}
    for file, data in contents.items():
        (tmp_path / file).write_bytes(data)
    values = {
        "_target_": "optsweep.data.sources.idx",
        "name": "letters",
        "files": EMNIST,
        "sha256": {file: sha256(data) for file, data in contents.items()},
        "root": str(tmp_path),
    }
    return values, arrays


def composed(compose, values, *overrides):
    """As a YAML file with these values would compose."""
    options = [f"++dataset.{key}={_override(value)}" for key, value in values.items()]
    unset = [
        f"++dataset.{fact}=null" for fact in ("num_train", "num_test", "num_classes", "sha256")
    ]
    return compose("dataset=custom", *unset, *options, "batch_size=30", *overrides)


def _override(value):
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_override(item)}" for key, item in value.items()) + "}"
    return f"'{value}'"


def test_idx_relative_has_the_sizes_of_its_files(compose, relative):
    values, arrays = relative
    config = composed(compose, values)
    dataset = config.dataset
    assert (dataset.num_train, dataset.num_test, dataset.num_classes) == (90, 40, 11)
    assert dataset.input_shape == (1, 24, 22)
    assert dataset.checksum is None  # those of the files tell
    loaded = load_arrays(dataset)
    assert np.array_equal(loaded.train_images[:, 0], arrays["train_images"])
    assert loaded.test_labels.tolist() == arrays["test_labels"].tolist()
    again = type(config).from_mapping(yaml.safe_load(yaml.safe_dump(config.to_mapping())))
    assert again == config


def test_idx_relative_is_known_by_its_files(compose, relative, tmp_path):
    values, arrays = relative
    there = config_hash(composed(compose, values))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for file in EMNIST.values():
        (tmp_path / file).rename(elsewhere / file)
    assert config_hash(composed(compose, values | {"root": str(elsewhere)})) == there
    swapped = idx_bytes(arrays["train_labels"][::-1])
    (elsewhere / EMNIST["train_labels"]).write_bytes(swapped)
    values["sha256"] = values["sha256"] | {EMNIST["train_labels"]: sha256(swapped)}
    assert config_hash(composed(compose, values | {"root": str(elsewhere)})) != there


@pytest.mark.parametrize("kind", CODES)
def test_idx_files_of_every_type(tmp_path, kind):
    arrays = [
        np.arange(12).reshape(3, 2, 2).astype(kind) - (0 if kind == "u1" else 5),
        np.array([0, 1, 1]).astype("i4"),
        np.arange(4).reshape(1, 2, 2).astype(kind),
        np.array([2]).astype("i4"),
    ]
    sums = {}
    for file, array in zip(FILES, arrays, strict=True):
        data = idx_bytes(array)
        (tmp_path / f"{file}.gz").write_bytes(gzip.compress(data))
        sums[file] = sha256(data)
    found = idx("some", str(tmp_path), sums, {})
    for expected, array in zip(arrays, found, strict=True):
        assert array.dtype == expected.dtype.newbyteorder(">")
        assert array.tolist() == expected.tolist()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\x08",
        b"\0\0\x08\x03\0\0",
        b"\0\0\x08\0",
        b"\0\0\x07\x01\0\0\0\1x",
        b"\x89PNG1234",
    ],
)
def test_file_that_is_no_idx_file_is_named(tmp_path, data):
    for file in FILES:
        (tmp_path / file).write_bytes(data)
    with pytest.raises(InputError, match=rf"^{FILES[0]} is no IDX file: {len(data)} bytes that"):
        idx("some", str(tmp_path), dict.fromkeys(FILES, sha256(data)), {})


def test_idx_file_that_was_cut_short_or_lengthened_is_named(tmp_path):
    whole = idx_bytes(np.zeros((3, 2, 2), np.uint8))
    for data in (whole[:-1], whole + b"\0"):
        for file in FILES:
            (tmp_path / file).write_bytes(data)
        with pytest.raises(InputError, match=f"{len(data)} bytes that begin with 00000803"):
            idx("some", str(tmp_path), dict.fromkeys(FILES, sha256(data)), {})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"files": {"train_images": "a"}}, r"dataset\.files\.train_labels is not given"),
        ({"files": EMNIST | {"val": "a"}}, r"there is no key dataset\.files\.val"),
        ({"files": "a"}, r"dataset\.files=a: expected train_images, "),
        ({"files": EMNIST | {"test_images": "../a"}}, "'../a' is not the name of a file"),
        ({"sha256": "abc"}, r"dataset\.sha256=abc: expected the checksum of each file"),
        ({"sha256": {"a": 3}}, r"dataset\.sha256=.*: expected the checksum of each file"),
        ({"gz_sha256": 3}, r"dataset\.gz_sha256=3: expected the checksum of each file"),
    ],
)
def test_mistake_in_the_yaml_of_idx_files_is_named(changes, message):
    with pytest.raises(InputError, match=message):
        idx(**{"name": "some", "root": "/", "sha256": {}, "gz_sha256": {}} | changes)


# --- .npz


def test_npz_gives_its_arrays(npz_file, example_arrays):
    found = npz(str(npz_file("vectors")))
    for array, expected in zip(found, example_arrays("vectors"), strict=True):
        assert np.array_equal(array, expected)


@pytest.fixture
def damaged(tmp_path, npz_file):
    """`damaged(how) -> Path` of a file that cannot be used."""
    arrays = dict(np.load(npz_file("vectors")))
    whole = npz_file("vectors").read_bytes()
    path = tmp_path / "my.npz"

    def made(how):
        if how == "names":
            arrays["test_label"] = arrays.pop("test_labels")
            np.savez(path, **arrays)
        elif how == "no names":
            np.savez(path, arrays["test_labels"])
        elif how == "npy":
            with path.open("wb") as file:
                np.save(file, arrays["test_labels"])
        elif how == "objects":
            np.savez(path, **arrays | {"train_labels": np.array([{}, []], dtype=object)})
        elif how != "missing":
            texts = {
                "cut": whole[:-200],
                "pickle": pickle.dumps(arrays),
                "empty": b"",
                "html": b"<",
            }
            path.write_bytes(texts[how])
        return path

    return made


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", r"dataset\.path=\S+my\.npz: there is no such file"),
        ("names", r"my\.npz: there is no array test_labels; did you mean test_label\?"),
        ("no names", r"my\.npz: there is no array train_images; valid are arr_0"),
        ("npy", r"my\.npz: there is no array train_images; valid are one array"),
        ("objects", r"my\.npz cannot be read as an \.npz of NumPy: Object arrays cannot be"),
        ("cut", r"my\.npz cannot be read as an \.npz of NumPy: "),
        ("pickle", r"my\.npz cannot be read as an \.npz of NumPy: "),
        ("empty", r"my\.npz cannot be read as an \.npz of NumPy: "),
        ("html", r"my\.npz cannot be read as an \.npz of NumPy: "),
    ],
)
def test_npz_that_cannot_be_used_is_named(damaged, how, message):
    with pytest.raises(InputError, match=message) as raised:
        npz(str(damaged(how)))
    assert "\n" not in str(raised.value)


def test_npz_needs_a_path(compose):
    with pytest.raises(InputError, match=r"dataset\.path is not given, and .*npz needs it"):
        compose("dataset=npz")


# --- CIFAR


def python_2_pickle(pixels, labels, names=("numpy.core.multiarray", "_reconstruct")):
    """A batch as the files of CIFAR have it, opcode for opcode but for its memo."""

    def text(value):
        return b"U" + bytes([len(value)]) + value

    def number(value):
        return b"M" + struct.pack("<H", value)

    listed = b"".join(b"K" + bytes([label]) for label in labels)
    dtype = b"cnumpy\ndtype\n" + text(b"u1") + b"K\0K\1\x87R(K\3" + text(b"|") + b"NNN"
    dtype += 2 * (b"J" + struct.pack("<i", -1)) + b"K\0tb"
    shape = number(len(pixels)) + number(pixels[0].size) + b"\x86"
    array = f"c{names[0]}\n{names[1]}\n".encode() + b"cnumpy\nndarray\nK\0\x85" + text(b"b")
    array += b"\x87R(K\1" + shape + dtype + b"\x89"
    array += b"T" + struct.pack("<i", pixels.size) + pixels.tobytes() + b"tb"
    batch = b"\x80\x02}(" + text(b"batch_label") + text(b"testing batch 1 of 1")
    batch += text(b"labels") + b"](" + listed + b"e" + text(b"data") + array
    batch += text(b"filenames") + b"](" + text(b"a.png") + b"e" + b"u."
    return batch


@pytest.fixture
def cifar_folder(tmp_path, example_arrays):
    """A root with small batches of CIFAR-10, and the command line that states their MD5."""
    given = canonical("colour", example_arrays("colour"))
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    files = {}
    for number in range(5):
        rows = slice(20 * number, 20 * number + 20)
        batch = python_2_pickle(given.train_images[rows], given.train_labels[rows])
        files[f"data_batch_{number + 1}"] = batch
    files["test_batch"] = python_2_pickle(given.test_images[:30], given.test_labels[:30])
    overrides = ["dataset=cifar10", f"dataset.root={tmp_path}", "batch_size=25"]
    for name, batch in files.items():
        (folder / name).write_bytes(batch)
        md5 = hashlib.md5(batch).hexdigest()
        overrides.append(f"dataset.{'test' if 'test' in name else 'train'}.{name}={md5}")
    return folder, overrides, given


def test_cifar_is_read_from_the_folder_of_torchvision(compose, cifar_folder):
    _, overrides, given = cifar_folder
    dataset = compose(*overrides).dataset
    assert (dataset.num_train, dataset.num_test, dataset.num_classes) == (100, 30, 10)
    assert dataset.input_shape == (3, 32, 32)
    found = load_arrays(dataset)
    assert np.array_equal(found.train_images, given.train_images[:100])
    assert np.array_equal(found.test_labels, given.test_labels[:30])


def test_batch_is_the_one_that_python_reads(cifar_folder):
    """So the file that the test makes is what torchvision, and CIFAR's page, read so."""
    folder, _, given = cifar_folder
    with (folder / "test_batch").open("rb") as file:
        batch = pickle.load(file, encoding="latin1")
    assert np.array_equal(batch["data"].reshape(-1, 3, 32, 32), given.test_images[:30])
    assert batch["labels"] == given.test_labels[:30].tolist()


def test_corrupt_batch_is_named(compose, cifar_folder):
    folder, overrides, _ = cifar_folder
    path = folder / "data_batch_3"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=rf"{path} is corrupt or the wrong file: expected MD5"):
        compose(*overrides)


def test_folder_without_batches_is_told_with_the_way_to_get_them(compose, tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*data_batch_1.*dataset\.root is the"):
        compose("dataset=cifar10", f"dataset.root={tmp_path}")


class Exploit:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_no_code_of_a_batch_runs(tmp_path, protocol):
    data = pickle.dumps({b"data": Exploit(tmp_path / "ran"), b"labels": []}, protocol)
    refuses(tmp_path, data, "it asks for ")
    assert not (tmp_path / "ran").exists()


def refuses(tmp_path, data, message):
    (tmp_path / "batch").write_bytes(data)
    sums = {"batch": hashlib.md5(data).hexdigest()}
    with pytest.raises(
        InputError, match=f"{tmp_path}/batch is no batch of CIFAR: .*{message}"
    ) as e:
        cifar(str(tmp_path), ".", sums, sums)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "EOFError"),
        (b"<html>", "Unpickling"),
        (pickle.dumps([]), "TypeError"),
        (pickle.dumps({}), "KeyError"),
        (pickle.dumps({b"data": b"123", b"labels": [1]}), "AttributeError"),
        (python_2_pickle(np.zeros((2, 7), np.uint8), [0, 1]), "reshape"),
        (python_2_pickle(np.zeros((1, 3072), np.uint8), [0]).replace(b"u1", b"f4"), "rows of"),
        (python_2_pickle(np.zeros((1, 3072), np.uint8), [0], ("os", "system")), "asks for os.sys"),
        (python_2_pickle(np.zeros((1, 3072), np.uint8), [0]).replace(b"labels", b"labelz"), "Key"),
    ],
)
def test_file_that_is_no_batch_is_named(tmp_path, data, message):
    refuses(tmp_path, data, message)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_checksums_of_cifar_are_those_of_torchvision(name):
    from torchvision import datasets

    values = yaml.safe_load((config_dir() / "dataset" / f"{name}.yaml").read_text())
    published = getattr(datasets, name.upper())
    assert values["folder"] == published.base_folder
    assert list(map(list, values["train"].items())) == published.train_list
    assert list(map(list, values["test"].items())) == published.test_list
    assert values["labels"] == {"cifar10": "labels", "cifar100": "fine_labels"}[name]
