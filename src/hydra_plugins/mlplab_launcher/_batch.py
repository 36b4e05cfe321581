"""The launcher's work: plan every job, refuse the sweep if one is wrong, make the folders, run the batch."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobRuntime, JobStatus, filter_overrides
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.mlplab_launcher import _rows
from hydra_plugins.mlplab_launcher._compose import Composer
from hydra_plugins.mlplab_launcher._planned import Planned, Planner
from mlplab.config import parse
from mlplab.config.base import SettingError
from mlplab.ledger import Ledger
from mlplab.lock import locked
from mlplab.runs import discard_if_empty, finished, flushed_together, write_atomic

SHOWN_MISTAKES = 3


class BatchReturn(JobReturn):
    """A job's return whose configs are read from its folder when somebody asks for them.

    Attributes:
        outcome: its result, or the exception that it ended with.
    """

    outcome: Any = None

    def __init__(self, job: Planned, subdir: str | None) -> None:
        super().__init__(overrides=job.overrides, task_name=JobRuntime.instance().get("name"))
        self.working_dir = str(Path.cwd())
        self._files, self._subdir = job.files, subdir

    def __getattribute__(self, name: str) -> Any:
        if name in ("cfg", "hydra_cfg") and "_files" in self.__dict__:
            text = self._files["config.yaml" if name == "cfg" else "hydra.yaml"]
            return OmegaConf.create(text)
        return super().__getattribute__(name)


def launch_batch(launcher: Any, job_overrides: list[list[str]], first: int) -> list[JobReturn]:
    """Run all jobs of one launch through the launcher's batch function; alone in the sweep's folder.

    Raises:
        SettingError: a job's settings are wrong; nothing has been written or trained.
    """
    sweep = Path(str(launcher.config.hydra.sweep.dir))
    with locked(sweep):
        return _launch(launcher, job_overrides, first)


def _launch(launcher: Any, job_overrides: list[list[str]], first: int) -> list[JobReturn]:
    """Plan every job, find those that the folder has from before, and run the others.

    Raises:
        SettingError: a job's settings are wrong; nothing has been written or trained.
    """
    sweep = Path(str(launcher.config.hydra.sweep.dir))
    composed = HydraConfig.instance().cfg
    try:
        if not job_overrides:
            raise SettingError("the sweep has no job: one of its ranges is empty")
        planner = Planner(Composer(launcher.config, launcher.hydra_context.config_loader))
        planned = [planner.plan(overrides, first + i) for i, overrides in enumerate(job_overrides)]
        checked = _check(planned)
        if launcher.engine is not None:
            launcher.engine.start()
        ledger = Ledger(sweep)
        keys = ledger.keys(checked)
        numbers = ledger.numbers(keys, first)
        planned = [
            job if job.number == number else planner.plan(job.overrides, number)
            for job, number in zip(planned, numbers, strict=True)
        ]
        columns = _rows.columns(launcher.config, ledger)
        launches = ledger.add(keys, numbers, [job.folder for job in planned])
    except Exception:  # a setting that is wrong, or one that Hydra cannot compose
        discard_if_empty(sweep)
        raise
    finally:
        HydraConfig.instance().cfg = composed
    subdir = launcher.config.hydra.output_subdir
    halving = getattr(launcher, "halving", None)
    with flushed_together():
        for job in planned:
            if finished(job.folder, pruned=halving is not None) is None:
                _open(job, subdir)
                if subdir is not None:
                    _rows.write(job, columns)
    if before := sum(finished(job.folder, pruned=halving is not None) is not None for job in planned):
        print(f"{before} of {len(planned)} jobs finished before", flush=True)
    returns = [BatchReturn(job, subdir) for job in planned]
    callbacks = _Callbacks(launcher)
    callbacks.start(returns)
    batch = _batch(launcher, sweep, halving)
    outcomes: list[Any] = [None] * len(planned)
    for launch in sorted(set(launches)):
        which = [i for i, of in enumerate(launches) if of == launch]
        folders = [planned[i].folder for i in which]
        try:
            found = batch([checked[i] for i in which], folders)
        except (KeyboardInterrupt, SystemExit):
            done = sum(finished(job.folder) is not None for job in planned)
            print(
                f"\ninterrupted; {done} of {len(planned)} jobs are done; to go on, the same command with "
                f"hydra.sweep.dir={sweep}",
                file=sys.stderr,
            )
            raise
        for i, outcome in zip(which, found, strict=True):
            outcomes[i] = outcome
    for returned, outcome in zip(returns, outcomes, strict=True):
        wrong = outcome if isinstance(outcome, Exception) else outcome.unfinished()
        returned.status = JobStatus.COMPLETED if wrong is None else JobStatus.FAILED
        returned.return_value = outcome.objective if wrong is None else wrong
        returned.outcome = outcome
    callbacks.end(returns)
    _tell(outcomes, planned, sweep)
    return list(returns)


def _batch(launcher: Any, sweep: Path, halving: Any) -> Callable[[list[Any], list[Path]], list[Any]]:
    """The program's batch function, in this process or spread over those of an engine."""
    function, engine, settings = get_method(launcher.batch_function), launcher.engine, launcher.settings
    most = None if settings.max_jobs == "auto" else settings.max_jobs
    if engine is None:
        more = {"halving": halving} if halving else {}
        return lambda configs, folders: function(configs, folders, max_jobs=most, **more)
    from mlplab.sweeps.tasks import spread

    size = None if settings.jobs_per_task == "auto" else settings.jobs_per_task
    return lambda configs, folders: spread(function, configs, folders, engine, sweep, most, size, halving)


def _check(planned: list[Planned]) -> list[Any]:
    checked, mistakes = [], []
    for job in planned:
        try:
            checked.append(parse(job.values))
        except SettingError as error:
            mistakes.append(f"job {job.number} ({' '.join(filter_overrides(job.overrides))}): {error}")
    if mistakes:
        more = len(mistakes) - SHOWN_MISTAKES
        rest = [f"and {more} more of {len(planned)} jobs"] if more > 0 else []
        raise SettingError("\n".join([*mistakes[:SHOWN_MISTAKES], *rest]))
    return checked


def _open(job: Planned, subdir: str | None) -> None:
    """What Hydra's run_job does before a job: its folder and its .hydra files."""
    inside = job.folder / subdir if subdir is not None else job.folder
    inside.mkdir(parents=True, exist_ok=True)
    if subdir is not None:
        for name, text in job.files.items():
            write_atomic(inside / name, text.encode())


class _Callbacks:
    """Tells Hydra's callbacks of each job, if any of them listens to jobs."""

    def __init__(self, launcher: Any) -> None:
        callbacks = launcher.hydra_context.callbacks
        self.task = launcher.task_function
        self.callbacks = callbacks if any(not getattr(c, "ignores_jobs", False) for c in callbacks.callbacks) else None

    def _config(self, done: BatchReturn) -> DictConfig:
        merged = OmegaConf.merge(done.cfg, done.hydra_cfg)
        assert isinstance(merged, DictConfig)
        return merged

    def start(self, returns: list[BatchReturn]) -> None:
        if self.callbacks is not None:
            for done in returns:
                self.callbacks.on_job_start(config=self._config(done), task_function=self.task)

    def end(self, returns: list[BatchReturn]) -> None:
        if self.callbacks is not None:
            for done in returns:
                self.callbacks.on_job_end(config=self._config(done), job_return=done)


def _tell(outcomes: list[Any], planned: list[Planned], folder: Path) -> None:
    states = Counter("failed" if isinstance(o, Exception) else o.status for o in outcomes)
    print(f"{len(outcomes)} jobs: {', '.join(f'{n} {state}' for state, n in states.items())} -> {folder}")
    for job, outcome in zip(planned, outcomes, strict=True):
        what = " ".join(filter_overrides(job.overrides))
        if isinstance(outcome, Exception):
            print(f"job {job.number} ({what}) failed: {type(outcome).__name__}: {outcome}", file=sys.stderr)
        elif (wrong := outcome.unfinished()) is not None:
            print(f"job {job.number} ({what}) {wrong}", file=sys.stderr)
