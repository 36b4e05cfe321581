"""The search behind hydra/sweeper=optuna, by Optuna's ask-and-tell interface (Akiba et al. 2019)."""

from __future__ import annotations

import math
import os
import socket
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from omegaconf import OmegaConf

from mlplab.config.base import SettingError
from mlplab.config.messages import nearest

SAMPLERS = ("tpe", "random", "cmaes", "gp", "grid")
SMALLER_IS_BETTER = ("loss", "log_loss", "ece")


def search(sweeper: Any, arguments: list[str]) -> list[Any]:
    """Run batches until the study has its number of trials; returns what the launcher returned.

    Raises:
        SettingError: a setting of the search is wrong, or Optuna is not installed.
    """
    optuna = _optuna()
    config, settings = sweeper.config, sweeper.settings
    space, fixed = space_of(arguments)
    direction = _direction(settings["direction"], config)
    sampler = _sampler(optuna, settings, space)
    if not space:
        raise SettingError("nothing to search: give a setting an interval(a,b), a choice(a,b) or a range(a,b)")
    folder = Path(str(config.hydra.sweep.dir))
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, folder / "multirun.yaml")
    study = _study(optuna, settings, folder, direction, sampler)
    _bury_the_dead(optuna, study)
    wanted = settings["n_trials"]
    if settings["sampler"] == "grid":
        wanted = min(wanted, math.prod(len(_values(key, of)) for key, of in space.items()))
    returns: list[Any] = []
    number = sum(t.user_attrs.get("folder") == str(folder) for t in study.get_trials(deepcopy=False))
    while (missing := wanted - _told(optuna, study)) > 0:
        trials = [study.ask(space) for _ in range(min(settings["batch_size"], missing))]
        for trial in trials:
            trial.set_user_attr("folder", str(folder))
            trial.set_user_attr("process", [socket.gethostname(), os.getpid()])
        batch = [[*(f"{key}={_text(value)}" for key, value in trial.params.items()), *fixed] for trial in trials]
        done = sweeper.launcher.launch(batch, initial_job_idx=number)
        number += len(trials)
        returns.append(done)
        for trial, job in zip(trials, done, strict=True):
            value = _value(job)
            trial.set_user_attr("job", str(job.working_dir))
            states = optuna.trial.TrialState
            study.tell(trial, value, states.FAIL if value is None else states.COMPLETE)
        _say(optuna, study, wanted)
    _write_best(optuna, study, folder)
    return returns


def space_of(arguments: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Distribution of each setting that is searched, and the overrides that are fixed."""
    space: dict[str, Any] = {}
    fixed: list[str] = []
    for override in OverridesParser.create().parse_overrides(arguments):
        key = override.get_key_element()
        if override.is_sweep_override():
            space[key] = _distribution(override)
        else:
            fixed.append(f"{key}={override.get_value_element_as_str()}")
    return space, fixed


def _distribution(override: Override) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value = override.value()
    key = override.get_key_element()
    log = "log" in getattr(value, "tags", ())
    try:
        if isinstance(value, IntervalSweep):
            assert value.start is not None
            assert value.end is not None
            if isinstance(value.start, int) and isinstance(value.end, int):  # written as int(interval(1,8))
                return IntDistribution(value.start, value.end, log=log)
            return FloatDistribution(value.start, value.end, log=log)
        if isinstance(value, RangeSweep) and all(isinstance(v, int) for v in (value.start, value.stop, value.step)):
            values = list(value.range())
            if values and value.step > 0:
                return IntDistribution(int(values[0]), int(values[-1]), step=int(value.step))
    except ValueError as error:
        raise SettingError(f"{key}: {error}") from None
    return CategoricalDistribution(list(override.sweep_string_iterator()))


def _text(value: Any) -> str:
    return repr(value) if isinstance(value, float) else str(value)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise SettingError("hydra/sweeper=optuna needs Optuna: pip install 'mlplab[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _direction(given: str | None, config: Any) -> str:
    if given is None:
        objective = str(config.get("objective", ""))
        return "maximize" if objective and objective.rpartition("/")[2] not in SMALLER_IS_BETTER else "minimize"
    if given not in ("minimize", "maximize"):
        raise SettingError(f"hydra.sweeper.direction={given} is not allowed; minimize and maximize are")
    return given


def _sampler(optuna: Any, settings: dict[str, Any], space: dict[str, Any]) -> Any:
    name, seed, kinds = settings["sampler"], settings["seed"], optuna.samplers
    for setting in ("n_trials", "batch_size"):
        if settings[setting] < 1:
            raise SettingError(f"hydra.sweeper.{setting}={settings[setting]} must be at least 1")
    match name:
        case "tpe":
            return kinds.TPESampler(seed=seed, constant_liar=True)  # or a batch would ask for one point ten times
        case "random":
            return kinds.RandomSampler(seed=seed)
        case "cmaes":
            try:
                return kinds.CmaEsSampler(seed=seed)
            except ImportError:
                raise SettingError("hydra.sweeper.sampler=cmaes needs its package: pip install cmaes") from None
        case "gp":
            return kinds.GPSampler(seed=seed)
        case "grid":
            return _grid(optuna, {key: _values(key, of) for key, of in space.items()}, seed)
    allowed = ", ".join(SAMPLERS)
    raise SettingError(f"hydra.sweeper.sampler={name} is not allowed; {allowed} are.{nearest(name, SAMPLERS)}")


def _grid(optuna: Any, values: dict[str, list[Any]], seed: int | None) -> Any:
    class Grid(optuna.samplers.GridSampler):
        def after_trial(self, *_: Any) -> None:
            """The original stops `Study.optimize` at the grid's end; asked and told, there is none to stop."""

    return Grid(values, seed=seed)


def _values(key: str, distribution: Any) -> list[Any]:
    if hasattr(distribution, "choices"):
        return list(distribution.choices)
    if isinstance(distribution.low, int):
        return list(range(distribution.low, distribution.high + 1, distribution.step))
    raise SettingError(f"{key}: a grid needs choices or a range, not an interval")


def _study(optuna: Any, settings: dict[str, Any], folder: Path, direction: str, sampler: Any) -> Any:
    storage = settings["storage"]
    try:
        if storage is None:
            backend = optuna.storages.journal.JournalFileBackend(str(folder / "study.journal"))
            storage = optuna.storages.JournalStorage(backend)
        study = optuna.create_study(
            storage=storage,
            study_name=settings["study_name"],
            sampler=sampler,
            direction=direction,
            load_if_exists=True,
        )
    except Exception as error:
        where = settings["storage"] or folder / "study.journal"
        raise SettingError(f"the study's storage {where} cannot be used: {str(error).splitlines()[0]}") from None
    if study.direction.name.lower() != direction:
        raise SettingError(f"the study in {folder} is to {study.direction.name.lower()}, not to {direction}")
    told = len(study.get_trials(deepcopy=False))
    if told and settings["seed"] is not None:
        study.sampler = _sampler(optuna, settings | {"seed": settings["seed"] + told}, {})  # no draw twice
    return study


def _bury_the_dead(optuna: Any, study: Any) -> None:
    """Trials that a process of this machine was at when it was killed are told as failed, and so tried anew."""
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        host, process = trial.user_attrs.get("process", (None, 0))
        if host == socket.gethostname() and not _alive(process):
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _told(optuna: Any, study: Any) -> int:
    """Trials that ended: those that failed by themselves count, those that were killed do not."""
    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    ended = study.get_trials(deepcopy=False, states=states)
    failed = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.FAIL,))
    return len(ended) + sum("job" in trial.user_attrs for trial in failed)


def _value(job: Any) -> float | None:
    """What a job came to; None if it failed, diverged or gave no number."""
    try:
        value = float(job.return_value)
    except Exception:  # a failed job's return_value raises what it failed with
        return None
    return value if math.isfinite(value) else None


def _say(optuna: Any, study: Any, n_trials: int) -> None:
    complete = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    if complete:
        chosen = " ".join(f"{key}={_text(value)}" for key, value in study.best_params.items())
        print(f"trial {_told(optuna, study)} of {n_trials}: best {study.best_value:.4f} with {chosen}", flush=True)


def _write_best(optuna: Any, study: Any, folder: Path) -> None:
    complete = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    failed = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.FAIL,))
    if not complete:
        print(f"none of {len(failed)} trials came to a score -> {folder}")
        return
    best = {
        "name": "optuna",
        "best_evaluated_params": study.best_params,
        "best_evaluated_value": study.best_value,
        "trials": {"complete": len(complete), "failed": len(failed)},
    }
    OmegaConf.save(OmegaConf.create(best), folder / "optimization_results.yaml")
    print(f"{len(complete)} trials complete, {len(failed)} failed -> {folder}")
