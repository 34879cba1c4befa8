"""Groups of parameters by role: which they are, and what optimizers make of them."""

import pytest
import torch

from optsweep.config.checks import InputError
from optsweep.config.identity import config_hash
from optsweep.config.schema import Config, MLPConfig, ModuleConfig
from optsweep.models import build_stack
from optsweep.models.initializers import default
from optsweep.optim.resolved import resolve_optimizer
from optsweep.optim.roles import roles_of
from optsweep.optim.stacks import set_rate
from optsweep.training.plan import plan_cell

CPU = torch.device("cpu")


def named(model, input_shape=(1, 28, 28)):
    stack = build_stack(model, default, range(2), input_shape, 10, CPU, torch.double)
    return stack.named_parameters()


def groups_of(optimizer, parameters):
    """Name -> the group of parameters that it is in, without its tensors."""
    names = {tensor.data_ptr(): name for name, tensor in parameters}
    return {
        names[tensor.data_ptr()]: {k: v for k, v in group.items() if k != "params"}
        for group in optimizer.param_groups
        for tensor in group["params"]
        if tensor.data_ptr() in names
    }


def test_roles_of_a_multilayer_perceptron():
    parameters = named(MLPConfig((8, 7, 6), layernorm_position=(2,)))
    roles = dict(zip([name for name, _ in parameters], roles_of(parameters), strict=True))
    assert roles == {
        **{"linear1.weight": "first", "linear2.weight": "hidden", "linear3.weight": "hidden"},
        **{"linear4.weight": "last", "norm2.weight": "norm", "norm2.bias": "norm"},
        **{f"linear{layer}.bias": "bias" for layer in range(1, 5)},
    }


def test_roles_of_torchvision_s_networks():
    parameters = named(ModuleConfig("torchvision.models.resnet18"), (3, 32, 32))
    roles = dict(zip([name for name, _ in parameters], roles_of(parameters), strict=True))
    assert roles["conv1.weight"] == "first"
    assert roles["layer1.0.conv1.weight"] == roles["layer2.0.downsample.0.weight"] == "hidden"
    assert roles["bn1.weight"] == roles["bn1.bias"] == "norm"
    assert (roles["fc.weight"], roles["fc.bias"]) == ("last", "bias")


def test_roles_of_a_transformer():
    shapes = {
        "class_token": (1, 1, 4),
        "conv_proj.weight": (4, 3, 2, 2),
        "attention.in_proj_weight": (12, 4),
        "attention.in_proj_bias": (12,),
        "ln.weight": (4,),
        "head.weight": (10, 4),
        "scale": (),
    }
    roles = roles_of([(name, torch.zeros(2, *shape)) for name, shape in shapes.items()])
    assert roles == ["embedding", "first", "hidden", "bias", "norm", "last", "norm"]


def test_a_group_has_settings_and_a_rate_of_its_own(compose):
    overrides = "momentum=0.9 +optimizer.groups.last.lr=0.01 +optimizer.groups.bias.momentum=0.5"
    parameters = named(MLPConfig((8, 7)))
    optimizer = resolve_optimizer(compose(*overrides.split()).optimizer).build(parameters)
    groups = groups_of(optimizer, parameters)
    assert groups["linear3.weight"]["rate_scale"] == pytest.approx(0.1)
    assert groups["linear1.weight"].get("rate_scale", 1) == 1
    assert groups["linear1.bias"]["momentum"] == 0.5
    assert groups["linear2.weight"]["momentum"] == 0.9


def test_a_schedule_moves_the_rates_of_all_groups(slice_config):
    """Two epochs of plain SGD with a halved rate, written out for the last layer."""
    given = ["+optimizer.groups.last.lr=0.02", "scheduler=linear", "trainer.epochs=2"]
    config = slice_config("optimizer.lr=0.1", *given, "batch_size=full", "dataset.train_size=50")
    plan = plan_cell(config)
    assert plan.engine.reason == "numba knows no groups of parameters with settings of their own"
    assert plan.learning_rates.ravel().tolist() == pytest.approx([0.1, 0.05])
    optimizer = plan.work.optimizer.build(parameters := named(MLPConfig((8,))))
    set_rate(optimizer, 0.05)
    groups = groups_of(optimizer, parameters)
    assert groups["linear1.weight"]["lr"] == 0.05
    assert groups["linear2.weight"]["lr"] == pytest.approx(0.01)


@pytest.mark.parametrize("name", ["lars", "lamb"])
def test_biases_and_norms_that_are_not_adapted_take_plain_steps(compose, name):
    override = "optimizer.adapt_biases_and_norms=false"
    resolved = resolve_optimizer(compose(f"optimizer={name}", override).optimizer)
    parameters = named(MLPConfig((8,), layernorm_position=(1,)))
    before = {key: tensor.detach().clone() for key, tensor in parameters}
    optimizer = resolved.build(parameters)
    for _, tensor in parameters:
        tensor.grad = torch.ones_like(tensor)
    optimizer.step()
    # The first step of momentum is lr g, that of Adam lr g / (|g| + eps).
    step = resolved.lr if name == "lars" else resolved.lr / (1 + 1e-6)
    for key, tensor in parameters:
        moved = before[key] - tensor.detach()
        plain = torch.allclose(moved, torch.full_like(moved, step), rtol=1e-9)
        assert plain == (tensor.ndim == 2)


SAME = [
    ("optimizer.adapt_biases_and_norms=true", ""),
    ("+optimizer.groups.last.lr=0.1", ""),
    ("+optimizer.groups.last.lr=null", ""),
    (
        "weight_decay=0.1 +optimizer.groups.bias.weight_decay=0 "
        "+optimizer.groups.norm.weight_decay=0",
        "weight_decay=0.1 optimizer.decay_biases_and_norms=false",
    ),
    (
        "optimizer=lars +optimizer.groups.bias.adapt=false +optimizer.groups.norm.adapt=false",
        "optimizer=lars optimizer.adapt_biases_and_norms=false",
    ),
    (
        "optimizer=muon optimizer.rest.roles=[norm,bias,last,first,embedding]",
        "optimizer=muon",
    ),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_two_ways_of_saying_it_are_one_cell(compose, one, other):
    first, second = compose(*one.split()), compose(*other.split())
    assert first.optimizer == second.optimizer
    assert config_hash(first) == config_hash(second)


def test_groups_make_another_cell(compose):
    texts = ["", "+optimizer.groups.last.lr=0.2", "+optimizer.groups.first.lr=0.2"]
    assert len({config_hash(compose(*text.split())) for text in texts}) == 3


REFUSED = [
    ("+optimizer.groups.lasst.lr=0.1", "there is no role lasst; did you mean last?"),
    ("optimizer.groups=3", "optimizer.groups=3: expected settings by role: first"),
    ("+optimizer.groups.last=3", "optimizer.groups.last=3: expected settings"),
    ("+optimizer.groups.last.beta=3", "optimizer SGD has no setting 'beta'"),
    ("+optimizer.groups.last.nesterov=0.5", "optimizer.groups.last.nesterov=0.5: expected true"),
    ("optimizer.adapt_biases_and_norms=false", "optimizer SGD has no setting 'adapt'"),
    ("optimizer.adapt_biases_and_norms=1", "adapt_biases_and_norms=1: expected true or false"),
    ("optimizer.rest.lr=0.1", "optimizer.rest.lr: this optimizer has no second one"),
    ("optimizer=muon optimizer.rest.roles=[]", r"rest.roles=\[\]: expected a list of first"),
    ("optimizer=muon optimizer.rest.roles=[la]", "there is no role la; did you mean last"),
    ("optimizer=muon optimizer.rest.lr=-1", "optimizer.rest.lr=-1: expected a finite number"),
    ("optimizer=muon depth=1", "Muon is for parameters in the role hidden, of which this"),
    ("optimizer=muon optimizer.rest._target_=os.system", "optimizer._target_=os.system: expected"),
    ("optimizer=adam optimizer.betas=[0.9,0.9,0.9]", "betas=.*: expected two numbers in"),
    ("optimizer=ademamix optimizer.betas=[0.9,0.9]", "betas=.*: expected three numbers in"),
]


@pytest.mark.parametrize(("overrides", "message"), REFUSED)
def test_what_cannot_be_is_one_line(slice_config, overrides, message):
    if "muon" in overrides and not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    with pytest.raises(InputError, match=message) as error:
        plan_cell(slice_config(*overrides.split()))
    assert "\n" not in str(error.value)


def test_the_rest_keeps_its_share_of_the_rate(compose):
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    parameters = named(MLPConfig((8, 7)))
    optimizer = resolve_optimizer(compose("optimizer=muon").optimizer).build(parameters)
    groups = groups_of(optimizer, parameters)
    assert set(groups) - {"linear2.weight"} == {
        name for name, _ in parameters if name != "linear2.weight"
    }
    assert groups["linear1.weight"]["rate_scale"] == pytest.approx(1e-3 / 0.02)


def test_what_its_state_is_of_tells_groups_apart(compose):
    texts = [
        "",
        "optimizer.decay_biases_and_norms=false",
        "+optimizer.groups.last.lr=0.2",
        "+optimizer.groups.hidden.lr=0.2",
        "+optimizer.groups.hidden.lr=0.3",
        "optimizer.rest._target_=torch.optim.AdamW",
        "optimizer.rest._target_=torch.optim.Adam",
        "optimizer.rest._target_=torch.optim.Adam optimizer.rest.roles=[bias]",
    ]
    kinds = [resolve_optimizer(compose(*text.split()).optimizer).kind for text in texts]
    assert kinds[0] == kinds[1] == "torch.optim.sgd.SGD"
    assert kinds[3] == kinds[4]
    assert len(set(kinds)) == len(kinds) - 2


def test_a_configuration_without_groups_is_as_it_was():
    assert "groups" not in Config().optimizer
    assert "rest" not in Config().optimizer
