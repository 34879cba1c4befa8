"""The table of learning rates: ours by their formulas, PyTorch's own by stepping them."""

import math
import warnings

import numpy as np
import pytest
import torch
import yaml
from torch.optim import lr_scheduler

from optsweep.cli.composition import config_dir
from optsweep.config.checks import InputError
from optsweep.optim.rates import timetable
from optsweep.optim.resolved import ResolvedOptimizer
from optsweep.optim.schedules import (
    cosine_warmup,
    factor,
    inverse_sqrt,
    linear_warmup,
    piecewise,
    warmup,
    warmup_stable_decay,
)

TORCH = "torch.optim.lr_scheduler."
OURS = "optsweep.optim.schedules."


def tabulate(target, lr=0.1, epochs=10, steps_per_epoch=5, interval="epoch", **settings):
    scheduler = {"_target_": target, "interval": interval, **settings}
    return timetable(scheduler, lr, epochs, steps_per_epoch).rates


def multipliers(schedule, num_ticks):
    return [schedule(t) for t in range(num_ticks)]


# --- ours: closed forms at the boundaries


def test_factor_falls_geometrically_to_its_floor():
    # The report's factor(2.0, 0.9), floor 1e-2: 0.9^50 = 0.00515, 0.9^51 = 0.00464.
    schedule = factor(0.9, floor_scale=0.005)
    assert schedule(0) == 1
    assert schedule(1) == 0.9
    assert schedule(50) == pytest.approx(math.exp(50 * math.log(0.9)))
    assert schedule(51) == schedule(1000) == 0.005


def test_factor_one_is_constant():
    assert set(multipliers(factor(1), 100)) == {1}


def test_factor_without_floor_stays_positive():
    assert 0 < factor(0.5)(100) < 1e-30


def test_piecewise_changes_at_each_milestone():
    schedule = piecewise(8, [0.25, 0.75], gamma=0.1)
    expected = [1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01]
    assert multipliers(schedule, 8) == pytest.approx(expected)


def test_piecewise_does_not_care_for_the_order_of_its_milestones():
    orders = [0.5, 0.75], [0.75, 0.5]
    one, other = (multipliers(piecewise(20, order, gamma=0.5), 20) for order in orders)
    assert one == other


def test_warmup_ends_at_one_and_stays():
    schedule = warmup(10, warmup_steps=4)
    assert multipliers(schedule, 10) == [0.25, 0.5, 0.75] + 7 * [1]


@pytest.mark.parametrize("warmup_steps", [0, 1])
def test_shortest_warmups_are_none(warmup_steps):
    assert multipliers(warmup(5, warmup_steps), 5) == 5 * [1]


def test_longest_warmup_reaches_one_before_the_end():
    assert multipliers(warmup(5, 4), 5) == [0.25, 0.5, 0.75, 1, 1]


def test_cosine_warmup_at_its_boundaries():
    schedule = cosine_warmup(12, warmup_steps=4, final_scale=0.2)
    assert schedule(0) == 0.25
    assert schedule(3) == 1
    assert schedule(4) == 1  # the cosine starts from its top
    assert schedule(8) == pytest.approx(0.6)  # half way: (1 + 0.2) / 2
    assert schedule(12) == pytest.approx(0.2)  # approached, never trained with
    assert schedule(11) == pytest.approx(0.2 + 0.8 * (1 + math.cos(math.pi * 7 / 8)) / 2)


def test_cosine_warmup_without_warmup_is_cosine_annealing():
    ours = tabulate(OURS + "cosine_warmup", warmup_epochs=0)
    np.testing.assert_allclose(ours, tabulate(TORCH + "CosineAnnealingLR"), rtol=1e-12)


def test_linear_warmup_at_its_boundaries():
    schedule = linear_warmup(12, warmup_steps=4, final_scale=0.2)
    assert [schedule(t) for t in (0, 3, 4)] == [0.25, 1, 1]
    assert schedule(8) == pytest.approx(0.6)
    assert schedule(12) == pytest.approx(0.2)


def test_linear_warmup_without_warmup_is_linear_to_zero():
    ours = tabulate(OURS + "linear_warmup", warmup_epochs=0)
    theirs = tabulate(TORCH + "LinearLR", start_factor=1.0, end_factor=0.0)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize(("decay", "half_way"), [("linear", 0.6), ("sqrt", 1 - 0.8 * 0.5**0.5)])
def test_warmup_stable_decay_at_its_boundaries(decay, half_way):
    schedule = warmup_stable_decay(100, 0.1, 0.2, final_scale=0.2, decay=decay)
    assert [schedule(t) for t in (0, 9, 10, 79, 80)] == [0.1, 1, 1, 1, 1]
    assert schedule(90) == pytest.approx(half_way)
    assert schedule(100) == pytest.approx(0.2)


def test_warmup_stable_decay_may_have_neither():
    assert set(multipliers(warmup_stable_decay(7, 0, 0), 7)) == {1}


def test_inverse_sqrt_has_its_peak_where_the_warmup_ends():
    schedule = inverse_sqrt(1000, warmup_steps=100)
    assert schedule(0) == 0.01
    assert schedule(99) == 1
    assert schedule(399) == pytest.approx(0.5)


@pytest.mark.parametrize("build", [warmup, cosine_warmup, linear_warmup, inverse_sqrt])
@pytest.mark.parametrize("warmup_steps", [10, 11, -1])
def test_warmup_has_to_be_shorter_than_the_run(build, warmup_steps):
    with pytest.raises(ValueError, match=rf"warm-up of {warmup_steps} .* run of 10.* shorter"):
        build(10, warmup_steps)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: factor(0), r"factor=0: expected a number in \(0, 1\]"),
        (lambda: factor(1.1), r"factor=1.1: expected a number in \(0, 1\]"),
        (lambda: factor(0.9, floor_scale=-0.1), r"floor_scale=-0.1: expected .* \[0, 1\]"),
        (lambda: factor(0.9, floor_scale=2), r"floor_scale=2: expected .* \[0, 1\]"),
        (lambda: piecewise(10, [0.5, 1.0], 0.1), r"fractions=\[0.5, 1.0\]: .* between 0 and 1"),
        (lambda: piecewise(10, [0], 0.1), r"fractions=\[0\]: .* between 0 and 1"),
        (lambda: warmup_stable_decay(9, 0.5, 0.6), "0.5 and a decay of 0.6 do not fit"),
        (lambda: warmup_stable_decay(9, -0.1), "warmup_fraction=-0.1: expected a number in"),
        (lambda: warmup_stable_decay(9, decay="cubic"), "decay=cubic: expected linear or sqrt"),
        (lambda: inverse_sqrt(9, warmup_steps=0), "expected a warm-up"),
    ],
)
def test_values_that_cannot_be(build, message):
    with pytest.raises(ValueError, match=message):
        build()


# --- PyTorch's own: equal to stepping them by hand


@pytest.mark.parametrize("interval", ["epoch", "step"])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ConstantLR", {"factor": 0.5, "total_iters": 3}),
        ("CosineAnnealingLR", {"T_max": 7, "eta_min": 0.01}),
        ("CosineAnnealingWarmRestarts", {"T_0": 3, "T_mult": 2}),
        pytest.param(
            "CyclicLR",
            {"base_lr": 0.01, "max_lr": 0.2, "cycle_momentum": False},
        ),
        ("ExponentialLR", {"gamma": 0.9}),
        ("LinearLR", {"start_factor": 1.0, "end_factor": 0.0, "total_iters": 10}),
        ("MultiStepLR", {"milestones": [2, 5], "gamma": 0.5}),
        ("OneCycleLR", {"max_lr": 0.3, "total_steps": 60, "cycle_momentum": False}),
        ("PolynomialLR", {"power": 2.0, "total_iters": 10}),
        ("StepLR", {"step_size": 3, "gamma": 0.1}),
    ],
)
def test_schedules_of_pytorch_are_what_stepping_them_gives(name, settings, interval):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    scheduler = getattr(lr_scheduler, name)(optimizer, **settings)
    stepped = []
    for _ in range(50 if interval == "step" else 10):
        stepped.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    rates = tabulate(TORCH + name, interval=interval, **settings)
    assert rates.ravel().tolist() == stepped


# --- several of them, and what else they change


def stepped(optimizer, scheduler, num_ticks):
    """Groups of a real optimizer, stepped by hand."""
    groups = []
    for _ in range(num_ticks):
        groups.append({k: v for k, v in optimizer.param_groups[0].items() if k != "params"})
        optimizer.step()
        scheduler.step()
    return groups


def nodes(*schedulers):
    return [{"_target_": TORCH + name, **settings} for name, settings in schedulers]


def test_one_after_the_other_with_the_lengths_of_their_parts():
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    parts = [
        lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=3),
        lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=2),
        lr_scheduler.CosineAnnealingLR(optimizer, T_max=5),
    ]
    scheduler = lr_scheduler.SequentialLR(optimizer, parts, milestones=[3, 5])
    rates = tabulate(
        TORCH + "SequentialLR",
        schedulers=nodes(
            ("LinearLR", {"start_factor": 0.1}),
            ("ConstantLR", {"factor": 0.5}),
            ("CosineAnnealingLR", {}),
        ),
        milestones=[3, 5],
    )
    assert rates.ravel().tolist() == [group["lr"] for group in stepped(optimizer, scheduler, 10)]


def test_milestones_in_epochs_of_a_schedule_by_step():
    schedulers = nodes(("LinearLR", {"start_factor": 0.5}), ("ConstantLR", {"factor": 1.0}))
    given = {"schedulers": schedulers, "interval": "step"}
    one = tabulate(TORCH + "SequentialLR", milestone_epochs=[0.4], **given)
    other = tabulate(TORCH + "SequentialLR", milestones=[2], **given)
    assert one.tolist() == other.tolist()
    assert one.ravel()[:3].tolist() == pytest.approx([0.05, 0.075, 0.1])


def test_all_at_once_multiply():
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    parts = [
        lr_scheduler.LinearLR(optimizer, start_factor=0.25, total_iters=3),
        lr_scheduler.ExponentialLR(optimizer, gamma=0.9),
    ]
    scheduler = lr_scheduler.ChainedScheduler(parts)
    schedulers = nodes(
        ("LinearLR", {"start_factor": 0.25, "total_iters": 3}), ("ExponentialLR", {"gamma": 0.9})
    )
    rates = tabulate(TORCH + "ChainedScheduler", schedulers=schedulers)
    assert rates.ravel().tolist() == [group["lr"] for group in stepped(optimizer, scheduler, 10)]


def test_ours_may_be_one_after_the_other():
    ours = {"_target_": OURS + "warmup_stable_decay", "warmup_fraction": 0.5, "decay_fraction": 0.5}
    constant = nodes(("ConstantLR", {"factor": 1.0}))
    rates = tabulate(TORCH + "SequentialLR", schedulers=[ours, *constant], milestones=[4])
    assert rates.ravel().tolist() == pytest.approx([0.05, 0.1, 0.1, 0.05] + 6 * [0.1])


def test_ours_are_not_multiplied():
    """torch's LambdaLR, by which they would join, forgets what the others have made of the rate."""
    ours = {"_target_": OURS + "warmup", "warmup_steps": 2}
    with pytest.raises(InputError, match=r"schedules.warmup would undo what the others do"):
        tabulate(TORCH + "ChainedScheduler", schedulers=[ours, *nodes(("StepLR", {}))])


def test_schedules_may_nest():
    inner = {
        "schedulers": nodes(("ConstantLR", {"factor": 0.5}), ("ExponentialLR", {"gamma": 0.9}))
    }
    outer = nodes(("SequentialLR", {**inner, "milestones": [2]}), ("StepLR", {"step_size": 5}))
    rates = tabulate(TORCH + "ChainedScheduler", schedulers=outer).ravel().tolist()
    expected = [0.05, 0.05, *(0.1 * 0.9**k for k in range(8))]
    factor = [1] * 5 + [0.1] * 5
    assert rates == pytest.approx([a * b for a, b in zip(expected, factor, strict=True)])


@pytest.mark.parametrize("interval", ["epoch", "step"])
@pytest.mark.parametrize(
    ("target", "settings", "cycled"),
    [
        (torch.optim.SGD, {"momentum": 0.9}, "momentum"),
        (torch.optim.SGD, {}, "momentum"),
        (torch.optim.Adam, {"betas": [0.9, 0.99]}, "betas"),
        (torch.optim.RMSprop, {}, "momentum"),
    ],
)
@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("OneCycleLR", {"max_lr": 0.3, "total_steps": 60}),
        ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.2, "step_size_up": 3}),
    ],
)
def test_momentum_is_what_stepping_by_hand_gives(name, given, target, settings, cycled, interval):
    optimizer = target([torch.zeros(1)], lr=0.1, **settings)
    scheduler = getattr(lr_scheduler, name)(optimizer, **given)
    num_ticks = 50 if interval == "step" else 10
    groups = stepped(optimizer, scheduler, num_ticks)
    asked = {"_target_": TORCH + name, "interval": interval, **given}
    others = ResolvedOptimizer(target, settings, True, 0.1).settings()
    rates, values = timetable(asked, 0.1, 10, 5, others)
    assert rates.ravel().tolist() == [group["lr"] for group in groups]
    assert list(values) == [cycled]
    assert values[cycled].shape[:2] == ((10, 5) if interval == "step" else (10, 1))
    found = values[cycled].reshape(num_ticks, -1).tolist()
    assert found == [np.atleast_1d(group[cycled]).tolist() for group in groups]


def test_a_schedule_of_the_rate_alone_cycles_nothing():
    asked = {"_target_": TORCH + "OneCycleLR", "interval": "step", "cycle_momentum": False}
    assert timetable(asked, 0.1, 10, 5, {"momentum": 0.9}).cycled == {}


def test_momentum_of_an_optimizer_that_has_none_is_refused():
    asked = {"_target_": TORCH + "OneCycleLR", "interval": "step"}
    with pytest.raises(InputError, match="OneCycleLR: optimizer must support momentum"):
        timetable(asked, 0.1, 10, 5, {"eps": 1e-8})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedulers": nodes(("StepLR", {"size": 3}))}, "StepLR has no setting 'size'; it has"),
        ({"schedulers": nodes(("ReduceLROnPlateau", {}))}, "ReduceLROnPlateau needs a metric"),
        ({"schedulers": nodes(("ConstantLR", {})), "milestones": [1]}, "SequentialLR: .*mileston"),
        ({"schedulers": [{"_target_": "os.system"}]}, "os.system: expected a torch.optim.lr"),
    ],
)
def test_mistakes_in_several_are_named(settings, message):
    with pytest.raises(InputError, match=message):
        tabulate(TORCH + "SequentialLR", **({"milestones": []} | settings))


# --- from epochs and steps to ticks


@pytest.mark.parametrize(
    ("interval", "shape", "num_ticks"), [("epoch", (10, 1), 10), ("step", (10, 5), 50)]
)
class TestInterval:
    def test_shape(self, interval, shape, num_ticks):
        assert tabulate(TORCH + "ConstantLR", factor=1.0, interval=interval).shape == shape

    @pytest.mark.parametrize(
        ("target", "length"),
        [
            (TORCH + "CosineAnnealingLR", "T_max"),
            (TORCH + "LinearLR", "total_iters"),
            (TORCH + "PolynomialLR", "total_iters"),
            (TORCH + "OneCycleLR", "total_steps"),
        ],
    )
    def test_length_defaults_to_the_run(self, interval, shape, num_ticks, target, length):
        settings = {"interval": interval}
        if target.endswith("OneCycleLR"):
            settings["cycle_momentum"] = False
        default = tabulate(target, **settings)
        assert default.tolist() == tabulate(target, **settings, **{length: num_ticks}).tolist()
        longer = tabulate(target, **settings, **{length: num_ticks + 1})
        assert default.tolist() != longer.tolist()

    def test_ours_last_as_long_as_the_run(self, interval, shape, num_ticks):
        rates = tabulate(OURS + "cosine_warmup", warmup_epochs=0, interval=interval).ravel()
        last = (1 + math.cos(math.pi * (num_ticks - 1) / num_ticks)) / 2
        assert rates[-1] == pytest.approx(0.1 * last)

    def test_epochs_are_turned_into_ticks(self, interval, shape, num_ticks):
        rates = tabulate(OURS + "warmup", lr=1.0, warmup_epochs=2, interval=interval).ravel()
        num_warmup = num_ticks // 5
        ramp = [(t + 1) / num_warmup for t in range(num_warmup)]
        assert rates.tolist() == pytest.approx(ramp + (num_ticks - num_warmup) * [1.0])

    def test_warmup_as_long_as_the_run_is_refused(self, interval, shape, num_ticks):
        with pytest.raises(ValueError, match=f"warm-up of {num_ticks} .* run of {num_ticks}"):
            tabulate(OURS + "warmup", warmup_epochs=10, interval=interval)


def test_half_an_epoch_of_warmup():
    rates = tabulate(OURS + "warmup", lr=1.0, warmup_epochs=0.4, interval="step").ravel()
    assert rates[:3].tolist() == [0.5, 1.0, 1.0]


def test_base_rate_scales_every_schedule():
    for target in (TORCH + "CosineAnnealingLR", OURS + "cosine_warmup"):
        one, ten = tabulate(target, lr=0.1), tabulate(target, lr=1.0)
        np.testing.assert_allclose(10 * one, ten, rtol=1e-12)


def test_a_schedule_can_bring_its_own_base_rate():
    rates = tabulate(OURS + "factor", lr=0.1, base_lr=2.0, factor=0.9, floor_scale=0.005)
    assert rates.ravel().tolist() == pytest.approx([2.0 * 0.9**k for k in range(10)])


def test_one_cycle_peaks_at_the_base_rate():
    rates = tabulate(TORCH + "OneCycleLR", lr=0.3, interval="step", cycle_momentum=False)
    assert rates.max() == pytest.approx(0.3)
    assert rates[0, 0] == pytest.approx(0.3 / 25)  # PyTorch's div_factor
    assert rates[-1, -1] == pytest.approx(0.3 / 25 / 1e4)  # and its final_div_factor


def test_one_cycle_takes_a_peak_of_its_own():
    rates = tabulate(TORCH + "OneCycleLR", lr=0.3, max_lr=0.7, cycle_momentum=False)
    assert rates.max() == pytest.approx(0.7)


# --- warnings and errors


@pytest.mark.parametrize(
    ("interval", "milestones", "message"),
    [
        ("epoch", [15, 30], "milestones: 15, 30 is never reached in 10 epochs"),
        ("epoch", [5, 10], "milestones: 10 is never reached in 10 epochs"),
        ("step", [15, 50], "milestones: 50 is never reached in 50 steps"),
    ],
)
def test_milestone_that_is_never_reached_warns(interval, milestones, message):
    with pytest.warns(UserWarning, match=message):
        tabulate(TORCH + "MultiStepLR", milestones=milestones, interval=interval)


def test_milestone_of_the_last_tick_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rates = tabulate(TORCH + "MultiStepLR", milestones=[9], gamma=0.5)
    assert rates.ravel().tolist() == 9 * [0.1] + [0.05]


@pytest.mark.parametrize("target", [TORCH + "ConstantLR", OURS + "warmup"])
def test_unknown_setting_is_refused(target):
    settings = {"warmup_epochs": 1} if target.startswith(OURS) else {}
    with pytest.raises(ValueError, match="gama"):
        tabulate(target, gama=0.5, **settings)


def test_missing_setting_is_refused():
    with pytest.raises(ValueError, match=r"MultiStepLR.*milestones"):
        tabulate(TORCH + "MultiStepLR")


@pytest.mark.parametrize(
    ("target", "settings"),
    [
        (TORCH + "ConstantLR", {"factor": math.nan}),
        (TORCH + "MultiStepLR", {"milestones": [3], "gamma": -1.0}),
        (TORCH + "ExponentialLR", {"gamma": math.inf}),
        (OURS + "factor", {"factor": 1.0, "base_lr": -1.0}),
    ],
)
def test_rates_that_no_optimizer_would_take_are_refused(target, settings):
    with pytest.raises(ValueError, match="finite number >= 0"):
        tabulate(target, **settings)


# In one epoch, one milestone lies at the start and one at the end; in two, one at the end.
@pytest.mark.parametrize("epochs", [1, 2])
def test_piecewise_warns_of_milestones_that_a_short_run_has_not(epochs):
    with pytest.warns(UserWarning, match="milestone"):
        tabulate(OURS + "piecewise", epochs=epochs, milestone_fractions=[0.5, 0.75], gamma=0.5)


def test_schedule_that_needs_a_metric_is_refused():
    with pytest.raises(ValueError, match="ReduceLROnPlateau needs a metric"):
        tabulate(TORCH + "ReduceLROnPlateau")


def test_schedule_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="CosineLR: there is no such object"):
        tabulate(TORCH + "CosineLR")


# --- as a textbook's loop asks for them, behind each epoch


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("report_factor_fast", [0.1, 0.01, 0.01, 0.01]),
        ("report_factor_fast_unplotted", [0.1, 1.8, 1.62, 1.458]),
        ("report_factor_slow", [0.1, 0.001, 0.001, 0.001]),
        ("report_factor_slow_unplotted", [0.1, 0.16, 0.128, 0.1024]),
        ("report_cosine_warmup", [0.1, 0.0, 0.075, 0.15, 0.225, 0.3]),
        ("report_cosine_low", [0.1, 0.1]),
    ],
)
def test_the_reports_schedules_begin_at_the_trainers_rate(name, expected):
    settings = yaml.safe_load((config_dir() / "scheduler" / f"{name}.yaml").read_text())
    rates = tabulate(settings.pop("_target_"), epochs=10, steps_per_epoch=1, **settings)
    assert rates[: len(expected)] == pytest.approx(expected, abs=1e-12)
    if "cosine" in name:  # of its 20 epochs
        assert rates[-1] < rates[len(expected) - 1]
