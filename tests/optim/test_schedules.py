"""The table of learning rates: ours by their formulas, PyTorch's own by stepping them."""

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch.optim import lr_scheduler

from optsweep.optim.rates import learning_rates
from optsweep.optim.schedules import cosine_warmup, factor, piecewise, warmup

TORCH = "torch.optim.lr_scheduler."
OURS = "optsweep.optim.schedules."


def tabulate(target, lr=0.1, epochs=10, steps_per_epoch=5, interval="epoch", **settings):
    scheduler = {"_target_": target, "interval": interval, **settings}
    return learning_rates(scheduler, lr, epochs, steps_per_epoch)


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


@pytest.mark.parametrize("build", [warmup, cosine_warmup])
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
    settings = yaml.safe_load((Path("conf/scheduler") / f"{name}.yaml").read_text())
    rates = tabulate(settings.pop("_target_"), epochs=10, steps_per_epoch=1, **settings)
    assert rates[: len(expected)] == pytest.approx(expected, abs=1e-12)
    if "cosine" in name:  # of its 20 epochs
        assert rates[-1] < rates[len(expected) - 1]
