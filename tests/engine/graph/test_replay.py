"""A tape replays what memory holds, and nothing that Python has decided."""

import pytest
import torch
from torch import nn

from optsweep.engine.graph import replay
from optsweep.engine.graph.replay import WARM_UP, RepeatedSteps, TapedSteps, steps_of_graph


class Doubling:
    """x <- 2 x + 1, by a view, an operation in place, one with `out` and one that makes memory."""

    def __init__(self):
        self.x = torch.ones(1, 2)
        self.twice = torch.empty(2)

    def __call__(self):
        row = self.x.view(2)
        torch.mul(row, 2, out=self.twice)
        row.copy_(self.twice + torch.ones(2))


@pytest.mark.parametrize("num_steps", [1, WARM_UP, WARM_UP + 1, 10])
def test_a_tape_does_what_calls_do(num_steps):
    called, taped = Doubling(), Doubling()
    RepeatedSteps(called).run(num_steps)
    tape = TapedSteps(taped)
    tape.run(1)
    tape.run(num_steps - 1)
    assert called.x.tolist() == taped.x.tolist() == [[2 ** (num_steps + 1) - 1] * 2]


def test_a_tape_keeps_autograd():
    def trained(make):
        weight = nn.Parameter(torch.tensor([3.0]))

        def step():
            weight.grad = None
            (weight**2).sum().backward()
            with torch.no_grad():
                weight.sub_(0.1 * weight.grad)

        make(step).run(20)
        return weight.detach()

    assert torch.equal(trained(RepeatedSteps), trained(TapedSteps))


def test_what_python_counts_or_reads_stays_as_it_was():
    class Counting:
        def __init__(self):
            self.count, self.x, self.y = 0, torch.zeros(1), torch.ones(1)

        def __call__(self):
            self.count += 1
            self.x.add_(self.count)
            self.y.mul_(1 + self.y.item())

    counting = Counting()
    TapedSteps(counting).run(6)
    recorded = WARM_UP + 1
    assert counting.count == recorded
    assert counting.x.item() == sum(range(recorded)) + recorded * 3
    assert counting.y.item() != pytest.approx(Counting().y.item())


@pytest.mark.parametrize("num_steps", [1, 3, 31, 32, 59, 234, 1875, 7500, 60_000])
def test_few_steps_of_an_epoch_are_left_over(num_steps):
    size = steps_of_graph(num_steps)
    assert size <= min(num_steps, replay._MOST)
    assert num_steps % size <= 4
