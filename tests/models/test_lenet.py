"""The convolutional network: its sizes, and the plain layers that it is made of."""

import pytest
import torch
from torch import nn

from optsweep.config.checks import InputError
from optsweep.models.lenet import LeNet


@pytest.mark.parametrize(
    ("shape", "num_pooled"),
    [((1, 28, 28), 400), ((3, 32, 32), 576), ((1, 12, 12), 16), ((2, 29, 47), 16 * 5 * 9)],
)
def test_any_image_is_pooled_to_what_the_linear_layers_take(shape, num_pooled):
    network = LeNet(shape, 7)
    assert network.linear1.in_features == num_pooled
    assert network(torch.rand(3, *shape)).shape == (3, 7)


def test_number_of_parameters():
    convolutions = (25 + 1) * 6 + (6 * 25 + 1) * 16
    linear = (400 + 1) * 120 + (120 + 1) * 84 + (84 + 1) * 10
    found = sum(parameter.numel() for parameter in LeNet((1, 28, 28), 10).parameters())
    assert found == convolutions + linear == 61_706


def test_it_is_these_layers():
    def pooled():
        return [nn.ReLU(), nn.MaxPool2d(2)]

    network = LeNet((3, 32, 32), 10)
    plain = nn.Sequential(
        *[nn.Conv2d(3, 6, 5, padding=2), *pooled()],
        *[nn.Conv2d(6, 16, 5), *pooled()],
        *[nn.Flatten(), nn.Linear(576, 120), nn.ReLU()],
        *[nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)],
    )
    for mine, theirs in zip(plain.parameters(), network.parameters(), strict=True):
        mine.data.copy_(theirs)
    images = torch.randn(5, 3, 32, 32)
    torch.testing.assert_close(network(images), plain(images))


@pytest.mark.parametrize("shape", [(37,), (28, 28), (1, 11, 28)])
def test_other_examples_are_refused(shape):
    with pytest.raises(InputError, match="expected channels x height x width"):
        LeNet(shape, 10)
