"""Hydra's launcher for Slurm, which does not wait for ever for a job that was cancelled.

submitit asks Slurm's accounts what became of a job, and where a cluster keeps none it learns
nothing and waits on. Here the queue is asked instead: a job that has left it twice in a row
without a result has been cancelled or lost.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Sequence

from hydra.core.utils import JobReturn, JobStatus
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher
from omegaconf import OmegaConf
from submitit import SlurmJob
from submitit.core.core import Job
from submitit.core.utils import FailedJobError, UncompletedJobError
from submitit.slurm.slurm import SlurmInfoWatcher

from optsweep.config.checks import InputError

_SECONDS_BETWEEN_LOOKS = 15
_looking = threading.Lock()
_LEAVING, _GONE = "COMPLETING", "GONE"  # to submitit, the first is not done and the second is


class QueueWatcher(SlurmInfoWatcher):
    """Knows the state of jobs from the accounts, or else from the queue."""

    def update(self) -> None:
        """Ask Slurm about all jobs that submitit waits for."""
        with _looking:
            if time.time() - self._last_status_check < 1:
                return  # another thread has just asked, and a second look would come too soon
            self._num_calls += 1
            self._last_status_check = time.time()
        command = self._make_command()
        if command is None:
            return
        asked = subprocess.run(command, capture_output=True, text=True, check=False)
        if asked.returncode == 0:
            self._info_dict.update(self.read_info(asked.stdout))
            return
        command = ["squeue", "--me", "-h", "-r", "-o", "%i %T"]
        asked = subprocess.run(command, capture_output=True, text=True, check=False)
        if asked.returncode:
            return  # the controller is busy or away; it is asked again
        queued = dict(line.split() for line in asked.stdout.splitlines())
        for job in tuple(self._registered):
            left_before = self._info_dict.get(job, {}).get("State") in (_LEAVING, _GONE)
            state = queued.get(job, _GONE if left_before else _LEAVING)
            self._info_dict[job] = {"JobID": job, "State": state}


# One for all threads of a search, each of which waits for a job of its own.
_watcher = QueueWatcher(delay_s=_SECONDS_BETWEEN_LOOKS)


class ClusterLauncher(SlurmLauncher):
    """What `hydra/launcher=submitit_slurm` names."""

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run cells as the jobs of one array, and wait for all of them.

        They write checkpoints, unless the user says otherwise, from which a cell goes on that is
        queued again because its time was up. A job that was cancelled, lost or failed has an
        InputError for its result, and leaves the others theirs.
        """
        logs = self.params["submitit_folder"].replace("/%j", "")

        def results(job: Job) -> list[JobReturn]:
            try:
                return Job.results(job)
            except (FailedJobError, UncompletedJobError):
                lost = JobReturn(overrides=[], status=JobStatus.FAILED)
                lost.return_value = InputError(
                    "a job was cancelled, lost or failed before its cell was trained; the jobs' "
                    f"logs are in {logs}, and the same command continues"
                )
                return [lost]

        # Arrays are made of this very class.
        SlurmJob.watcher = _watcher
        SlurmJob.results = results  # type: ignore[assignment,method-assign]
        return super().launch(self._with_checkpoints(job_overrides), initial_job_idx)

    def _with_checkpoints(self, job_overrides: Sequence[Sequence[str]]) -> list[list[str]]:
        assert self.config is not None
        key = "trainer.checkpoint"
        is_given = bool(OmegaConf.select(self.config, key))
        return [
            [*overrides]
            if is_given or any(each.startswith(f"{key}=") for each in overrides)
            else [*overrides, f"{key}=true"]
            for overrides in job_overrides
        ]
