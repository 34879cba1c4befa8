"""The gradient of a perceptron that is written out is autograd's, in float64."""

import pytest
import torch
from torch.nn import functional

from optsweep.config.schema import MLPConfig
from optsweep.engine.graph.networks import network_of
from optsweep.models.initializers import default
from optsweep.models.mlp import StackedMLP

SEEDS, CLASSES, BATCH = range(3), 4, 7
NETWORKS = {
    "one layer": MLPConfig((5,)),
    "report": MLPConfig((6, 5)),
    "norm after": MLPConfig((6, 5, 4), layernorm_position=(1, 3)),
    "norm before": MLPConfig((6, 5), (1, 2), "before"),
}


@pytest.mark.parametrize("is_shared", [False, True], ids=["own batches", "one batch"])
@pytest.mark.parametrize("shape", [(8,), (2, 2, 2)], ids=["vectors", "images"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_gradient_is_that_of_autograd(name, shape, is_shared):
    generator = torch.Generator().manual_seed(0)
    leading = (BATCH,) if is_shared else (len(SEEDS), BATCH)
    images = torch.randn(*leading, *shape, generator=generator, dtype=torch.float64)
    labels = torch.randint(CLASSES, (len(SEEDS), BATCH), generator=generator)

    def stack():
        arguments = (default, shape, CLASSES, torch.device("cpu"), torch.float64)
        built = StackedMLP(NETWORKS[name], SEEDS, *arguments)
        for _, parameter in built.named_parameters():  # norms begin with ones and zeros
            parameter.data.add_(torch.linspace(-0.1, 0.2, parameter.numel()).view_as(parameter))
        return built

    plain = stack()
    logits = plain.forward(images)
    losses = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    losses = losses.view(labels.shape)
    plain.backward([losses.mean(1).sum()])

    taken_over = stack()
    network = network_of(taken_over, len(shape))
    outcome = network.differentiate(images, labels)
    torch.testing.assert_close(-outcome.log_likelihoods, losses.detach(), rtol=0, atol=1e-14)
    assert torch.equal(outcome.hits, logits.argmax(-1) == labels)
    for (key, expected), (own_key, found) in zip(
        plain.named_parameters(), network.named_parameters(), strict=True
    ):
        assert own_key == key
        gradient = found.grad.transpose(1, 2) if expected.ndim > 2 else found.grad
        assert expected.grad.abs().max() > 1e-3
        torch.testing.assert_close(gradient, expected.grad, rtol=1e-12, atol=1e-15)
    network.named_parameters()[0][1].zero_()
    assert not taken_over.named_parameters()[0][1].any()  # the stack shows what is trained
