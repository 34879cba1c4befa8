"""The MLP on pooled pixels: what it sees, and that it is the MLP."""

import pytest
import torch

from optsweep.config.checks import InputError
from optsweep.models.mlp import MLP
from optsweep.models.pooled import PooledMLP


@pytest.mark.parametrize(
    ("pool", "repeat", "num_inputs"), [(1, 1, 784), (2, 1, 196), (7, 1, 16), (4, 4, 784)]
)
def test_as_many_inputs_as_it_says(pool, repeat, num_inputs):
    network = PooledMLP((1, 28, 28), 10, pool, repeat)
    assert network.linear1.in_features == num_inputs
    assert network(torch.rand(3, 1, 28, 28)).shape == (3, 10)


def test_as_it_stands_it_is_the_mlp():
    torch.manual_seed(0)
    plain = MLP(784, 10)
    torch.manual_seed(0)
    network = PooledMLP((1, 28, 28), 10)
    images = torch.rand(3, 1, 28, 28)
    assert network(images).equal(plain(images))


def test_a_mean_fills_its_square():
    """With weights that pass inputs on, the logits are the inputs."""
    network = PooledMLP((1, 4, 4), 16, pool=2, repeat=2, hidden_sizes=[16])
    for name, parameter in network.named_parameters():
        parameter.data = torch.eye(16) if name.endswith("weight") else torch.zeros(16)
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    means = [[2.5, 2.5, 4.5, 4.5]] * 2 + [[10.5, 10.5, 12.5, 12.5]] * 2
    assert network(image).reshape(4, 4).tolist() == means


@pytest.mark.parametrize(
    ("shape", "pool", "repeat"), [((784,), 1, 1), ((1, 28, 28), 3, 1), ((1, 28, 28), 2, 0)]
)
def test_other_examples_are_refused(shape, pool, repeat):
    with pytest.raises(InputError, match="that divide by pool, and numbers from 1"):
        PooledMLP(shape, 10, pool, repeat)
