"""`optsweep best`: chosen by validation, composed again, taken home as weights and as ONNX."""

import numpy as np
import pytest
import torch
from run_tree import config_of, curve, write_cell

import optsweep
from optsweep.cli.spelling import check_experiment, spell, write_experiment
from optsweep.commands import best
from optsweep.commands.named import Named
from optsweep.config.checks import InputError


def scored(root, lr, val, test, val_size=10_000):
    curves = {seed: curve((2.3, 0.1), (1.0, test)) for seed in range(3)}
    for scores in (each for epochs in curves.values() for each in epochs if val_size):
        scores |= {"val_loss": 1.0, "val_accuracy": val}
    return write_cell(root, config_of(lr=lr, val_size=val_size), curves)


def test_validation_decides_and_the_test_images_do_not(tmp_path):
    better = scored(tmp_path, 0.1, val=0.9, test=0.5)
    worse = scored(tmp_path, 0.2, val=0.8, test=0.99)
    without = scored(tmp_path, 0.3, val=None, test=1.0, val_size=0)
    found = best.best_of(Named("all", tmp_path, dict.fromkeys((worse, without, better), "")))
    assert found.cell == better
    assert "1 setting without validation images left out" in found.told
    with pytest.raises(InputError, match="the test images are not to choose by"):
        best.best_of(Named("all", tmp_path, {without: ""}))


@pytest.mark.parametrize(
    "overrides",
    [
        "optimizer=adam scheduler=cosine_warmup batch_size=512",
        "scheduler=factor_slow depth=deeper layernorm_position=[1,3]",
        "model=lenet optimizer=amsgrad weight_decay=light init=kaiming",
        "momentum=nesterov scheduler=one_cycle optimizer.decay_biases_and_norms=false",
        "optimizer=ademamix +optimizer.groups.last.lr=1e-2 model.dropout=0.25",
        "optimizer=adam optimizer.rest._target_=torch.optim.SGD optimizer.rest.roles=[bias]",
        "scheduler=sequential scheduler.milestone_epochs=[3] trainer.epochs=5",
        "scheduler=torch.optim.lr_scheduler.StepLR +scheduler.step_size=3",
        "optimizer=torch.optim.Adamax dataset=kmnist dataset.val_size=1000 stopping.patience=2",
    ],
)
def test_a_configuration_is_spelt_so_that_it_composes_again(compose, tmp_path, overrides):
    config = compose(*overrides.split())
    spelt = spell(config)  # which checks what it gives
    assert len(spelt) <= 1 + len(overrides.split())
    write_experiment(tmp_path, "mine", spelt, "where it comes from")
    check_experiment(tmp_path, "mine", config, [])


def test_the_best_on_real_runs(trained, optsweep_in, tmp_path):
    code, output, errors = optsweep_in(trained, "best", "rates", "--out", str(tmp_path))
    assert (code, errors) == (0, "")
    line = next(line for line in output.splitlines() if line.startswith("cell: "))
    directory = trained / line.removeprefix("cell: ")
    again = ["--config-dir", str(tmp_path), "experiment=best_rates"]
    code, output, errors = optsweep_in(trained, *again)
    assert (code, errors) == (0, "")
    assert "done before" in output  # the very cell
    weights = torch.load(tmp_path / "weights.pt", weights_only=True)
    network = optsweep.load(directory, 4)
    assert all(torch.equal(weights[4][key], own) for key, own in network.state_dict().items())
    code, output, errors = optsweep_in(trained, "best", "mine", "--onnx", "net.onnx")
    assert code == 2
    assert "trained again on 10 fresh seeds" in output
    assert "weights were not kept; to have them: python -m optsweep " in errors


def test_an_onnx_file_gives_what_the_network_does(trained, capsys, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="optsweep[onnx] is not installed")
    pytest.importorskip("onnxscript", reason="optsweep[onnx] is not installed")
    file = tmp_path / "net.onnx"
    arguments = ["--runs", str(trained / "multirun"), "--out", str(tmp_path), "--onnx", str(file)]
    with pytest.raises(SystemExit):
        best.main(["rates", *arguments, "--seed", "9"])
    assert "has seeds 0 to 4" in capsys.readouterr().err
    assert best.main(["rates", *arguments, "--seed", "3"]) == 0
    output = capsys.readouterr().out
    line = next(line for line in output.splitlines() if line.startswith("cell: "))
    network = optsweep.load(trained / line.removeprefix("cell: "), 3)
    images = torch.rand(7, 1, 28, 28)
    session = onnxruntime.InferenceSession(file)
    (found,) = session.run(None, {"images": images.numpy()})
    np.testing.assert_allclose(found, network(images).detach().numpy(), atol=1e-5)
