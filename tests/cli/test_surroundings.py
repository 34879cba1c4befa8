"""The program where it is not at home: read-only, few cores, little memory, no threads, others."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from optsweep import runs
from optsweep.surroundings import num_cores

TESTS = Path(__file__).resolve().parent.parent
CELL = ("trainer.epochs=1", "batch_size=100")
AS_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")

# What lies in root's home, such as the interpreter, is shown to everybody, and nothing else of it.
SHOW_ROOTS = """
set -e; kept=$(mktemp -d); mount --bind "$1" "$kept"
case "$1" in /root/*) mount -t tmpfs -o mode=755 none /root; mkdir -p "$1";; esac
mount --bind "$kept" "$1"; umount "$kept"; rmdir "$kept"; shift; exec "$@"
"""

needs_root = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="another user, mounts and control groups are for root on Linux",
)


@pytest.fixture(scope="module")
def readable_data():
    """Data that every user may read, which pytest's own folders are not for."""
    with tempfile.TemporaryDirectory(prefix="optsweep-data-") as folder:
        shutil.copytree(TESTS / "data", folder, dirs_exist_ok=True)
        Path(folder).chmod(0o755)
        yield folder


@pytest.fixture
def run_in(tmp_path, readable_data):
    """`run_in(prefix, *arguments, **environment)`: the program by another command before it."""

    def ran(prefix, *arguments, cwd=tmp_path, **environment):
        settings = (
            "--config-dir",
            TESTS / "conf",
            "dataset=slice",
            f"dataset.root={readable_data}",
        )
        settings += ("trainer.device=cpu",)
        own = {"PATH": os.environ["PATH"], "PYTHONPATH": str(TESTS.parent), "OMP_NUM_THREADS": "4"}
        return subprocess.run(
            [*prefix, sys.executable, "-m", "optsweep", *settings, *arguments],
            cwd=cwd,
            env=own | environment,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    return ran


def in_namespace(*command: str) -> tuple[str, ...]:
    home = str(Path(sys.executable).resolve().parent.parent)
    return ("unshare", "-m", "bash", "-c", SHOW_ROOTS, "-", home, *command)


@needs_root
def test_a_user_without_rights_and_home_trains_and_is_told(run_in, request):
    open_to_all = Path(tempfile.mkdtemp())  # pytest's own folders are its user's alone
    request.addfinalizer(lambda: shutil.rmtree(open_to_all))
    folder = open_to_all / "a folder für ſomebody"
    folder.mkdir()
    open_to_all.chmod(0o755)
    folder.chmod(0o777)
    place = ("env", "HOME=/proc", "LC_ALL=tr_TR.UTF-8", "TMPDIR=/nowhere")
    done = run_in(in_namespace(*AS_NOBODY, *place), *CELL, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = [line for line in done.stdout.splitlines() if "compiled code cannot be kept" in line]
    assert line.startswith("compiled code cannot be kept in /proc/.cache/optsweep/numba (")
    assert len(list(folder.rglob(runs.RESULT_FILE))) == 1
    assert not (folder / "~").exists()


TEAM = """
import os, resource, sys, threading
import numpy as np
from optsweep.cli.composition import compose
from optsweep.data.tensors import load_dataset
from optsweep.engine.choice import ENGINES
from optsweep.models import build_stack
from optsweep.training.plan import plan_cell

plan = plan_cell(compose(*sys.argv[1:]))
work = plan.work
train = load_dataset(plan.config.dataset, work.device, work.dtype).train
stack = build_stack(
    work.model, plan.initializer, [0], work.input_shape, 10, work.device, work.dtype
)
engine = ENGINES["numba"].build(work, stack, train)
engine.team_sizes = [2]
engine.pool._max_workers = 2  # on a machine of one core too
os.setuid(54321)  # root has no such limit
most = len(os.listdir("/proc/self/task")) + 1
resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
try:
    engine.train_epoch(None, np.ones(1))
except RuntimeError as error:
    print(error)
"""


@needs_root
def test_a_member_that_cannot_be_ends_its_team(data_root):
    """The other one waits for it."""
    search_path = f"hydra.searchpath=[file://{TESTS}/conf]"
    settings = ("dataset=slice", f"dataset.root={data_root}", "batch_size=full", *CELL[:1])
    done = subprocess.run(
        [sys.executable, "-c", TEAM, search_path, *settings, "trainer.device=cpu"],
        env=os.environ | {"PYTHONPATH": str(TESTS.parent), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "can't start new thread\n")


@needs_root
def test_a_finished_grid_answers_on_a_read_only_disk_without_its_data(run_in, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(TESTS / "data", data)
    given = ("--multirun", "seed=0,1", *CELL, f"dataset.root={data}")
    assert run_in((), *given).returncode == 0
    shutil.rmtree(data)
    read_only = f'mount --bind "{tmp_path}" "{tmp_path}"; mount -o remount,ro,bind "{tmp_path}"; '
    done = run_in(
        ("unshare", "-m", "bash", "-c", read_only + f'cd "{tmp_path}"; "$@"', "-"), *given
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("done before") == 2


@needs_root
def test_a_quota_counts_as_cores(run_in, tmp_path):
    groups = [Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")]
    group = next(folder for folder in groups if folder.is_dir()) / f"optsweep-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("no control group can be made here")
    try:
        names = {"cpu.cfs_quota_us": "100000", "cpu.max": "100000 100000"}
        known = [name for name in names if (group / name).exists()]
        if not known:
            pytest.skip("this control group has no quotas")
        (group / known[0]).write_text(names[known[0]])
        (group / "cgroup.procs").touch()
        inside = ("bash", "-c", f'echo $$ > "{group}/cgroup.procs"; exec "$@"', "-")
        assert run_in(inside, *CELL, "trainer.num_threads=4").returncode == 0
    finally:
        group.rmdir()
    (result,) = tmp_path.rglob(runs.RESULT_FILE)
    assert json.loads(result.read_text())["num_threads"] == 1


def test_affinity_and_the_users_word_count_as_cores(monkeypatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert num_cores() == 1


def test_a_cell_that_cannot_fit_says_so_before_any_is_trained(run, tmp_path):
    wide = "model.hidden_sizes=[65536,65536]"
    code, _, errors = run("--multirun", "seed=0,1", "num_seeds=1,1000", wide, *CELL)
    assert code == 2
    assert errors.count("\n") == 1
    assert "it takes about" in errors
    assert "GB are free" in errors
    assert not list(tmp_path.rglob(runs.CONFIG_FILE))


def test_a_table_of_too_many_rates_is_refused_at_once(run):
    long = ("trainer.epochs=1000000", "scheduler=cosine", "scheduler.interval=step")
    code, _, errors = run(*long, "batch_size=1")
    assert code == 2
    assert errors.endswith("or at most 100000 epochs\n")
    assert errors.count("\n") == 1


def test_two_that_compile_at_once_keep_the_code_of_both(start, tmp_path):
    """In one new home, in two precisions; what they keep is then loaded, and is the same."""
    home = {"NUMBA_CACHE_DIR": str(tmp_path / "home")}

    def losses(*folders):
        cells = [
            start(*CELL, f"trainer.precision={kind}", f"hydra.run.dir={folder}/{kind}", **home)
            for folder in folders
            for kind in ("float32", "float64")
        ]
        for cell in cells:
            _, errors = cell.communicate()
            assert (cell.returncode, errors) == (0, "")
        columns = []
        for folder in folders:
            for kind in ("float32", "float64"):
                text = (tmp_path / folder / kind / runs.HISTORY_FILE).read_text()
                columns.append([line.rpartition(",")[0] for line in text.splitlines()])
        return columns

    compiled = losses("first")
    files = sorted((tmp_path / "home").rglob("*.nbc"))
    assert losses("second") == compiled
    assert sorted((tmp_path / "home").rglob("*.nbc")) == files
