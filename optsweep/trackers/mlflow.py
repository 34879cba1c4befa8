"""MLflow: a parent run for each sweep, a nested run for each cell, by its client."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from optsweep.config.checks import InputError, first_line
from optsweep.trackers.records import Record, plain

_NAME, _FINGERPRINT = "optsweep.name", "optsweep.fingerprint"
_PARENT = "mlflow.parentRunId"
_BATCH = 1000  # metrics that a server takes at once
_PARAMETERS = 100
_LONGEST = 5000  # of a tag's value


class MLflow:
    """Runs in the experiment of the project's name, in a store of MLflow's."""

    def __init__(self, project: str, out: str | None) -> None:
        """Connect with the store `out`: MLFLOW_TRACKING_URI, or else a file mlflow.db."""
        for name in ("alembic", "mlflow"):
            logging.getLogger(name).setLevel(logging.WARNING)
        uri = out or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
        self.place = f"{uri} {project}"
        self.hint = f"mlflow ui --backend-store-uri {uri}"
        try:
            self._client = MlflowClient(tracking_uri=uri)
            found = self._client.get_experiment_by_name(project)
            self._experiment = (
                self._client.create_experiment(project) if found is None else found.experiment_id
            )
        except MlflowException as error:
            raise InputError(f"--out {uri}: {first_line(error)}") from error

    def told(self) -> Mapping[str, str]:
        """See `export.Tracker.told`."""
        runs = self._runs("")
        tags = [run.data.tags for run in runs]
        return {each[_NAME]: each[_FINGERPRINT] for each in tags if _FINGERPRINT in each}

    def tell(self, record: Record) -> None:
        """See `export.Tracker.tell`."""
        sweep = None if not record.cell else self._sweep(record.sweep)
        if record.cell or not self._runs(record.name):
            for run in self._runs(record.name):
                self._client.delete_run(run.info.run_id)
            run_id = self._create(record, sweep)
        else:
            run_id = self._sweep(record.name)  # which its cells hang on
        self._log(run_id, record)
        for name, path in record.figures.items():
            self._client.log_artifact(run_id, str(path), f"figures/{name}")
        end = int(1000 * record.seconds) or None
        self._client.set_terminated(run_id, "FINISHED", end)
        self._client.set_tag(run_id, _FINGERPRINT, record.fingerprint)

    def _create(self, record: Record, sweep: str | None) -> str:
        tags = {_NAME: record.name} | ({_PARENT: sweep} if sweep else {})
        started = record.seconds - record.scores.get("seconds", 0.0)
        run = self._client.create_run(
            self._experiment, int(1000 * started) or None, tags, record.title
        )
        return run.info.run_id

    def _sweep(self, name: str) -> str:
        """The run of a sweep, which is made if it is not there."""
        found = self._runs(name)
        if found:
            return found[0].info.run_id
        return self._client.create_run(self._experiment, None, {_NAME: name}, name).info.run_id

    def _runs(self, name: str) -> list[Run]:
        """The runs of a name, or all."""
        wanted = f"tags.`{_NAME}` = '{name}'" if name else f"tags.`{_NAME}` != ''"
        found: list[Run] = []
        token = None
        while True:
            page = self._client.search_runs([self._experiment], wanted, page_token=token)
            found += page
            token = page.token
            if not token:
                return found

    def _log(self, run_id: str, record: Record) -> None:
        metrics = []
        started = record.seconds - record.scores.get("seconds", 0.0)

        def add(key: str, value: float, seconds: float, step: int) -> None:
            metrics.append(Metric(key, value, int(1000 * (started + seconds)), step))

        for epoch, seconds, values in record.means():
            for key, value in values.items():
                add(key, value, seconds, epoch)
        for seed, epochs in record.seeds():
            for epoch, seconds, values in epochs:
                for key, value in values.items():
                    add(f"seed_{seed}/{key}", value, seconds, epoch)
        last = record.scores.get("seconds", 0.0)
        for key, value in record.scores.items():
            add(f"final/{key}", value, last, 0)
        for first in range(0, len(metrics), _BATCH):
            self._client.log_batch(run_id, metrics=metrics[first : first + _BATCH])
        params = [Param(key, str(plain(value))) for key, value in record.parameters.items()]
        if record.cell:  # a sweep's number of cells may grow, and parameters cannot change
            for first in range(0, len(params), _PARAMETERS):
                self._client.log_batch(run_id, params=params[first : first + _PARAMETERS])
        tags = [RunTag(f"optsweep.{key}", value[:_LONGEST]) for key, value in record.tags.items()]
        self._client.log_batch(run_id, tags=tags)
