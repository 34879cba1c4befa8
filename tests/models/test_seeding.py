"""A seed begins with the weights that a plain script with this seed has."""

import pytest
import torch
from torch import nn

from optsweep.models.initializers import default, gaussian, kaiming, orthogonal, xavier
from optsweep.models.seeding import begin


def build() -> nn.Module:
    """Convolutions and linear layers, one of them without a bias, in nested modules."""
    body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 8, 3, bias=False))
    return nn.Sequential(body, nn.Flatten(), nn.LayerNorm(72), nn.Linear(72, 5))


def plain_gaussian(weight, bias):
    nn.init.normal_(weight, std=0.01)
    if bias is not None:
        nn.init.zeros_(bias)


def plain_xavier(weight, bias):
    nn.init.xavier_uniform_(weight)


def plain_kaiming(weight, bias):
    nn.init.kaiming_normal_(weight, nonlinearity="relu")
    if bias is not None:
        nn.init.zeros_(bias)


def plain_orthogonal(weight, bias):
    nn.init.orthogonal_(weight, gain=nn.init.calculate_gain("relu"))
    if bias is not None:
        nn.init.zeros_(bias)


@pytest.mark.parametrize(
    ("initializer", "plain"),
    [
        (default, lambda weight, bias: None),
        (gaussian, plain_gaussian),
        (xavier, plain_xavier),
        (kaiming, plain_kaiming),
        (orthogonal, plain_orthogonal),
    ],
)
def test_as_in_a_plain_script(initializer, plain):
    network, rng_state = begin(build, initializer, 7)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        expected = build()
        for module in expected.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                plain(module.weight, module.bias)
        assert torch.equal(rng_state, torch.get_rng_state())
    pairs = zip(network.named_parameters(), expected.named_parameters(), strict=True)
    for (name, found), (_, wanted) in pairs:
        assert torch.equal(found, wanted), name


def test_the_caller_s_random_numbers_are_left_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    begin(build, kaiming, 7)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_default_dtype_does_not_change_the_draw():
    expected = begin(build, xavier, 7).network.state_dict()
    torch.set_default_dtype(torch.float64)
    try:
        found = begin(build, xavier, 7).network.state_dict()
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_bias_goes_with_its_own_weight():
    """in_proj_bias with in_proj_weight; the zeros of batch normalization are nobody's."""
    attention = begin(lambda: nn.MultiheadAttention(8, 2), default, 0).network
    with torch.no_grad():
        attention.in_proj_bias.fill_(3.0)
    found = []

    def noted(weight, bias, generator):
        found.append((tuple(weight.shape), bias))

    network = begin(lambda: attention, noted, 0).network
    assert network is attention
    assert found == [((24, 8), attention.in_proj_bias), ((8, 8), attention.out_proj.bias)]


class Positions(nn.Module):
    def __init__(self):
        super().__init__()
        self.positions = nn.Parameter(torch.ones(4, 4))
        self.weight = nn.Parameter(torch.ones(4, 4))


def test_what_is_not_called_a_weight_begins_as_its_module_has_it():
    network = begin(Positions, gaussian, 0).network
    assert (network.positions == 1).all()
    assert (network.weight < 0.5).all()
