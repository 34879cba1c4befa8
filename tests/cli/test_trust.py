"""A file from a stranger can neither run a program nor write where it likes."""

import pytest
import yaml

LAUNCHED = "import pathlib\npathlib.Path('launched').touch()\n"
HANDLER = {
    "version": 1,
    "handlers": {"file": {"class": "logging.FileHandler", "filename": "victim.txt", "mode": "w"}},
    "root": {"handlers": ["file"]},
}
MALICIOUS = {
    "callback": (
        {"hydra": {"callbacks": {"evil": {"_target_": "os.system", "command": "touch launched"}}}},
        "hydra.callbacks.evil: optsweep has no callbacks",
    ),
    "our callback": (
        {"hydra": {"callbacks": {"ours": {"_target_": "optsweep.data.files._run"}}}},
        "hydra.callbacks.ours: optsweep has no callbacks",
    ),
    "sweeper": (
        {"hydra": {"sweeper": {"_target_": "os.system"}}},
        "hydra.sweeper._target_=os.system: expected one of optsweep's own parts",
    ),
    "launcher": (
        {"hydra": {"launcher": {"_target_": "subprocess.run"}}},
        "hydra.launcher._target_=subprocess.run: expected one of optsweep's own parts",
    ),
    "job logging": (
        {"hydra": {"job_logging": HANDLER}},
        "hydra.job_logging: a file may not set it",
    ),
    "hydra logging": (
        {"hydra": {"hydra_logging": HANDLER}},
        "hydra.hydra_logging: a file may not set it",
    ),
    "environment": (
        {"hydra": {"job": {"env_set": {"LD_PRELOAD": "evil.so"}}}},
        "hydra.job.env_set: a file may not set it",
    ),
    "allowing itself": (
        {"allow_targets": ["evil"], "optimizer": {"_target_": "evil.SGD"}},
        "allow_targets=['evil']: a file may not allow packages",
    ),
    "schedule": (
        {
            "scheduler": {
                "_target_": "optsweep.runs.os.system",
                "command": "touch launched",
                "factor": None,
            }
        },
        "scheduler._target_=optsweep.runs.os.system: expected a torch.optim.lr_scheduler",
    ),
    "import": (
        {"optimizer": {"_target_": "evil.SGD"}},
        "optimizer._target_=evil.SGD: expected a torch.optim.Optimizer",
    ),
    "swept": (
        {"hydra": {"sweeper": {"params": {"hydra.job_logging.root": "x", "seed": "0,1"}}}},
        "hydra.job_logging.root: a sweep cannot vary Hydra's own settings",
    ),
    "commands of a cluster's jobs": (
        {
            "defaults": [{"override /hydra/launcher": "submitit_slurm"}],
            "hydra": {"launcher": {"setup": ["touch launched"]}},
        },
        "hydra.launcher.setup: a file may not set it",
    ),
}


@pytest.mark.parametrize("name", MALICIOUS)
@pytest.mark.parametrize("mode", ["experiment", "option"])
def test_a_strangers_file_is_refused_in_one_line(run, tmp_path, name, mode):
    """As an experiment, which is a sweep, and as an option of any group in a single run."""
    content, message = MALICIOUS[name]
    if mode == "option" and name == "swept":
        pytest.skip("a single run has nothing to sweep")
    (tmp_path / "evil.py").write_text(LAUNCHED)
    (tmp_path / "victim.txt").write_text("precious")
    folder = tmp_path / "theirs" / ("experiment" if mode == "experiment" else "init")
    folder.mkdir(parents=True)
    text = "# @package _global_\n" + yaml.safe_dump(content, sort_keys=False)
    (folder / "theirs.yaml").write_text(text)
    chosen = ("experiment=theirs",) if mode == "experiment" else ("+init@_global_=theirs",)
    search_path = f"hydra.searchpath=[file://{tmp_path / 'theirs'}]"
    code, output, errors = run(search_path, *chosen, "trainer.epochs=1")
    assert (code, output) == (2, "")
    assert errors.startswith("optsweep: error: ")
    assert message in errors
    assert errors.count("\n") == 1
    assert (tmp_path / "victim.txt").read_text() == "precious"
    assert not (tmp_path / "launched").exists()
    assert not (tmp_path / "multirun").exists()


def test_the_user_may_allow_a_package(run, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch\nclass Slow(torch.optim.SGD):\n"
        "    def __init__(self, params, lr=0.01):\n        super().__init__(params, lr=lr)\n"
    )
    code, output, errors = run("optimizer=mine.Slow", "trainer.epochs=1")
    assert (code, output) == (2, "")
    assert "add" not in errors
    assert "to trust a package: allow_targets=[mine]" in errors
    code, output, errors = run("optimizer=mine.Slow", "trainer.epochs=1", "allow_targets=[mine]")
    assert (code, errors) == (0, "")
    assert "engine: torch (numba has no rule for these settings of Slow)" in output


def test_allowed_packages_are_a_list(run):
    code, _, errors = run("allow_targets=mine", "trainer.epochs=1")
    assert (code, errors) == (
        2,
        "optsweep: error: allow_targets=mine: expected a list such as [mypackage]\n",
    )


def test_another_primary_configuration_is_refused(run):
    code, _, errors = run("--config-name", "other")
    assert code == 2
    assert errors.startswith("optsweep: error: --config-path, --config-name: there is one primary")
