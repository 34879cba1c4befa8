"""Arrays of any source in one form, known by their content; what cannot be used in one line."""

import importlib
import os
import subprocess
import sys

import numpy as np
import pytest

from optsweep.config.checks import InputError
from optsweep.config.dataset import dataset_config
from optsweep.config.identity import cell_name, config_hash
from optsweep.config.targets import allow_targets
from optsweep.data import arrays as data_arrays
from optsweep.data.arrays import Arrays, canonical, checksum, complete, load_arrays

KINDS = ("grey", "standardised", "vectors", "colour")
SHAPES = dict(zip(KINDS, [(1, 28, 28), (1, 28, 28), (37,), (3, 32, 32)], strict=True))
LABELS = (np.array([0, 1, 2, 1]), np.array([2, 0]))


def arrays_of(*shape, dtype=np.uint8):
    """Four training and two test examples of a shape, every value another one."""
    images = [np.arange(n * np.prod(shape)).reshape(n, *shape).astype(dtype) for n in (4, 2)]
    return Arrays(images[0], LABELS[0], images[1], LABELS[1])


def save(path, arrays):
    np.savez(path, **arrays._asdict())
    return path


# --- canonical form


@pytest.mark.parametrize("kind", KINDS)
def test_form_of_real_images(example_arrays, kind):
    given = example_arrays(kind)
    found = canonical("some", given)
    assert found.train_images.shape == (300, *SHAPES[kind])
    assert found.test_images.shape == (100, *SHAPES[kind])
    assert found.train_images.dtype == given.train_images.dtype
    assert found.train_labels.dtype == found.test_labels.dtype == np.int64
    assert found.train_labels.tolist() == given.train_labels.tolist()


def test_channels_of_bytes_come_first():
    given = arrays_of(5, 6, 3)
    found = canonical("some", given)
    assert found.train_images.shape == (4, 3, 5, 6)
    assert found.train_images[1, 2, 3, 4] == given.train_images[1, 3, 4, 2]
    assert found.test_images.flags.c_contiguous


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((7,), np.uint8, (7,)),
        ((5, 6), np.float64, (1, 5, 6)),
        ((3, 5, 6), np.uint8, (3, 5, 6)),
        ((5, 6, 1), np.uint8, (1, 5, 6)),
        ((5, 6, 4), np.uint8, (4, 5, 6)),
        ((5, 6, 2), np.uint8, (5, 6, 2)),  # two channels are none of an image
        ((3, 5, 3), np.uint8, (3, 5, 3)),  # either: as torch has it
        ((5, 6, 3), np.float32, (5, 6, 3)),
        ((2, 3, 4, 3), np.uint8, (2, 3, 4, 3)),
    ],
)
def test_form_of_every_shape(shape, dtype, expected):
    found = canonical("some", arrays_of(*shape, dtype=dtype))
    assert found.train_images.shape == (4, *expected)
    assert found.train_images.dtype == dtype


def test_lists_and_tensors_are_arrays_too():
    import torch

    given = arrays_of(3, dtype=np.float32)
    as_lists = canonical("some", [x.tolist() for x in given])
    as_tensors = canonical("some", tuple(map(torch.from_numpy, given)))
    assert np.array_equal(as_lists.train_images, given.train_images)
    assert checksum(as_tensors) == checksum(canonical("some", given))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"train_images": np.zeros(4)},
            r"train_images have the shape \(4,\): expected \(N,",
        ),
        ({"test_images": np.zeros((0, 3), np.uint8)}, r"test_images have the shape \(0, 3\)"),
        ({"train_images": np.zeros((4, 0), np.uint8)}, r"train_images have the shape \(4, 0\)"),
        ({"train_labels": LABELS[1]}, r"train_labels have the shape \(2,\): expected \(4,\), one"),
        (
            {"test_labels": LABELS[1][:, None]},
            r"test_labels have the shape \(2, 1\): .*test",
        ),
        ({"test_labels": np.array([0.0, 1.0])}, "test_labels are float64: expected whole numbers"),
        ({"test_labels": np.array([True, False])}, "test_labels are bool: expected whole numbers"),
        ({"test_labels": np.array(["a", "b"])}, "test_labels are <U1: expected whole numbers"),
        ({"train_labels": np.array([0, 1, -1, 2])}, "train_labels hold -1: expected classes"),
        ({"test_labels": np.array([0, 2**63], np.uint64)}, f"test_labels hold {2**63}: expected"),
        (
            {"test_images": np.zeros((2, 4), np.uint8)},
            r"the shape of each of train_images is \(3,\)",
        ),
        ({"test_images": np.zeros((2, 3))}, "the dtype of each of train_images is uint8, of"),
        (
            {"train_images": np.zeros((4, 3), int)},
            "train_images are int64: expected uint8",
        ),
        ({"train_images": np.zeros((4, 3), complex)}, "train_images are complex128: expected"),
        ({"train_images": np.full((4, 3), None)}, "train_images are object: expected uint8 or"),
        ({"train_images": [[1], [1, 2], [], []]}, "not four arrays of numbers"),
    ],
)
def test_what_cannot_be_trained_on_is_named(change, message):
    with pytest.raises(InputError, match=f"^dataset some: .*{message}") as raised:
        canonical("some", arrays_of(3)._replace(**change))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
@pytest.mark.parametrize("split", ["train", "test"])
def test_number_that_is_not_finite_is_refused(value, split):
    given = arrays_of(3, dtype=np.float64)
    getattr(given, f"{split}_images")[1, 2] = value
    message = f"dataset some: {split}_images hold a number that is not finite"
    with pytest.raises(InputError, match=message):
        canonical("some", given)


@pytest.mark.parametrize("given", [None, 3, arrays_of(3)[:3], arrays_of(3)._asdict()])
def test_anything_else_than_four_arrays_is_refused(given):
    with pytest.raises(InputError, match=r"dataset some: (expected|not) four arrays"):
        canonical("some", given)


# --- content


def test_checksum_is_of_every_array_its_type_and_its_shape():
    given = canonical("some", arrays_of(2, 6, dtype=np.float32))
    others = [
        given._replace(train_images=given.train_images + 1),
        given._replace(test_images=given.test_images.astype(np.float64)),
        given._replace(train_labels=given.train_labels[::-1]),
        given._replace(test_labels=given.test_labels[::-1]),
        canonical("some", arrays_of(3, 4, dtype=np.float32)),
        canonical("some", arrays_of(12, dtype=np.float32)),
    ]
    assert len({checksum(arrays) for arrays in (given, *others)}) == 7


def test_checksum_is_not_of_how_equal_arrays_are_written():
    given = arrays_of(5, 6, 3)
    ways = [
        given,
        given._replace(train_labels=given.train_labels.astype(np.uint8)),
        given._replace(train_images=np.asfortranarray(given.train_images)),
        given._replace(
            train_images=given.train_images.transpose(0, 3, 1, 2),
            test_images=given.test_images.transpose(0, 3, 1, 2),
        ),
    ]
    assert len({checksum(canonical("some", way)) for way in ways}) == 1
    floats = arrays_of(5, dtype=np.float32)
    swapped = Arrays(*(array.astype(array.dtype.newbyteorder()) for array in floats))
    assert checksum(canonical("some", swapped)) == checksum(canonical("some", floats))


def test_checksum_of_the_same_arrays_is_the_same_for_ever(example_arrays):
    # Written down, for finished cells are found by it.
    found = checksum(canonical("some", arrays_of(2, 3)))
    assert found == "0c214659a6169be2a45fc01fdde672962abc72233976dd777a44e6573ca95da2"
    assert (
        checksum(canonical("some", example_arrays("colour")))
        == "397466fe1818aaac224b566f1d4437f016f19cc8d0a1292a14aa950ad700bfe5"
    )


# --- facts


@pytest.mark.parametrize("kind", KINDS)
def test_facts_come_from_the_data(npz_config, example_arrays, kind):
    dataset = npz_config(kind, "batch_size=50").dataset
    assert (dataset.num_train, dataset.num_test, dataset.num_classes) == (300, 100, 10)
    assert dataset.input_shape == SHAPES[kind]
    assert dataset.checksum == checksum(canonical("npz", example_arrays(kind)))


def test_classes_are_counted_over_both_splits(tmp_path):
    given = arrays_of(3)._replace(test_labels=np.array([0, 6]))
    values = npz_values(save(tmp_path / "a.npz", given))
    assert complete(values)["num_classes"] == 7
    assert complete(values | {"num_classes": 9})["num_classes"] == 9
    with pytest.raises(InputError, match=r"dataset\.num_classes=6: found the label 6"):
        complete(values | {"num_classes": 6})


def npz_values(path, **changes):
    return {"_target_": "optsweep.data.sources.npz", "name": "npz", "path": str(path)} | changes


@pytest.mark.parametrize(
    ("fact", "value"),
    [("num_train", 5), ("num_test", 4), ("input_shape", [1, 3]), ("checksum", "0" * 64)],
)
def test_what_is_stated_must_be_true(tmp_path, fact, value):
    values = npz_values(save(tmp_path / "a.npz", arrays_of(3)))
    facts = complete(values)
    assert complete(facts) == facts
    with pytest.raises(InputError, match=rf"dataset\.{fact}=.*: found .* in the data") as raised:
        complete(values | {fact: value})
    assert str(facts[fact]) in str(raised.value)


def test_idx_files_that_are_fully_described_are_not_loaded(compose, monkeypatch):
    monkeypatch.setattr(data_arrays, "locate", None)
    config = compose.__wrapped__("dataset=kmnist", "seed=3")
    assert config.dataset.input_shape == (1, 28, 28)
    assert config.dataset.checksum is None


# --- identity


def config_of(compose, path, *overrides):
    """Not from the cache of `compose`, for files change here."""
    return compose.__wrapped__("dataset=npz", f"dataset.path={path}", "batch_size=2", *overrides)


def test_equal_contents_are_the_same_cell(compose, tmp_path):
    one = save(tmp_path / "one.npz", arrays_of(3))
    other = tmp_path / "other.npz"
    np.savez_compressed(other, **arrays_of(3)._asdict(), more=np.arange(3))
    assert one.read_bytes() != other.read_bytes()
    assert cell_name(config_of(compose, one)) == cell_name(config_of(compose, other))
    root = config_of(compose, one, "dataset.root=/elsewhere")
    assert cell_name(root) == cell_name(config_of(compose, one))


def test_changed_file_is_another_cell(compose, tmp_path):
    path = save(tmp_path / "a.npz", arrays_of(3))
    before = config_of(compose, path)
    given = arrays_of(3)
    given.train_images[3, 2] += 1
    save(path, given)
    os.utime(path, ns=(1, 1))  # where the clock is too coarse to tell the two
    after = config_of(compose, path)
    assert config_hash(before) != config_hash(after)
    assert load_arrays(after.dataset).train_images[3, 2] == given.train_images[3, 2]
    with pytest.raises(InputError, match=r"dataset\.checksum=.*: found .* in the data"):
        load_arrays(before.dataset)


@pytest.mark.parametrize(
    "override",
    ["dataset.val_size=1", "dataset.name=other", "+dataset.num_classes=4", "dataset.train_size=2"],
)
def test_what_is_done_with_the_data_is_in_the_hash(compose, tmp_path, override):
    path = save(tmp_path / "a.npz", arrays_of(3))
    found = config_of(compose, path, override)
    assert config_hash(found) != config_hash(config_of(compose, path))


# --- calls

PACKAGE = """
import json, sys
import numpy as np

calls = []
generator = np.random.default_rng(0)


def load(root, noise, *, name="x", scale=2.0):
    calls.append((root, noise, name, scale))
    if noise < 0:
        raise ValueError(f"noise={noise}: too little\\nfor this")
    if noise > 1:
        open("/nowhere")
    images = generator.random((6, 3), np.float32)
    labels = np.arange(6) % 3
    return images[:4], labels[:4], images[4:], labels[4:]


def load_nothing():
    return None
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of the user's, which may be named."""
    name = f"mypackage_{tmp_path.name}"  # modules stay, so each test has its own
    (tmp_path / f"{name}.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    allow_targets([name])
    yield importlib.import_module(name)
    allow_targets([])


def own_values(package, function="load", **arguments):
    return {"_target_": f"{package.__name__}.{function}", "name": "mine", "root": "/r"} | arguments


def test_a_function_of_the_user_gets_the_arguments_that_it_asks_for(package):
    facts = complete(own_values(package, noise=0.5, val_size=1, scale=None))
    assert package.calls == [("/r", 0.5, "mine", 2.0)]
    assert facts["input_shape"] == [3]
    assert (facts["num_train"], facts["num_test"], facts["num_classes"]) == (4, 2, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"dataset\.noise is not given, and mypackage_\w+\.load needs it"),
        ({"noise": 1, "nose": 2}, r"there is no key dataset\.nose; did you mean noise\?"),
        ({"noise": -1}, r"dataset mine: mypackage_\w+\.load: noise=-1: too little"),
        ({"noise": 2}, r"dataset mine: mypackage_\w+\.load: .*No such file.*nowhere"),
        ({"function": "load_nothing"}, r"dataset mine: expected four arrays, train_images, "),
        ({"function": "loud"}, r"dataset\._target_=mypackage_\w+\.loud: there is no such object"),
        ({"function": "json.load"}, r"dataset\._target_=.*json\.load: expected a function of"),
    ],
)
def test_mistake_with_a_function_of_the_user_is_told_in_one_line(package, arguments, message):
    with pytest.raises(InputError, match=message) as raised:
        complete(own_values(package, **arguments))
    assert "\n" not in str(raised.value)


def test_a_function_of_nobody_is_refused():
    with pytest.raises(InputError, match=r"dataset\._target_=os\.system: expected a func"):
        complete({"_target_": "os.system", "command": "true"})


def test_data_are_loaded_once_to_know_and_to_train_on_them(package):
    configs = [dataset_config(complete(own_values(package, noise=0.5))) for _ in range(3)]
    arrays = [load_arrays(config) for config in configs]
    assert len(package.calls) == 1
    assert arrays[0] is arrays[1] is arrays[2]


def test_only_the_arrays_of_one_dataset_are_kept(npz_config):
    configs = [npz_config(kind, "batch_size=7", "seed=1") for kind in ("grey", "vectors")]
    first = load_arrays(configs[0].dataset)
    assert load_arrays(configs[0].dataset) is first
    load_arrays(configs[1].dataset)
    assert load_arrays(configs[0].dataset) is not first


def test_random_data_are_not_taken_for_those_that_were_looked_at(package):
    first, second = (
        dataset_config(complete(own_values(package, noise=noise))) for noise in (0.1, 0.2)
    )
    assert first.checksum != second.checksum
    load_arrays(second)  # is still there
    with pytest.raises(InputError, match=r"dataset\.checksum=.*: found .* in the data"):
        load_arrays(first)


def test_torch_is_not_imported(npz_file):
    code = (
        "import sys; from optsweep.data.arrays import complete; "
        "facts = complete({'_target_': 'optsweep.data.sources.npz', 'name': 'npz', "
        "'path': sys.argv[1]}); "
        "print(facts['num_train'], 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(npz_file("grey"))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "300 False\n"
