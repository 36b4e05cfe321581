"""The search behind hydra/sweeper=optuna, by Optuna's ask-and-tell interface (Akiba et al. 2019)."""

from __future__ import annotations

import math
import os
import socket
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from omegaconf import ListConfig, OmegaConf

from hydra_plugins.mlplab_launcher import _study
from mlplab.config import objectives
from mlplab.config.base import SettingError
from mlplab.config.messages import nearest
from mlplab.ledger import NAME
from mlplab.runs import discard_if_empty

PRUNERS = ("halving",)


def search(sweeper: Any, arguments: list[str]) -> list[Any]:
    """Run batches until the study has its number of trials; returns what the launcher returned.

    Raises:
        SettingError: a setting of the search is wrong, or Optuna is not installed; a new search leaves nothing behind.
    """
    folder = Path(str(sweeper.config.hydra.sweep.dir))
    try:
        return _search(sweeper, arguments, folder)
    except SettingError:
        if not (folder / NAME).exists():  # no job has been planned
            (folder / "study.journal").unlink(missing_ok=True)
            discard_if_empty(folder)
        raise


def _search(sweeper: Any, arguments: list[str], folder: Path) -> list[Any]:
    optuna = _study.load_optuna()
    config, settings = sweeper.config, sweeper.settings
    space, fixed = space_of(arguments)
    _check(settings)
    goals = _goals(config)
    directions = _directions(settings["direction"], goals)
    if not space:
        raise SettingError("nothing to search: give a setting an interval(a,b), a choice(a,b) or a range(a,b)")
    halving = _halving(sweeper, goals, directions)
    _study.sampler(optuna, settings, space, len(directions))
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, folder / "multirun.yaml")
    study = _study.open_study(optuna, settings, folder, directions, space)
    _study.bury_the_dead(optuna, study)
    wanted = settings["n_trials"]
    if settings["sampler"] == "grid":
        wanted = min(wanted, math.prod(len(_study.values(key, of)) for key, of in space.items()))
    returns: list[Any] = []
    number = sum(t.user_attrs.get("folder") == str(folder) for t in study.get_trials(deepcopy=False))
    room = settings["batch_size"]
    while (missing := wanted - _study.told(optuna, study)) > 0:
        trials = [study.ask(space) for _ in range(min(room, missing))]
        for trial in trials:
            trial.set_user_attr("folder", str(folder))
            trial.set_user_attr("process", [socket.gethostname(), os.getpid()])
        batch = [[*(f"{key}={_study.text(value)}" for key, value in trial.params.items()), *fixed] for trial in trials]
        if halving is not None:
            halving.seen = _seen(study)
            sweeper.launcher.halving = halving
        done = sweeper.launcher.launch(batch, initial_job_idx=number)
        number += len(trials)
        returns.append(done)
        left = sum(_tell(optuna, study, trial, job) for trial, job in zip(trials, done, strict=True))
        room = settings["batch_size"] + left  # about batch_size networks are training at any time
        _study.say(optuna, study, wanted)
    _study.write_best(optuna, study, folder, goals)
    return returns


def _tell(optuna: Any, study: Any, trial: Any, job: Any) -> bool:
    """Tell the study what a job came to; whether it was pruned."""
    states, outcome = optuna.trial.TrialState, getattr(job, "outcome", None)
    told = getattr(outcome, "values", {})
    trial.set_user_attr("job", str(getattr(outcome, "folder", job.working_dir)))
    for epoch, score in told.get("rungs", {}).items():
        trial.report(score, int(epoch))
    if told.get("status") == "pruned":
        study.tell(trial, state=states.PRUNED)
        return True
    values = _values(job, len(study.directions))
    study.tell(trial, values, states.FAIL if values is None else states.COMPLETE)
    return False


def _values(job: Any, n: int) -> list[float] | None:
    """What a job came to; None if it failed, diverged or gave no number."""
    try:
        given = job.return_value
        values = [float(value) for value in (given if isinstance(given, list | tuple) else [given])]
    except Exception:  # a failed job's return_value raises what it failed with
        return None
    return values if len(values) == n and all(map(math.isfinite, values)) else None


def _seen(study: Any) -> dict[int, list[float]]:
    """Scores of all trials of the study, of other machines too, at each rung."""
    found: dict[int, list[float]] = {}
    for trial in study.get_trials(deepcopy=False):
        for epoch, score in trial.intermediate_values.items():
            found.setdefault(epoch, []).append(score)
    return found


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


def _check(settings: dict[str, Any]) -> None:
    for setting, least in {"n_trials": 1, "batch_size": 1, "reduction_factor": 2, "min_epochs": 1}.items():
        if settings[setting] is not None and settings[setting] < least:
            raise SettingError(f"hydra.sweeper.{setting}={settings[setting]} must be at least {least}")


def _goals(config: Any) -> list[str]:
    """The program's objectives; none where it has no such setting."""
    given = config.get("objective")
    goals = [str(name) for name in given] if isinstance(given, ListConfig) else [str(given)] if given else []
    try:
        objectives.check(goals)
    except ValueError as error:
        raise SettingError(str(error)) from None
    return goals


def _directions(given: str | None, goals: list[str]) -> list[str]:
    if given is None:
        return ["minimize" if objectives.minimised(goal) else "maximize" for goal in goals] or ["minimize"]
    if given not in ("minimize", "maximize"):
        raise SettingError(f"hydra.sweeper.direction={given} is not allowed; minimize and maximize are")
    if len(goals) > 1:
        raise SettingError(
            f"hydra.sweeper.direction={given} is of one objective, and objective=[{','.join(goals)}] has "
            f"{len(goals)}; leave it out and put a minus in front of what is to be small"
        )
    return [given]


def _halving(sweeper: Any, goals: list[str], directions: list[str]) -> Any:
    """The rule that stops networks of a batch, or None."""
    settings, launcher = sweeper.settings, sweeper.launcher
    name = settings["pruner"]
    if name is None:
        return None
    if name not in PRUNERS:
        allowed = " and ".join((*PRUNERS, "null"))
        raise SettingError(f"hydra.sweeper.pruner={name} is not allowed; {allowed} are.{nearest(name, PRUNERS)}")
    if not getattr(launcher, "checks_jobs", False):
        raise SettingError("hydra.sweeper.pruner=halving stops networks of a fused batch: use hydra/launcher=fused")
    if len(goals) != 1 or "/" not in goals[0]:
        raise SettingError(
            f"hydra.sweeper.pruner=halving ranks networks by one metric, and objective={','.join(goals)} is none; use "
            "one such as val/accuracy, or leave the pruner out"
        )
    from mlplab.fused.halving import Halving

    small = directions[0] == "minimize"
    return Halving(objectives.named(goals[0]), small, settings["reduction_factor"], settings["min_epochs"])
