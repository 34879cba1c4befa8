"""Hydra's launcher for Slurm, which does not wait for ever for a job that was cancelled.

submitit asks Slurm's accounts what became of a job, and where a cluster keeps none it learns
nothing and waits on. Here the queue is asked instead: a job that has left it twice in a row
without a result has been cancelled or lost.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence

from hydra.core.utils import JobReturn
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher
from submitit import SlurmJob
from submitit.core.utils import UncompletedJobError
from submitit.slurm.slurm import SlurmInfoWatcher

from optsweep.config.checks import InputError

_SECONDS_BETWEEN_LOOKS = 15
_LEAVING, _GONE = "COMPLETING", "GONE"  # to submitit, the first is not done and the second is


class QueueWatcher(SlurmInfoWatcher):
    """Knows the state of jobs from the accounts, or else from the queue."""

    def update(self) -> None:
        """Ask Slurm about all jobs that submitit waits for."""
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

    def all_done(self) -> bool:
        """Whether no job is in the queue any more."""
        return all(self.is_done(job) for job in tuple(self._registered))


# One for all threads of a search, each of which waits for a job of its own.
_watcher = QueueWatcher(delay_s=_SECONDS_BETWEEN_LOOKS)


class ClusterLauncher(SlurmLauncher):
    """What `hydra/launcher=submitit_slurm` names."""

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run cells as the jobs of one array and wait for them.

        Raises:
            InputError: If one ended without a result; not before all have ended.
        """
        SlurmJob.watcher = _watcher
        try:
            return super().launch(job_overrides, initial_job_idx)
        except UncompletedJobError as error:
            while not _watcher.all_done():
                time.sleep(1)
            folder = self.params["submitit_folder"].replace("/%j", "")
            raise InputError(
                "a job was cancelled, lost or failed before its cell was trained; the jobs' logs "
                f"are in {folder}, and the same command continues"
            ) from error
