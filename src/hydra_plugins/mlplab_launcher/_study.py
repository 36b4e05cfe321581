"""The study behind a search: its storage and sampler, what it has been told and what is best in it."""

from __future__ import annotations

import hashlib
import socket
import time
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from mlplab.config.base import SettingError
from mlplab.config.messages import nearest
from mlplab.config.objectives import named
from mlplab.reports.tables import show_table
from mlplab.sweeps.engines.worker import alive

SAMPLERS = ("tpe", "random", "cmaes", "gp", "grid")


def load_optuna() -> Any:
    """Optuna, told to be quiet.

    Raises:
        SettingError: it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise SettingError("hydra/sweeper=optuna needs Optuna: pip install 'mlplab[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def sampler(optuna: Any, settings: dict[str, Any], space: dict[str, Any], n_objectives: int) -> Any:
    """The sampler of that name.

    Raises:
        SettingError: there is none, it lacks a package, or it does not fit the space or the objectives.
    """
    name, seed, kinds = settings["sampler"], settings["seed"], optuna.samplers
    match name:
        case "tpe":
            return kinds.TPESampler(seed=seed, constant_liar=True)  # or a batch would ask for one point ten times
        case "random":
            return kinds.RandomSampler(seed=seed)
        case "cmaes":
            return _cmaes(kinds, seed, space, n_objectives)
        case "gp":
            return kinds.GPSampler(seed=seed)
        case "grid":
            return _grid(optuna, {key: values(key, of) for key, of in space.items()}, seed)
    allowed = ", ".join(SAMPLERS)
    raise SettingError(f"hydra.sweeper.sampler={name} is not allowed; {allowed} are.{nearest(name, SAMPLERS)}")


def _cmaes(kinds: Any, seed: int | None, space: dict[str, Any], n_objectives: int) -> Any:
    if n_objectives > 1:
        raise SettingError("hydra.sweeper.sampler=cmaes searches for one objective; use tpe for several")
    if sum(not hasattr(of, "choices") for of in space.values()) < 2:
        raise SettingError(
            "hydra.sweeper.sampler=cmaes moves in a space of two or more numbers: give settings interval(a,b) or "
            "range(a,b), or use tpe"
        )
    try:
        return kinds.CmaEsSampler(seed=seed, warn_independent_sampling=False)  # choices are drawn at random
    except ImportError:
        raise SettingError("hydra.sweeper.sampler=cmaes needs its package: pip install 'mlplab[cmaes]'") from None


def _grid(optuna: Any, of: dict[str, list[Any]], seed: int | None) -> Any:
    class Grid(optuna.samplers.GridSampler):
        def after_trial(self, *_: Any) -> None:
            """The original stops `Study.optimize` at the grid's end; asked and told, there is none to stop."""

    return Grid(of, seed=seed or 0)  # the seed orders the cells, whose numbers must mean the same when it goes on


def values(key: str, distribution: Any) -> list[Any]:
    """All values of a setting on a grid.

    Raises:
        SettingError: it is an interval.
    """
    if hasattr(distribution, "choices"):
        return list(distribution.choices)
    if isinstance(distribution.low, int):
        return list(range(distribution.low, distribution.high + 1, distribution.step))
    raise SettingError(f"{key}: a grid needs choices or a range, not an interval")


def open_study(
    optuna: Any, settings: dict[str, Any], folder: Path, directions: list[str], space: dict[str, Any]
) -> Any:
    """The study of this name in its storage, new or gone on with.

    Optuna refuses other choices of a setting in one study. A search with other ones gets a study of its own in the
    same storage, with the trials of the earlier ones that fit.

    Raises:
        SettingError: the storage cannot be used, or holds a study with other directions.
    """
    made = sampler(optuna, settings, space, len(directions))
    try:
        storage = _storage(optuna, settings["storage"], folder)
        study = _create(optuna, storage, settings["study_name"], made, directions)
        if not _fits(optuna, study, space, whole=settings["sampler"] == "grid"):
            digest = hashlib.sha256(repr(sorted(space.items())).encode()).hexdigest()[:8]
            study = _create(optuna, storage, f"{settings['study_name']}_{digest}", made, directions)
            if settings["sampler"] != "grid":  # a grid asks for its old cells again, and finds them trained
                _inherit(optuna, study, storage, settings["study_name"], space)
    except Exception as error:
        where = settings["storage"] or folder / "study.journal"
        raise SettingError(f"the study's storage {where} cannot be used: {str(error).splitlines()[0]}") from None
    before = [direction.name.lower() for direction in study.directions]
    if before != directions:
        raise SettingError(f"the study in {folder} is to {' and '.join(before)}, not to {' and '.join(directions)}")
    told = len(study.get_trials(deepcopy=False))
    if told and settings["seed"] is not None and settings["sampler"] != "grid":
        again = settings | {"seed": settings["seed"] + told}
        study.sampler = sampler(optuna, again, space, len(directions))  # no draw twice
    return study


def _storage(optuna: Any, address: str | None, folder: Path) -> Any:
    """A database of Optuna's, or a file in the sweep's folder."""
    if address is None:
        # absolute, or Optuna's lock is a link that leads nowhere, and one that a killed process left lasts for ever
        backend = optuna.storages.journal.JournalFileBackend(str((folder / "study.journal").absolute()))
        return optuna.storages.JournalStorage(backend)
    for wait in (0.5, 1.0, 2.0, None):
        try:
            return optuna.storages.get_storage(address)
        except Exception as error:  # two processes that make the same tables: the later one finds them made
            if wait is None or type(error).__name__ not in ("OperationalError", "IntegrityError", "ProgrammingError"):
                raise
            time.sleep(wait)
    raise AssertionError


def _create(optuna: Any, storage: Any, name: str, made: Any, directions: list[str]) -> Any:
    return optuna.create_study(
        storage=storage, study_name=name, sampler=made, directions=directions, load_if_exists=True
    )


def _fits(optuna: Any, study: Any, space: dict[str, Any], whole: bool) -> bool:
    """Whether trials of this space can be added to a study; `whole`: whether it is the very same space."""
    for trial in study.get_trials(deepcopy=False):
        if whole and trial.distributions and trial.distributions != space:
            return False
        for key, before in trial.distributions.items():
            if key in space:
                try:
                    optuna.distributions.check_distribution_compatibility(before, space[key])
                except ValueError:
                    return False
    return True


def _inherit(optuna: Any, study: Any, storage: Any, name: str, space: dict[str, Any]) -> None:
    """Give a new study the trials of the earlier ones of its name whose settings are in its space."""
    if study.get_trials(deepcopy=False):
        return
    for earlier in optuna.get_all_study_names(storage):
        if earlier == study.study_name or not (earlier == name or earlier.startswith(f"{name}_")):
            continue
        other = optuna.load_study(study_name=earlier, storage=storage)
        if other.directions != study.directions:
            continue
        for trial in other.get_trials(deepcopy=False):
            if trial.state not in (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED):
                continue
            if trial.params.keys() == space.keys() and all(
                of._contains(of.to_internal_repr(trial.params[key])) for key, of in space.items()
            ):
                copied = {"state": trial.state, "values": trial.values, "params": trial.params}
                attributes = {"user_attrs": trial.user_attrs, "intermediate_values": trial.intermediate_values}
                study.add_trial(optuna.trial.create_trial(**copied, **attributes, distributions=space))


def bury_the_dead(optuna: Any, study: Any) -> None:
    """Trials that a process of this machine was at when it was killed are told as failed, and asked for again first:
    their jobs go on where they were."""
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        host, process = trial.user_attrs.get("process", (None, 0))
        if host == socket.gethostname() and not alive(process):
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            if trial.params:
                told = {**trial.system_attrs, "fixed_params": trial.params}  # a grid's cell keeps its number
                study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.WAITING, system_attrs=told))


def told(optuna: Any, study: Any) -> int:
    """Trials that ended: those that failed by themselves count, those that were killed do not."""
    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    ended = study.get_trials(deepcopy=False, states=states)
    failed = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.FAIL,))
    return len(ended) + sum("job" in trial.user_attrs for trial in failed)


def text(value: Any) -> str:
    """A value as an override has it."""
    return repr(value) if isinstance(value, float) else str(value)


def chosen(trial: Any, form: str = "") -> str:
    """A trial's settings in one line; in full, or numbers in a shorter form."""
    texts = {key: format(v, form) if form and isinstance(v, float) else text(v) for key, v in trial.params.items()}
    return " ".join(f"{key}={value}" for key, value in texts.items())


def say(optuna: Any, study: Any, n_trials: int) -> None:
    """One line after each batch."""
    if not study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,)):
        return
    if len(study.directions) > 1:
        found = f"{len(study.best_trials)} that no other beats in all objectives"
    else:
        found = f"best {study.best_value:.4f} with {chosen(study.best_trial)}"
    print(f"trial {told(optuna, study)} of {n_trials}: {found}", flush=True)


def write_best(optuna: Any, study: Any, folder: Path, objectives: list[str]) -> None:
    """Print and write what was found: the best trial, or the Pareto front; the keys are those of Hydra's sweepers."""
    states = optuna.trial.TrialState
    counts = {
        name: len(study.get_trials(deepcopy=False, states=(state,)))
        for name, state in {"complete": states.COMPLETE, "pruned": states.PRUNED, "failed": states.FAIL}.items()
    }
    pruned = f"{counts['pruned']} pruned, " if counts["pruned"] else ""
    counted = f"{counts['complete']} trials complete, {pruned}{counts['failed']} failed -> {folder}"
    if not counts["complete"]:
        print(f"no trial came to a score: {counted}")
        return
    found: dict[str, Any] = {"name": "optuna"}
    if len(study.directions) > 1:
        front = sorted(study.best_trials, key=lambda trial: trial.values)
        found["objectives"] = objectives
        found["solutions"] = [
            {"params": t.params, "values": list(t.values), "job": t.user_attrs.get("job")} for t in front
        ]
        rows = [[chosen(t, "g"), Path(str(t.user_attrs.get("job"))).name, *map(_whole, t.values)] for t in front]
        show_table(f"Pareto front of {counts['complete']} trials", ["settings", "job", *map(named, objectives)], rows)
    else:
        found |= {"best_evaluated_params": study.best_params, "best_evaluated_value": study.best_value}
    OmegaConf.save(OmegaConf.create(found | {"trials": counts}), folder / "optimization_results.yaml")
    print(counted)


def _whole(value: float) -> int | float:
    return int(value) if value.is_integer() and abs(value) > 1 else value
