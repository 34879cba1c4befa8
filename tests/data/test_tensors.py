import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from optsweep.config.checks import InputError
from optsweep.config.dataset import dataset_config
from optsweep.data.tensors import epoch_orders, load_dataset, val_mask

HERE = Path(__file__).parents[1]
SLICE = HERE / "data" / "slice"
CPU = torch.device("cpu")


@pytest.fixture
def config(tmp_path):
    values = yaml.safe_load((HERE / "conf/dataset/slice.yaml").read_text())
    return dataset_config(values | {"debian_folder": str(SLICE), "root": str(tmp_path)})


def raw(name, header):
    return np.frombuffer(gzip.decompress((SLICE / name).read_bytes()), np.uint8, offset=header)


def test_dataset_is_in_the_order_of_its_files(config):
    data = load_dataset(config, CPU, torch.float32)
    assert data.num_classes == 10
    assert data.val is None
    assert (len(data.train), len(data.test)) == (1000, 200)
    for split, name in ((data.train, "train"), (data.test, "t10k")):
        assert split.images.shape == (len(split), 1, 28, 28)
        assert split.images.dtype == torch.float32
        assert split.labels.dtype == torch.int64
        images = raw(f"{name}-images-idx3-ubyte.gz", 16)
        assert (split.images * 255).round().byte().flatten().tolist() == images.tolist()
        assert split.labels.tolist() == raw(f"{name}-labels-idx1-ubyte.gz", 8).tolist()
    # The first labels of the real data set: ankle boot, T-shirt; ankle boot, pullover.
    assert data.train.labels[:2].tolist() == [9, 0]
    assert data.test.labels[:2].tolist() == [9, 2]


def test_pixels_are_those_of_torchvision(config):
    from torchvision.transforms.functional import to_tensor

    image = raw("train-images-idx3-ubyte.gz", 16)[:784].reshape(28, 28, 1)
    expected = to_tensor(image.copy())
    assert torch.equal(load_dataset(config, CPU, torch.float32).train.images[0], expected)


def test_images_have_the_wanted_precision(config):
    images = load_dataset(config, CPU, torch.float64).train.images
    values = torch.from_numpy(np.arange(256) / 255)
    assert images.dtype == torch.float64
    assert torch.isin(images, values).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_data_on_cuda_equal_those_on_the_cpu(config):
    cuda = torch.device("cuda")
    images = load_dataset(config, cuda, torch.float32).train.images
    assert torch.equal(images.cpu(), load_dataset(config, CPU, torch.float32).train.images)
    orders = epoch_orders([0, 1], 0, 100, cuda)
    assert torch.equal(orders.cpu(), epoch_orders([0, 1], 0, 100, CPU))


@pytest.mark.parametrize("val_size", [1, 100, 137, 990])
def test_val_examples_are_stratified(config, val_size):
    data = load_dataset(replace(config, val_size=val_size), CPU, torch.float32)
    assert len(data.val) == val_size
    assert len(data.train) == 1000 - val_size
    counts = np.bincount(raw("train-labels-idx1-ubyte.gz", 8))
    held_out = data.val.labels.bincount(minlength=10).numpy()
    # Largest remainders: each class has its exact share, rounded down or up.
    assert (np.abs(held_out - val_size * counts / 1000) < 1).all()


@pytest.mark.parametrize(
    ("counts", "val_size", "expected"),
    [
        ([6, 6, 6], 6, [2, 2, 2]),
        ([6, 6, 6], 7, [3, 2, 2]),
        ([6, 6, 6], 8, [3, 3, 2]),
        ([1, 3, 6], 5, [1, 1, 3]),  # shares 0.5, 1.5, 3
        ([10, 20, 70], 12, [1, 3, 8]),  # shares 1.2, 2.4, 8.4
        ([5, 0, 5], 4, [2, 0, 2]),
    ],
)
def test_shares_of_the_classes(counts, val_size, expected):
    labels = np.repeat(np.arange(3, dtype=np.uint8), counts)
    mask = val_mask(labels, val_size, val_seed=0)
    assert np.bincount(labels[mask], minlength=3).tolist() == expected


def test_train_and_val_are_a_partition_in_file_order(config):
    whole = load_dataset(config, CPU, torch.float32).train
    data = load_dataset(replace(config, val_size=137), CPU, torch.float32)
    mask = torch.from_numpy(val_mask(whole.labels.numpy(), 137, 0))
    assert mask.sum() == 137
    for split, chosen in ((data.val, mask), (data.train, ~mask)):
        assert torch.equal(split.images, whole.images[chosen])
        assert torch.equal(split.labels, whole.labels[chosen])


def test_val_examples_depend_on_val_seed_alone():
    labels = np.arange(1000, dtype=np.uint8) % 10
    first = val_mask(labels, 100, val_seed=3)
    torch.manual_seed(5)
    np.random.seed(5)
    assert np.array_equal(val_mask(labels, 100, val_seed=3), first)
    assert not np.array_equal(val_mask(labels, 100, val_seed=4), first)


@pytest.mark.parametrize("val_size", [-1, 991, 1000])
def test_impossible_val_size_is_refused(config, val_size):
    message = f"dataset.val_size={val_size}: expected 0 to 990"
    with pytest.raises(InputError, match=message):
        load_dataset(replace(config, val_size=val_size), CPU, torch.float32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_train": 999}, "dataset.num_train=999: found 1000 in the data"),
        ({"num_test": 201}, "dataset.num_test=201: found 200 in the data"),
        ({"input_shape": (1, 7, 112)}, r"dataset.input_shape=\(1, 7, 112\): found \[1, 28, 28\]"),
        ({"num_classes": 9}, "dataset.num_classes=9: found the label 9"),
    ],
)
def test_files_that_are_not_as_configured_are_refused(config, changes, message):
    with pytest.raises(InputError, match=message):
        load_dataset(replace(config, **changes), CPU, torch.float32)


def test_orders_are_permutations():
    orders = epoch_orders([0, 1, 7], 2, 1000, CPU)
    assert orders.shape == (3, 1000)
    assert orders.dtype == torch.int64
    assert torch.equal(orders.sort(dim=1).values, torch.arange(1000).expand(3, -1))


def test_orders_do_not_depend_on_the_stack():
    stack = epoch_orders([3, 4, 5], 1, 100, CPU)
    torch.manual_seed(1)
    assert torch.equal(epoch_orders([5], 1, 100, CPU)[0], stack[2])
    assert torch.equal(epoch_orders([4, 3], 1, 100, CPU), stack[[1, 0]])


def test_orders_do_not_touch_the_global_generators():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    epoch_orders([0, 1], 0, 100, CPU)
    assert torch.equal(torch.get_rng_state(), before)


def test_orders_differ_between_seeds_epochs_and_from_plain_seeding():
    orders = torch.cat([epoch_orders(range(4), epoch, 100, CPU) for epoch in range(4)])
    plain = [
        torch.randperm(100, generator=torch.Generator().manual_seed(seed)) for seed in range(4)
    ]
    assert len(torch.cat([orders, torch.stack(plain)]).unique(dim=0)) == 20
