"""Every reading against what the exact Hessian of a tiny network gives, and against curvlinops."""

import math

import numpy as np
import pytest
import torch
from functions import Draw, Function, sgd, whole
from pytorch_optimizer import SophiaH
from torch import nn
from torch.autograd.functional import hessian

from optsweep.data.tensors import Split
from optsweep.diagnosis.budget import descent_budget
from optsweep.diagnosis.escape import find_escape, slope_drop
from optsweep.diagnosis.examination import Settings, examine
from optsweep.diagnosis.forks import training_curvature, training_gradient
from optsweep.diagnosis.lanczos import extreme_eigenpairs, lanczos, until_converged
from optsweep.diagnosis.noise import gradient_noise, mean_cosine, signal
from optsweep.diagnosis.operators import MeanLoss
from optsweep.diagnosis.spectrum import density
from optsweep.diagnosis.subject import NetworkLoss, constant_inputs, split
from optsweep.diagnosis.walker import Batches, Method, Walker, stability_limit
from optsweep.models.mlp import MLP

NUM_EXAMPLES = 40
EXACT = {"rel": 1e-8, "abs": 1e-8}


@pytest.fixture(scope="module")
def tiny(example_arrays):
    """A network of 156 weights on 40 real images, cut down to the 20 inputs that vary most."""
    arrays = example_arrays("vectors")
    images = torch.tensor(arrays.train_images[:NUM_EXAMPLES, :20], dtype=torch.float64)
    labels = torch.tensor(arrays.train_labels[:NUM_EXAMPLES].astype(np.int64))
    torch.manual_seed(0)
    network = MLP(20, 10, [4, 3]).double()
    return NetworkLoss(network, Split(images, labels), num_activations=17)


@pytest.fixture(scope="module")
def everything(tiny):
    return torch.arange(tiny.num_examples)


@pytest.fixture(scope="module")
def exact(tiny, everything):
    """Gradient and Hessian, and all gradients of single examples."""
    point = tiny.start
    matrix = hessian(lambda w: tiny.losses(w, everything).mean(), point)
    rows = [MeanLoss(tiny, one).gradient(point) for one in everything.split(1)]
    return torch.stack(rows).mean(0), matrix, torch.stack(rows)


@pytest.fixture(scope="module")
def probe(tiny, everything):
    """All the steps that Lanczos can take."""
    product = MeanLoss(tiny, everything).hessian(tiny.start)
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(len(tiny.start), generator=generator, dtype=torch.float64)
    return lanczos(product, start, len(start), generator)


def residuals(matrix, found):
    values = torch.from_numpy(found.values)[:, None]
    return (found.vectors @ matrix - values * found.vectors).norm(dim=1)


def test_loss_gradient_and_products_are_exact(tiny, everything, exact):
    gradient, matrix, _ = exact
    loss = MeanLoss(tiny, everything)
    assert loss.value(tiny.start) == pytest.approx(
        float(tiny.losses(tiny.start, everything).mean()), **EXACT
    )
    assert torch.allclose(loss.gradient(tiny.start), gradient, rtol=0, atol=1e-12)
    vector = Draw(0).normal(len(gradient))
    product = loss.hessian(tiny.start)
    for _ in range(2):  # the graph is kept
        assert torch.allclose(product(vector), matrix @ vector, rtol=0, atol=1e-12)


def test_pieces_of_bounded_memory_give_the_same(tiny, everything, exact, monkeypatch):
    gradient, matrix, _ = exact
    vector = Draw(1).normal(len(gradient))
    pieces = tiny.fork()
    pieces.rows = 7  # of 40: the last piece is smaller
    for kept in (10**9, 0):
        monkeypatch.setattr("optsweep.diagnosis.operators._KEPT_VALUES", kept)
        loss = MeanLoss(pieces, everything)
        assert torch.allclose(loss.gradient(tiny.start), gradient, rtol=0, atol=1e-12)
        found = loss.hessian(tiny.start)(vector)
        assert torch.allclose(found, matrix @ vector, rtol=0, atol=1e-12)


def test_extreme_eigenvalues_are_those_of_the_exact_hessian(exact, probe):
    values, vectors = torch.linalg.eigh(exact[1])
    found = extreme_eigenpairs(probe, 10, 5)
    wanted = torch.cat([values[-10:].flip(0), values[:5].flip(0)]).numpy()
    assert found.values == pytest.approx(wanted, **EXACT)
    true = residuals(exact[1], found)
    assert float(true.max()) < 1e-8
    assert float((vectors[:, -1] @ found.vectors[0]).abs()) == pytest.approx(1, abs=1e-8)


def test_residuals_bound_the_error_of_few_steps(tiny, everything, exact):
    product = MeanLoss(tiny, everything).hessian(tiny.start)
    generator = torch.Generator().manual_seed(2)
    start = torch.randn(len(tiny.start), generator=generator, dtype=torch.float64)
    found = extreme_eigenpairs(lanczos(product, start, 20, generator), 3, 3)
    true = residuals(exact[1], found)
    assert found.residuals == pytest.approx(true.numpy(), abs=1e-10)
    values = torch.linalg.eigvalsh(exact[1]).numpy()
    for value, residual in zip(found.values, found.residuals, strict=True):
        assert np.abs(values - value).min() <= residual + 1e-12


def test_lanczos_stops_when_it_has_converged(tiny, everything):
    product = MeanLoss(tiny, everything).hessian(tiny.start)
    generator = torch.Generator().manual_seed(3)
    start = torch.randn(len(tiny.start), generator=generator, dtype=torch.float64)
    found = lanczos(product, start, 150, generator, until_converged(2, 1, 1e-3))
    pairs = extreme_eigenpairs(found, 2, 1)
    assert len(found.diagonal) < 150
    assert pairs.residuals.max() <= 1e-3 * np.abs(pairs.values).max()


def test_multiple_eigenvalues_are_found_as_often_as_they_are_there():
    turn = Draw(4).rotation(8)
    values = torch.tensor([3.0, 3.0, 3.0, 1.0, 0.0, 0.0, -2.0, -2.0], dtype=torch.float64)
    matrix = turn @ torch.diag(values) @ turn.T
    generator = torch.Generator().manual_seed(0)
    found = lanczos(lambda v: matrix @ v, Draw(5).normal(8), 8, generator)
    assert found.connected == 4
    assert extreme_eigenpairs(found, 4, 4).values == pytest.approx(values.numpy(), abs=1e-10)


@pytest.mark.parametrize("steps", [5, 20, 156])
@pytest.mark.parametrize("probes", [1, 4])
def test_density_is_as_near_as_is_stated(tiny, everything, exact, steps, probes):
    product = MeanLoss(tiny, everything).hessian(tiny.start)
    generator = torch.Generator().manual_seed(6)
    found = [
        lanczos(
            product,
            torch.randn(len(tiny.start), generator=generator, dtype=torch.float64),
            steps,
            generator,
        )
        for _ in range(probes)
    ]
    estimate = density(found, len(tiny.start))
    values = torch.linalg.eigvalsh(exact[1]).numpy()
    assert estimate.weights.sum() == pytest.approx(1, abs=1e-10)
    assert estimate.distance(values) <= estimate.accuracy
    assert estimate.accuracy < (values.max() - values.min())  # it states something


def test_distance_of_densities_is_the_area_between_them(probe):
    estimate = density([probe], 156)
    assert estimate.distance(np.array([estimate.nodes.max() + 7])) == pytest.approx(
        estimate.nodes.max() + 7 - estimate.nodes @ estimate.weights, rel=1e-9
    )


def test_budget_of_sgd_is_the_descent_lemma(tiny, everything, exact):
    """All batches of one example: -lr |g|^2 + lr^2 / 2 (g^T H g + tr(H Sigma) / B) with B = 1."""
    gradient, matrix, rows = exact
    lr, count = 0.03, len(rows)
    product = MeanLoss(tiny, everything).hessian(tiny.start)
    walker = Walker(sgd(lr), tiny.start, tiny.shapes)
    updates = torch.stack([walker.update(row) for row in rows])
    found = descent_budget(gradient, product, updates, torch.zeros(count))
    sigma = (rows - gradient).T @ (rows - gradient) / (count - 1)  # K batches estimate it
    bent = float(gradient @ matrix @ gradient)
    trace = float((matrix @ sigma).trace())
    assert found.descent == pytest.approx(-lr * float(gradient @ gradient), **EXACT)
    assert found.noise == pytest.approx(lr**2 / 2 * trace, **EXACT)
    assert found.expected == pytest.approx(
        found.descent + lr**2 / 2 * (bent + trace * (count - 1) / count), **EXACT
    )


def test_budget_foretells_what_a_small_step_does(tiny, everything, exact):
    gradient, _, rows = exact
    loss = MeanLoss(tiny, everything)
    walker = Walker(sgd(1e-3), tiny.start, tiny.shapes)
    updates = torch.stack([walker.update(row) for row in rows])
    before = loss.value(tiny.start)
    changes = torch.tensor([loss.value(tiny.start + each) - before for each in updates])
    found = descent_budget(gradient, loss.hessian(tiny.start), updates, changes)
    assert found.measured == pytest.approx(found.expected, rel=1e-3)


def test_noise_of_all_single_examples_is_their_variance(tiny, everything, exact):
    gradient, _, rows = exact
    found = gradient_noise(tiny, tiny.start, list(everything.split(1)), rows)
    variance = float((rows - gradient).square().sum(1).mean()) * len(rows) / (len(rows) - 1)
    assert found.trace == pytest.approx(variance, **EXACT)
    curved = [
        row @ hessian(lambda w, one=one: tiny.losses(w, one).mean(), tiny.start) @ row
        for row, one in zip(rows, everything.split(1), strict=True)
    ]
    assert found.sharpness == pytest.approx(float(sum(curved) / rows.square().sum()), **EXACT)


def test_noise_of_batches_estimates_that_of_examples(tiny, exact):
    """Many batches of eight without replacement: within four standard errors."""
    gradient, _, rows = exact
    drawn = Batches(len(rows), seed=3)
    batches = [drawn.at(step, 8) for step in range(200)]
    gradients = torch.stack([MeanLoss(tiny, batch).gradient(tiny.start) for batch in batches])
    found = gradient_noise(tiny, tiny.start, batches, gradients)
    variance = float((rows - gradient).square().sum(1).mean())
    assert abs(found.trace - variance) < 4 * found.error
    assert found.scale(float(gradient.square().sum())) == found.trace / float(
        gradient.square().sum()
    )


def test_examination_tells_what_the_exact_hessian_tells(tiny, exact):
    gradient, matrix, _ = exact
    settings = Settings(examples=None, lanczos_steps=156, tolerance=0, steps=3, epoch=False)
    found = examine(tiny, tiny.start, sgd(0.1, batch_size=NUM_EXAMPLES), settings, seed=0)
    readings = found.readings
    values, vectors = torch.linalg.eigh(matrix)
    length = float(gradient.norm())
    bent = matrix @ gradient
    sharp = float(values.abs().max())
    assert readings.gradient_norm == pytest.approx(length, **EXACT)
    assert readings.hessian_gradient == pytest.approx(float(bent.norm()) / length, **EXACT)
    assert readings.flatness == pytest.approx(float(bent.norm()) / length / sharp, **EXACT)
    assert readings.bending == pytest.approx(float(gradient @ bent) / length**2, **EXACT)
    top = (vectors[:, -10:].T @ gradient).square().sum()
    assert readings.top_share == pytest.approx(float(top) / length**2, **EXACT)
    assert readings.stability == pytest.approx(float(values[-1]) * 0.1 / 2, rel=1e-6)
    assert readings.noise == 0
    assert readings.cosine <= 1


@pytest.mark.filterwarnings("ignore:`torch.jit.script`:FutureWarning")  # of what it imports
def test_products_are_curvlinops(tiny, everything):
    """An independent library's Hessian, on the same network and images."""
    import curvlinops

    images, labels = tiny._train.images, tiny._train.labels
    network = tiny._network
    parameters = [p for p in network.parameters() if p.requires_grad]
    operator = curvlinops.HessianLinearOperator(
        network, nn.CrossEntropyLoss(), parameters, [(images, labels)], check_deterministic=False
    )
    vector = Draw(9).normal(len(tiny.start))
    ours = MeanLoss(tiny, everything).hessian(tiny.start)(vector)
    assert torch.allclose(ours, (operator @ vector).detach(), rtol=0, atol=1e-12)


def test_momentum_goes_on_from_its_state(tiny, exact):
    gradient, _, _ = exact
    first = Walker(sgd(0.1, momentum=0.9), tiny.start, tiny.shapes)
    first.step(gradient)
    assert torch.allclose(first.update(gradient), -0.19 * gradient, rtol=1e-10)
    assert torch.allclose(first.update(gradient), -0.19 * gradient, rtol=1e-10)  # none was taken


def test_sophia_is_told_the_curvature_where_it_stands():
    """Of x^4 with signs as noise the estimate is exact: 12 x^2, times the examples' mean."""
    shares = torch.tensor([0.5, 1.5, 2.5], dtype=torch.float64)
    quartic = Function(lambda w, e: shares[e] * (w**4).sum(), 3, num_examples=3, rows=2)
    start = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    settings = {"update_period": 2, "hessian_distribution": "rademacher"}

    def build(named):
        return SophiaH([tensor for _, tensor in named], lr=0.1, **settings)

    walker = Walker(Method(build, SophiaH, 0.1, 3, settings), start, quartic.shapes)
    plain = nn.Parameter(start.unsqueeze(0).clone())
    peer = SophiaH([plain], lr=0.1, **settings)
    examples = torch.arange(3)
    for step in range(5):
        gradient = training_gradient(quartic, walker.point, examples)
        walker.step(gradient, curvature=training_curvature(quartic, walker.point, examples))
        plain.grad = gradient.unsqueeze(0)
        due = step % 2 == 0
        peer.step(hessian=[1.5 * 12 * plain.detach() ** 2] if due else None)
        assert torch.allclose(walker.point, plain.detach()[0], rtol=1e-12)
        walker = walker.copy()  # which has the settings that it keeps for itself


def test_steps_without_the_sharpest_directions(tiny, exact, probe):
    gradient, _, _ = exact
    sharpest = extreme_eigenpairs(probe, 10, 0).vectors
    walker = Walker(sgd(0.1), tiny.start, tiny.shapes)
    walker.step(gradient, without=sharpest)
    moved = walker.point - tiny.start
    assert float((sharpest @ moved).abs().max()) < 1e-12
    assert torch.allclose(moved, -0.1 * (gradient - (sharpest @ gradient) @ sharpest), atol=1e-12)


def test_adams_preconditioner_is_what_it_divides_by(tiny, exact):
    gradient, _, _ = exact
    method = Method(
        lambda named: torch.optim.Adam([t for _, t in named], lr=1e-3),
        torch.optim.Adam,
        1e-3,
        NUM_EXAMPLES,
    )
    walker = Walker(method, tiny.start, tiny.shapes)
    assert walker.preconditioner() is None  # nothing is gathered yet
    for _ in range(3):
        walker.step(gradient)
    before = walker.point.clone()
    walker.step(gradient)
    # Of one gradient again and again, momentum is (1 - 0.9^4) g and the root is |g|.
    taken = (before - walker.point) / 1e-3 * walker.preconditioner()
    assert torch.allclose(taken, (1 - 0.9**4) * gradient, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "growth"),
    [({}, 2.0), ({"momentum": 0.9}, 3.8), ({"momentum": 0.9, "nesterov": True}, 3.8 / 2.8)],
)
def test_limits_are_where_steps_begin_to_grow(arguments, growth):
    method = Method(list, torch.optim.SGD, 0.1, 1, arguments)
    assert stability_limit(method) == pytest.approx(growth / 0.1)
    for factor, grows in ((0.98, False), (1.02, True)):
        weight = nn.Parameter(torch.ones(1, dtype=torch.float64))
        optimizer = torch.optim.SGD([weight], lr=0.1, **arguments)
        for _ in range(2000):
            weight.grad = factor * stability_limit(method) * weight.detach()
            optimizer.step()
        assert (abs(float(weight.detach())) > 1) is grows


def test_limit_takes_weight_decay_off():
    method = Method(list, torch.optim.SGD, 0.1, 1, {"weight_decay": 0.5})
    assert stability_limit(method) == pytest.approx(19.5)


def test_no_way_down_beyond_the_slope_where_the_loss_is_convex():
    draw = Draw(11)
    subject = whole(lambda w: 1 + (w**2).sum() + 0.1 * (w**4).sum())
    loss = MeanLoss(subject, torch.arange(1))
    point = draw.normal(6)
    directions = [draw.unit() for _ in range(5)]
    gradient = loss.gradient(point)
    found = find_escape(loss.value, point, loss.value(point), gradient, directions)
    assert found.drop <= 0
    assert slope_drop(loss.value, point, loss.value(point), gradient) > 0.3


def test_way_down_along_negative_curvature():
    subject = whole(lambda w: 1 + w[0] ** 2 - 0.5 * w[1] ** 2 + 0.25 * w[1] ** 4, 2)
    loss = MeanLoss(subject, torch.arange(1))
    point = torch.zeros(2, dtype=torch.float64)
    found = find_escape(
        loss.value, point, 1.0, torch.zeros_like(point), list(torch.eye(2).double())
    )
    assert found.drop == pytest.approx(0.25)  # at distance 1, which is one of those tried
    assert found.kick.abs().tolist() == [0, 1]


def test_units_without_signal_are_seen():
    weight = torch.ones(4, 3)
    gradient = torch.ones(4, 3)
    gradient[1] = 0
    reach = signal(
        [(weight, gradient), (weight, 4 * torch.ones(4, 3))], torch.ones(2), torch.ones(8)
    )
    assert reach.dead_units == 0.25
    assert reach.gradient_ratio == pytest.approx(3 / math.sqrt(12) / 4)
    assert reach.update_ratio == pytest.approx(0.5)


def test_inputs_that_never_change_are_counted():
    images = torch.zeros(5, 2, 2)
    images[2, 0, 1] = 1
    images[:, 1, 1] = 7
    assert constant_inputs(images) == 0.75


def test_successive_gradients_that_turn_have_a_negative_cosine():
    forth = torch.tensor([1.0, 0.0])
    assert mean_cosine([forth, -forth, forth]) == pytest.approx(-1)


def test_batches_see_every_example_once_a_cycle():
    batches = Batches(10, seed=0)
    seen = torch.cat([batches.at(step, 4) for step in range(5)])  # two cycles
    assert sorted(seen[:10].tolist()) == sorted(seen[10:].tolist()) == list(range(10))
    assert batches.at(0, 8).tolist() == seen[:8].tolist()  # eight times the batch, same order
    assert batches.at(3, 99).tolist() == list(range(10))


def test_a_network_is_split_into_its_parameters(tiny):
    named = dict(split(tiny.start, tiny.shapes))
    assert {name: tuple(t.shape) for name, t in named.items()} == {
        "linear1.weight": (4, 20), "linear1.bias": (4,), "linear2.weight": (3, 4),
        "linear2.bias": (3,), "linear3.weight": (10, 3), "linear3.bias": (10,),
    }  # fmt: skip
    assert torch.equal(named["linear2.weight"], tiny._network.linear2.weight)
