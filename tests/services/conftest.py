"""Servers that tests start for themselves, on loopback, and stop again.

The tests are skipped unless OPTSWEEP_SERVICES=required, as in .ci/run, says that the servers'
programs are installed: bash scripts/test.sh --numprocesses 0 tests/services
"""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


def need(*programs: str) -> dict[str, str]:
    """Where programs are; the test is skipped if nobody asked for it, and fails without them."""
    if os.environ.get("OPTSWEEP_SERVICES") != "required":
        pytest.skip("servers are started only with OPTSWEEP_SERVICES=required")
    places = [*os.environ["PATH"].split(os.pathsep), "/usr/sbin", "/sbin"]
    places += map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))
    found = {name: shutil.which(name, path=os.pathsep.join(places)) for name in programs}
    missing = [name for name, place in found.items() if place is None]
    if missing:
        pytest.fail(f"not installed: {', '.join(missing)}")
    return {name: str(place) for name, place in found.items()}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def as_user(name: str) -> list[str]:
    """How to run a program as another user, which only root can and some programs need."""
    return ["runuser", "-u", name, "--"] if os.geteuid() == 0 else []


def wait_for(what, seconds: float = 30.0) -> None:
    """Wait until `what()` is true."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come up"
        time.sleep(0.2)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """URL of an empty database in a PostgreSQL of our own."""
    programs = need("initdb", "pg_ctl", "createdb")
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))  # pytest's are for their owner alone
    user = as_user("postgres")
    if user:
        shutil.chown(folder, "postgres")
    data, port = folder / "data", free_port()

    def quietly(command: list) -> None:
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)

    quietly([*user, programs["initdb"], "-D", data, "-A", "trust", "-U", "postgres"])
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
    control = [*user, programs["pg_ctl"], "-D", data, "-w", "-l", folder / "log"]
    quietly([*control, "-o", options, "start"])
    try:
        server = ("-h", "127.0.0.1", "-p", str(port), "-U", "postgres")
        quietly([programs["createdb"], *server, "optsweep"])
        yield f"postgresql+psycopg://postgres@127.0.0.1:{port}/optsweep"
    finally:
        quietly([*control, "-m", "fast", "stop"])
        shutil.rmtree(folder)


_SLURM_CONF = """\
ClusterName=local
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
InactiveLimit=0
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 Boards=1 SocketsPerBoard=1 CoresPerSocket=2 \
ThreadsPerCore=1 RealMemory=8000 State=UNKNOWN
PartitionName=debug Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture(scope="session")
def slurm(tmp_path_factory) -> Iterator[dict[str, str]]:
    """Environment in which sbatch, squeue and scancel reach a one-node cluster of our own."""
    programs = need("slurmctld", "slurmd", "munged", "sbatch", "sinfo")
    if os.geteuid() != 0:
        pytest.skip("Slurm's daemons need root")
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    configuration = folder / "slurm.conf"
    host = socket.gethostname().partition(".")[0]
    configuration.write_text(
        _SLURM_CONF.format(
            host=host, folder=folder, controller_port=free_port(), node_port=free_port()
        )
    )
    environment = {"SLURM_CONF": str(configuration)}
    Path("/run/munge").mkdir(exist_ok=True)
    shutil.chown("/run/munge", "munge", "munge")
    with contextlib.ExitStack() as daemons:
        if subprocess.run(["munge", "-n"], capture_output=True, check=False).returncode:
            daemons.enter_context(_daemon([*as_user("munge"), programs["munged"], "-F"], {}))
            wait_for(
                lambda: (
                    not subprocess.run(["munge", "-n"], capture_output=True, check=False).returncode
                )
            )
        for command in (
            [programs["slurmctld"], "-D", "-f", configuration],
            [programs["slurmd"], "-D", "-f", configuration, "-N", host],
        ):
            daemons.enter_context(_daemon(command, environment))

        def idle() -> bool:
            told = subprocess.run(
                [programs["sinfo"], "-h", "-o", "%T"],
                env=os.environ | environment,
                capture_output=True,
                text=True,
                check=False,
            )
            return told.stdout.strip() == "idle"

        wait_for(idle)
        yield environment


@contextlib.contextmanager
def _daemon(command: list, environment: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(
        command,
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
