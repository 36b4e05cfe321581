"""Goes on with a run that was killed, interrupted or given too few epochs, as if nothing had happened."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mlplab import lock, runs
from mlplab.config import Config, SettingError, parse
from mlplab.config.messages import unknown

MAY_CHANGE = ("trainer.max_epochs", "trainer.checkpoint_seconds")
"""Settings that a run may be given anew when it goes on; any other change would make it another run."""


def wanted(words: Sequence[str]) -> bool:
    """Whether a command line asks for a resume."""
    return any(word.startswith("resume=") for word in words)


def resume(words: Sequence[str]) -> runs.Result:
    """Go on with the run of `resume=<folder>`; other words may raise `trainer.max_epochs`.

    A killed run loses what it did after its last checkpoint and does it again with the same draws, so it ends with the
    weights, metrics.csv and result.json (times aside) of one that was never interrupted. One that has ended already is
    left as it is.

    Raises:
        SettingError: there is nothing to resume, it is in use, or a changed setting would make it another run.
    """
    folder, changes = _read(words)
    allowed = changes.pop("allow_targets", [])
    with ExitStack() as held:
        if (folder.parent / lock.NAME).exists():  # a job of a sweep: the sweep may be at work on it
            held.enter_context(lock.locked(folder.parent))
        held.enter_context(lock.locked(folder))
        runs.check_inside(folder)
        start, saved = _saved(folder, allowed)
        config = _changed(saved, changes, len(start["history"]) if start else 0)
        if (ended := _ended(folder, config, start)) is not None:
            return ended
        from mlplab.experiment import run

        in_sweep = (folder.parent / "multirun.yaml").is_file()
        return run(config, folder, progress=True, in_sweep=in_sweep, start=start)


def _read(words: Sequence[str]) -> tuple[Path, dict[str, Any]]:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    flags = [word for word in words if word.startswith(("-", "hydra"))]
    if flags:
        raise SettingError(f"resume=<folder> goes on with one run in its own folder; leave out {flags[0]}")
    given = {str(o.key_or_group): o for o in OverridesParser.create().parse_overrides(list(words))}
    if any(o.is_sweep_override() for o in given.values()):
        raise SettingError("resume=<folder> goes on with one run; give one value a setting")
    folder = Path(str(given.pop("resume").value()))
    if not folder.is_dir():
        raise SettingError(f"resume={folder} is not a folder; give a run's, as in resume=outputs/wine/<date_time>")
    for name in given:
        if name not in (*MAY_CHANGE, "allow_targets"):
            raise SettingError(
                f"{name} cannot change when a run is resumed, for it would be another run; {' and '.join(MAY_CHANGE)} "
                "can. Start a new run without resume= instead"
            )
    return folder, {name: o.value() for name, o in given.items()}


def _saved(folder: Path, allowed: list[str]) -> tuple[dict[str, Any] | None, Config]:
    """What last.ckpt holds, or None, and the run's settings."""
    paths = runs.RunFolder(folder)
    if paths.last.is_file():
        from mlplab.training import checkpoints

        start = checkpoints.load(paths.last)
        return start, checkpoints.config_of(start, paths.last, allowed)
    composed = folder / ".hydra" / "config.yaml"
    if not composed.is_file():
        raise SettingError(f"{folder} holds neither checkpoints/last.ckpt nor .hydra/config.yaml: no run to resume")
    from omegaconf import OmegaConf

    from mlplab.compose import to_config

    try:
        values = OmegaConf.merge(OmegaConf.load(composed), {"allow_targets": allowed})
        return None, to_config(values)
    except SettingError as error:
        raise SettingError(f"{composed}: {error}") from None
    except Exception as error:  # whatever YAML and OmegaConf raise of bytes that are no settings
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise SettingError(f"{composed} is damaged ({why}), and there is no checkpoint: train again") from None


def _changed(config: Config, changes: dict[str, Any], done: int) -> Config:
    values = config.model_dump()
    for name, value in changes.items():
        group, _, leaf = name.partition(".")
        if leaf not in values.get(group, {}):
            raise SettingError(unknown(name, Config))
        values[group][leaf] = value
    changed = parse(values)
    epochs, scheduler = changed.trainer.max_epochs, config.scheduler.name
    if epochs < done:
        raise SettingError(f"trainer.max_epochs={epochs} is less than the {done} epochs that the run has behind it")
    if epochs != config.trainer.max_epochs and done and scheduler in ("cosine", "one_cycle"):
        raise SettingError(
            f"scheduler={scheduler} was spread over {config.trainer.max_epochs} epochs, so the epochs behind the run "
            f"are not those of trainer.max_epochs={epochs}; train anew without resume="
        )
    return changed


def _ended(folder: Path, config: Config, start: dict[str, Any] | None) -> runs.Result | None:
    """The result of a run that has nothing left to do and has lost nothing."""
    from mlplab.training import checkpoints

    result = runs.finished(folder)
    if result is None or (result.values.get("epochs") and not checkpoints.whole(runs.RunFolder(folder).best)):
        return None  # what is damaged is written anew
    if result.status == "diverged":
        return result  # the same draws would lead it there again
    enough = result.values["settings"]["trainer"]["max_epochs"] == config.trainer.max_epochs
    return result if enough else None


def command(folder: Path) -> str:
    """What to type to go on with the run of a folder."""
    return f"python src/train.py resume={shlex.quote(str(folder))}"
