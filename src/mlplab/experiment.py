"""One run from settings to its record: this page is the whole road."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from mlplab import record, runs
from mlplab.config import Config, SettingError
from mlplab.data.prepared import Prepared, prepare
from mlplab.models.build import dtype_of
from mlplab.reports.progress import ProgressBar
from mlplab.reports.tables import write_csv
from mlplab.reports.understood import show
from mlplab.training import devices
from mlplab.training.by_hand import Number, first_step
from mlplab.training.checks import check_fits
from mlplab.training.epochs import Observer
from mlplab.training.evaluation import Scores, score
from mlplab.training.fit import fit
from mlplab.training.history import Fitted


def run(config: Config, folder: Path, progress: bool = False, in_sweep: bool = False) -> runs.Result:
    """Prepare the data, train, score the best epoch's weights on every part, and write the run folder.

    It can be called many times in one process: what it sets in torch it sets back.

    Args:
        config: from `mlplab.compose.load_config`.
        folder: an empty or new folder for this run alone.
        progress: show a progress bar.
        in_sweep: one of many jobs: draw no pictures unless `logger.in_sweeps` asks for them.

    Raises:
        SettingError: the settings do not fit the data or the machine; nothing is left behind.
    """
    started = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    values: dict[str, Any] = record.beginning(config)
    try:
        with torch_left_as_found():
            device = devices.resolve(config.accelerator)
            prepared = prepare(config.data, dtype_of(config))
            check_fits(config, prepared)
            config = devices.with_precision(config, device, prepared)
            runs.write_data(folder, prepared.understood)
            if progress and prepared.understood:
                show(prepared.understood)
            if config.trainer.show_first_step:
                write_csv(runs.RunFolder(folder).first_step, Number._fields, first_step(config, prepared))
            board = record.make_board(config, prepared, folder, in_sweep)
            gallery = record.make_gallery(config, prepared, board, in_sweep)
            watching: list[Observer | None] = [
                ProgressBar(config.trainer.max_epochs) if progress else None,
                board,
                gallery,
            ]
            observers = [observer for observer in watching if observer is not None]
            fitted = fit(config, prepared, device, runs.RunFolder(folder), observers)
            if not fitted.main:
                raise SystemExit(0)  # one of several processes: the first keeps the record
            testing = time.perf_counter()
            scores = score_all(config, prepared, fitted)
            seconds = {"fit": fitted.seconds, "test": time.perf_counter() - testing}
            values |= record.outcome(config, prepared, fitted, scores)
            record.write_end(config, prepared, fitted, scores, folder, board, gallery, in_sweep)
        values["seconds"] = {"total": time.perf_counter() - started, **seconds}
        return runs.write_result(folder, values)
    except SettingError:
        runs.discard_if_empty(folder)
        raise
    except Exception as error:
        values["failure"] = {"message": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
        values["seconds"] = {"total": time.perf_counter() - started}
        runs.write_result(folder, values)
        raise


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
            torch.use_deterministic_algorithms(deterministic)
