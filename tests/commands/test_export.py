"""`optsweep export`: what each tracker then has, once however often it is told."""

import json
import os
import subprocess
import sys

import pytest

from optsweep.commands import export
from optsweep.runs import read_result


def exported(trained, capsys, *arguments: str) -> str:
    assert export.main([str(trained / "multirun" / "rates"), *arguments]) == 0
    return capsys.readouterr().out.splitlines()[-1]


def result_of(trained, rate):
    cells = (trained / "multirun" / "cells").glob("slice-*")
    (cell,) = (each for each in cells if f"lr_{rate}-" in each.name and "gauss" not in each.name)
    return cell.name, read_result(cell)


def mean(result, key):
    return sum(each[key] for each in result["per_seed"]) / len(result["per_seed"])


def test_tensorboard(trained, capsys, tmp_path):
    pytest.importorskip("tensorboard", reason="optsweep[tensorboard] is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    to = ["--to", "tensorboard", "--out", str(tmp_path)]
    assert exported(trained, capsys, *to).startswith("3 new to tensorboard")
    name, result = result_of(trained, 0.3)
    cell = tmp_path / "rates" / name
    events = EventAccumulator(str(cell)).Reload()
    assert [event.step for event in events.Scalars("accuracy/test")] == [0, 1, 2]
    final = events.Scalars("final/test_accuracy")[0].value
    assert final == pytest.approx(mean(result, "test_accuracy"))
    assert events.PluginTagToContent("hparams").keys() >= {"_hparams_/session_start_info"}
    assert b"optimizer.lr" in events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    assert events.Images("curves")
    seed = EventAccumulator(str(cell / "seed_4")).Reload()
    wanted = result["per_seed"][4]["test_accuracy"]
    assert seed.Scalars("accuracy/test")[-1].value == pytest.approx(wanted)

    files = sorted(tmp_path.rglob("*"))
    assert exported(trained, capsys, *to).startswith("0 new")
    assert sorted(tmp_path.rglob("*")) == files
    (cell / "optsweep.txt").unlink()  # as a kill leaves it
    cell.with_name(f"{name}.partial").mkdir()
    assert exported(trained, capsys, *to).startswith("1 new")
    assert len(sorted(tmp_path.rglob("*"))) == len(files)


@pytest.mark.filterwarnings("default::DeprecationWarning")
def test_mlflow(trained, capsys, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="optsweep[mlflow] is not installed")
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert exported(trained, capsys, "--to", "mlflow", "--out", uri).startswith("3 new to mlflow")
    assert exported(trained, capsys, "--to", "mlflow", "--out", uri).startswith("0 new")
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("optsweep").experiment_id
    runs = {run.data.tags["optsweep.name"]: run for run in client.search_runs([experiment])}
    name, result = result_of(trained, 0.3)
    assert len(runs) == 3
    cell = runs[f"rates/{name}"]
    assert cell.data.tags["mlflow.parentRunId"] == runs["rates"].info.run_id
    assert cell.data.params["optimizer.lr"] == "0.3"
    wanted = pytest.approx(mean(result, "test_accuracy"))
    assert cell.data.metrics["final/test_accuracy"] == wanted
    history = client.get_metric_history(cell.info.run_id, "seed_4/test_accuracy")
    assert [each.step for each in history] == [0, 1, 2]
    assert client.list_artifacts(cell.info.run_id, "figures/curves")
    # As a kill leaves it: without its last tag.
    client.delete_tag(cell.info.run_id, "optsweep.fingerprint")
    assert exported(trained, capsys, "--to", "mlflow", "--out", uri).startswith("1 new")
    assert len(client.search_runs([experiment])) == 3


def test_wandb_offline(trained, capsys, tmp_path):
    pytest.importorskip("wandb", reason="optsweep[wandb] is not installed")
    to = ["--to", "wandb", "--out", str(tmp_path)]
    assert exported(trained, capsys, *to).startswith("3 new to wandb")
    assert exported(trained, capsys, *to).startswith("0 new")
    runs = sorted((tmp_path / "wandb").glob("offline-run-*"))
    assert len(runs) == 3
    assert all(list(run.glob("run-*.wandb")) for run in runs)
    (runs[0] / "optsweep.txt").unlink()
    assert exported(trained, capsys, *to).startswith("1 new")
    assert len(sorted((tmp_path / "wandb").glob("offline-run-*"))) == 3


def test_trackio(trained, optsweep_in, tmp_path):
    pytest.importorskip("trackio", reason="optsweep[trackio] is not installed")
    program = (
        "import trackio; runs = {run.name: run for run in trackio.Api().runs('mine')}; "
        "import json; from trackio.sqlite_storage import SQLiteStorage as S; "
        "print(json.dumps({n: [r.config['_Group'], S.get_logs('mine', n, run_id=r.id)] "
        "for n, r in runs.items()}))"
    )
    environment = os.environ | {"TRACKIO_DIR": str(tmp_path)}
    command = ["-m", "optsweep", "export", "rates", "--to", "trackio", "--project", "mine"]
    told = []
    for arguments in (command, command, ["-c", program]):
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=trained,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        told.append(done.stdout.splitlines()[-1])
    assert told[0].startswith("3 new to trackio")
    assert told[1].startswith("0 new to trackio")
    runs = json.loads(told[2])
    name, result = result_of(trained, 0.3)
    assert len(runs) == 3
    sweep, logs = runs[f"rates/{name}"]
    assert sweep == "rates"
    assert [row["step"] for row in logs if "test_accuracy" in row] == [0, 1, 2]
    assert logs[-1]["final/test_accuracy"] == pytest.approx(mean(result, "test_accuracy"))


def test_an_export_that_was_killed_is_continued(trained, tmp_path, optsweep_in):
    pytest.importorskip("tensorboard", reason="optsweep[tensorboard] is not installed")
    command = ["export", "mine", "--to", "tensorboard", "--out", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-m", "optsweep", *command], cwd=trained, stdout=subprocess.PIPE, text=True
    )
    for _ in range(3):
        process.stdout.readline()
    process.kill()
    process.communicate()
    code, output, errors = optsweep_in(trained, *command)
    assert (code, errors) == (0, "")
    number = int(output.splitlines()[-1].partition(" ")[0])
    folders = list((tmp_path / "mine").iterdir())
    assert 0 < number <= len(folders) - 3
    assert all((folder / "optsweep.txt").is_file() for folder in folders)


def test_a_running_sweep_is_followed_to_its_end(on_slice, tmp_path, optsweep_in):
    pytest.importorskip("tensorboard", reason="optsweep[tensorboard] is not installed")
    arguments = [*on_slice, "--multirun", "name=slow", "optimizer.lr=0.1,0.2"]
    sweep = subprocess.Popen(
        [sys.executable, "-m", "optsweep", *arguments], cwd=tmp_path, stdout=subprocess.PIPE
    )
    while not (tmp_path / "multirun" / "slow" / "cells.csv").is_file():
        assert sweep.poll() is None
    command = ["export", "slow", "--to", "tensorboard", "--follow"]
    code, _, errors = optsweep_in(tmp_path, *command)
    sweep.communicate()
    assert (code, errors, sweep.returncode) == (0, "", 0)
    assert len(list((tmp_path / "tensorboard" / "slow").glob("slice-*/optsweep.txt"))) == 2


def test_what_cannot_be_exported(tmp_path, trained, optsweep_in):
    for arguments, wanted in (
        (["nowhere", "--to", "wandb"], "neither a folder, nor"),
        (["rates", "--to", "excel"], "invalid choice: 'excel'"),
        (["rates"], "required: --to"),
        (["rates", "--to", "tensorboard"], "pip install 'optsweep[tensorboard]'"),
    ):
        program = (
            "import sys; sys.modules['tensorboard'] = None\n"  # as if it were not installed
            f"from optsweep.commands.export import main; main({arguments!r})"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=trained,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert wanted in done.stderr
        assert done.stderr.count("\n") == 1
