"""Orders that are drawn ahead are those that are drawn when they are asked for."""

import threading

import pytest
import torch

from optsweep.training.orders import Orders

CPU = torch.device("cpu")
NUM_EPOCHS = 4


@pytest.mark.parametrize("ahead", [False, True])
def test_every_epoch_is_drawn_once_and_has_its_own_orders(ahead):
    drawn = []

    def draw(epoch):
        drawn.append(epoch)
        return torch.full((1, 2), epoch)

    with Orders(draw, NUM_EPOCHS, CPU, ahead) as orders:
        for epoch in range(2, NUM_EPOCHS + 1):  # a cell that was killed goes on somewhere
            assert orders.of(epoch).tolist() == [[epoch, epoch]]
    assert drawn == [2, 3, 4]


def test_the_next_epoch_is_drawn_while_this_one_is_trained():
    is_drawn = threading.Event()

    def draw(epoch):
        assert threading.current_thread() is not threading.main_thread()
        if epoch == 2:
            is_drawn.set()
        return torch.tensor([[epoch]])

    with Orders(draw, NUM_EPOCHS, CPU, ahead=True) as orders:
        orders.of(1)
        assert is_drawn.wait(timeout=60)  # though nobody has asked for it
    assert not orders._pool._threads & {*threading.enumerate()}


@pytest.mark.parametrize("ahead", [False, True])
def test_a_full_batch_has_none(ahead):
    with Orders(lambda epoch: None, NUM_EPOCHS, CPU, ahead) as orders:
        assert [orders.of(epoch) for epoch in (1, 2)] == [None, None]


def test_what_goes_wrong_in_drawing_is_told_where_it_is_asked_for():
    def draw(epoch):
        raise MemoryError(f"epoch {epoch}")

    with Orders(draw, NUM_EPOCHS, CPU, ahead=True) as orders, pytest.raises(MemoryError, match="1"):
        orders.of(1)


@pytest.mark.parametrize("ahead", [False, True])
def test_members_that_share_an_order_have_it_drawn_once(ahead):
    def draw(epoch):
        return torch.tensor([[1, 0], [0, 1]]) + 10 * epoch

    with Orders(draw, NUM_EPOCHS, CPU, ahead, rows=[0, 1, 0]) as orders:
        assert orders.of(1).tolist() == [[11, 10], [10, 11], [11, 10]]
