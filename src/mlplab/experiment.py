"""One run from settings to its record: this page is the whole road."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mlplab import record, runs
from mlplab.config import Config, SettingError
from mlplab.data.prepared import Prepared, prepare
from mlplab.fitting import epochs_shown, fit_as_asked
from mlplab.models.build import dtype_of
from mlplab.reports.events import cut
from mlplab.reports.progress import ProgressBar
from mlplab.reports.tables import write_csv
from mlplab.reports.understood import show
from mlplab.signals import Interrupted, interruptible
from mlplab.training import devices
from mlplab.training.by_hand import Number, first_step
from mlplab.training.checks import check_fits
from mlplab.training.evaluation import Scores, score
from mlplab.training.history import Fitted

if TYPE_CHECKING:
    from mlplab.training.epochs import Observer


def run(
    config: Config,
    folder: Path,
    progress: bool = False,
    in_sweep: bool = False,
    start: dict[str, Any] | None = None,
) -> runs.Result:
    """Prepare the data, train, score the best epoch's weights on every part, and write the run folder.

    It can be called many times in one process: what it sets in torch it sets back.

    Args:
        config: from `mlplab.compose.load_config`.
        folder: an empty or new folder for this run alone, or one that its run left unfinished.
        progress: show a progress bar.
        in_sweep: one of many jobs: draw no pictures unless `logger.in_sweeps` asks for them.
        start: what the folder's last.ckpt holds, to go on from there; None begins at the beginning.

    Raises:
        SettingError: the settings do not fit the data or the machine; nothing is left behind.
        KeyboardInterrupt, SystemExit: Ctrl-C or SIGTERM; the folder holds what `resume=` needs.
    """
    started = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    values: dict[str, Any] = record.beginning(config)
    if start is not None:
        values["command"] = start["command"]
        if config.several:  # its networks go on from checkpoints of their own, or begin again to the same end
            start = None
    try:
        with interruptible():
            runs.remove_torn(folder)
            cut(folder, start["events"] if start else {})
            result = _run(config, folder, values, progress, in_sweep, start, started)
    except SettingError:
        runs.discard_if_empty(folder)
        raise
    except Interrupted as error:
        values["status"] = "interrupted"
        values["failure"] = {"message": f"{error} ended it", "traceback": None}
        _write_failure(folder, values, started)
        if not in_sweep:
            print(f"\ninterrupted; to go on: python src/train.py resume={folder}", file=sys.stderr)
        error.leave()
    except Follower:
        raise
    except (Exception, SystemExit) as error:
        what = f"{type(error).__name__}: {error}"
        if isinstance(error, SystemExit):
            what = f"its code called sys.exit({error})"
        values["failure"] = {"message": what, "traceback": traceback.format_exc()}
        _write_failure(folder, values, started)
        if isinstance(error, SystemExit):
            raise RuntimeError(what) from error
        if isinstance(error, OSError) and error.errno in runs.FULL:
            raise runs.DiskFull(
                f"no room to write in {folder} ({error.strerror}); what was written before is whole. Make room, then: "
                f"python src/train.py resume={folder}"
            ) from error
        raise
    return result


class Follower(SystemExit):
    """The end of one of several processes whose first keeps the record."""


def _run(
    config: Config,
    folder: Path,
    values: dict[str, Any],
    progress: bool,
    in_sweep: bool,
    start: dict[str, Any] | None,
    started: float,
) -> runs.Result:
    with torch_left_as_found():
        device = devices.resolve(config.accelerator)
        config = config.pooled()
        prepared = prepare(config.data, dtype_of(config))
        if start is not None and prepared.fingerprint != start["fingerprint"]:
            raise SettingError(
                f"the data of {folder} has changed since its training began (fingerprint {prepared.fingerprint}, then "
                f"{start['fingerprint']}); put the old data back or train anew in another folder"
            )
        check_fits(config, prepared)
        config = devices.with_precision(config, device, prepared)
        runs.write_data(folder, prepared.understood)
        if progress and prepared.understood:
            show(prepared.understood)
        if config.trainer.show_first_step:
            write_csv(runs.RunFolder(folder).first_step, Number._fields, first_step(config, prepared))
        epochs = len(start["history"]) if start else None
        board = record.make_board(config, prepared, folder, in_sweep, epochs)
        gallery = record.make_gallery(config, prepared, board, in_sweep, resumed=start is not None)
        watching: list[Observer | None] = [
            ProgressBar(epochs_shown(config)) if progress else None,
            board,
            gallery,
        ]
        observers = [observer for observer in watching if observer is not None]
        answer = fit_as_asked(config, prepared, device, runs.RunFolder(folder), observers, start)
        prepared, fitted = answer.prepared, answer.fitted
        if not fitted.main:
            raise Follower(0)
        testing = time.perf_counter()
        scores = score_all(config, prepared, fitted)
        seconds = {"fit": fitted.seconds, "test": time.perf_counter() - testing}
        values |= record.outcome(config, prepared, fitted, scores)
        answer.tell(values, config, folder, progress)
        record.write_end(config, prepared, fitted, scores, folder, board, gallery, in_sweep)
    before = start["history"][-1]["seconds"] if start and start["history"] else 0.0
    values["seconds"] = {"total": before + time.perf_counter() - started, **seconds}
    return runs.write_result(folder, values)


def _write_failure(folder: Path, values: dict[str, Any], started: float) -> None:
    values["seconds"] = {"total": time.perf_counter() - started}
    with suppress(OSError):  # a full disk: what is wrong is about to be said on the screen
        runs.write_result(folder, values)


def score_all(config: Config, prepared: Prepared, fitted: Fitted) -> dict[str, Scores]:
    """Scores on every part that has rows; the test part is read here and nowhere else."""
    if not fitted.history or fitted.network is None:
        return {}
    return {
        name: score(fitted.network, part, config, prepared.n_classes, fitted.class_weights)
        for name, part in prepared.parts.items()
        if len(part)
    }


@contextmanager
def torch_left_as_found() -> Iterator[None]:
    """Set back what a run sets for the whole process: torch's generators and its demand for determinism."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            if torch.are_deterministic_algorithms_enabled() != deterministic:  # the call alone imports torch._inductor
                torch.use_deterministic_algorithms(deterministic)
