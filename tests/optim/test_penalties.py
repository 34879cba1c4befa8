"""Adam with an L2 term in the loss, against the loss written out and torch's weight decays."""

import pytest
import torch

from optsweep.config.checks import InputError
from optsweep.optim.penalties import L2Adam
from optsweep.optim.stacks import is_stackable

L2 = 0.1


def trained(optimizer_class, penalty=0.0, **settings):
    """A weight after ten steps on the mean square of w·x − y, and the penalty if it is given."""
    generator = torch.Generator().manual_seed(0)
    examples = torch.randn(20, 4, generator=generator, dtype=torch.float64)
    labels = torch.randn(20, generator=generator, dtype=torch.float64)
    weight = torch.ones(4, dtype=torch.float64, requires_grad=True)
    optimizer = optimizer_class([weight], lr=0.05, **settings)
    for _ in range(10):
        optimizer.zero_grad()
        loss = ((examples @ weight - labels) ** 2).mean() + penalty / 2 * (weight**2).sum()
        loss.backward()
        optimizer.step()
    return weight.detach()


def test_it_is_adam_on_a_loss_with_the_term():
    expected = trained(torch.optim.Adam, penalty=L2)
    torch.testing.assert_close(trained(L2Adam, l2=L2), expected, rtol=1e-12, atol=0)


def test_it_is_adams_weight_decay_and_not_adamws():
    found = trained(L2Adam, l2=L2)
    adam = trained(torch.optim.Adam, weight_decay=L2)
    adamw = trained(torch.optim.AdamW, weight_decay=L2)
    torch.testing.assert_close(found, adam, rtol=1e-12, atol=0)
    assert (found - adamw).abs().max() > 1e-3  # the decays move weights by some 0.05


def test_seeds_of_a_stack_are_penalised_apart():
    assert is_stackable(lambda tensors: L2Adam(tensors, l2=L2), {1, 2})


@pytest.mark.parametrize("l2", [-1.0, float("nan")])
def test_other_factors_are_refused(l2):
    with pytest.raises(InputError, match="l2 must be at least 0"):
        L2Adam([torch.ones(2, requires_grad=True)], l2=l2)
