"""Trains the networks of a portfolio: one for each setting and fold, as few batched programs as their structures."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from mlplab import randomness
from mlplab.config import Config, setting
from mlplab.config.embedding import NoEmbedding
from mlplab.config.portfolio import TablePortfolio
from mlplab.data.prepared import Prepared, refitted
from mlplab.fused.chunks import chunk_size
from mlplab.fused.plan import Job, plan
from mlplab.fused.training import FusedTraining, Trained
from mlplab.models.build import SEEDS, dtype_of
from mlplab.training.threads import side_by_side

LEAST_ROWS, BATCHES = 32, 8
"""A batch has an eighth of the rows, but not fewer than 32 and not more than `data.batch_size`."""
AT_LEAST = 10
"""Networks of a chunk, if there are so many: fewer spend more on the steps' own cost than the caches save."""

Report = Callable[[int, int], None]
"""Told (epochs done, epochs in all), all groups of networks together."""


@dataclass
class Data:
    """The rows of a portfolio as its settings see them.

    Args:
        whole: all rows that are not test rows as `train`.
    """

    whole: Prepared

    def __post_init__(self) -> None:
        self._made: dict[tuple[str, str, int | None], Prepared] = {}

    def of(self, config: Config, fold: int | None, folds: np.ndarray) -> Prepared:
        """Training rows of a fold, with the fold itself as `test`; None: all rows, and nothing to test on."""
        encode = getattr(config.data, "encode", "onehot")
        key = (config.data.scaling, encode, fold)
        if key not in self._made:
            pool = self.whole.parts["train"].rows
            inside = np.ones(len(pool), bool) if fold is None else folds != fold
            rows = {"train": pool[inside], "val": pool[:0], "test": pool[~inside] if fold is not None else pool[:1]}
            self._made[key] = refitted(self.whole, config.data, rows, dtype_of(config))
        return self._made[key]


def sized(config: Config, portfolio: TablePortfolio, n_rows: int) -> Config:
    """A setting with the batch size, learning rate and epochs that suit so many training rows."""
    most = config.data.batch_size
    batch = most if most == "full" else min(most, max(LEAST_ROWS, n_rows // BATCHES))
    per_epoch = 1 if batch == "full" else -(-n_rows // batch)
    epochs = min(config.trainer.max_epochs, max(portfolio.min_epochs, -(-portfolio.steps // per_epoch)))
    data = config.data.model_copy(update={"batch_size": batch})
    lr = config.optimizer.lr * min(1.0, (portfolio.full_lr_rows / n_rows) ** 0.5)
    optimizer = config.optimizer.model_copy(update={"lr": lr})
    trainer = config.trainer.model_copy(update={"max_epochs": epochs})
    return config.model_copy(update={"data": data, "optimizer": optimizer, "trainer": trainer})


def settings_of(config: Config, prepared: Prepared) -> dict[str, Config]:
    """The settings of a portfolio for these data, by name.

    Where there are no numbers there is nothing to scale or to embed, and of settings that then are alike one is left.
    """
    portfolio = config.portfolio
    assert isinstance(portfolio, TablePortfolio)
    found = {name: setting(config, name) for name in portfolio.for_rows(len(prepared.parts["train"]))}
    if not prepared.n_numbers:
        plain = {"embedding": NoEmbedding(name="none")}
        for name, own in found.items():
            data = own.data.model_copy(update={"scaling": config.data.scaling})
            found[name] = own.model_copy(update={"data": data, **plain})
    different = {own.model_dump_json(): name for name, own in reversed(found.items())}
    return {name: own for name, own in found.items() if name in different.values()}


def jobs_of(
    own: Config, portfolio: TablePortfolio, data: Data, folds: np.ndarray, which: Sequence[int | None]
) -> list[Job]:
    """Jobs of one setting: for each entry a fold to leave out, or None for one more network on all rows.

    Networks of one fold have one seed whatever their setting: they share its order of rows and its draws.
    """
    suited = sized(own, portfolio, len(folds) - len(folds) // portfolio.folds)
    found: list[Job] = []
    for place, fold in enumerate(which):
        purpose = ("refit", place) if fold is None else ("fold", fold)
        seed = randomness.key(own.seed, *purpose) & SEEDS
        prepared = data.of(suited, fold, folds)
        found.append(Job(suited.model_copy(update={"seed": seed}), Path(), prepared, len(found)))
    return found


def train(jobs: Sequence[Job], device: torch.device, report: Report) -> list[Trained]:
    """What became of each job, in their order; on a CPU as many chunks at a time as torch may use threads."""
    numbered = [Job(job.config, job.folder, job.prepared, i) for i, job in enumerate(jobs)]
    groups, alone = plan(numbered)
    assert not alone, alone[0][1]
    sized_chunks: list[tuple[float, list[Job]]] = []
    for group in groups:
        fit = chunk_size(group, device)
        n_chunks = -(-len(group.jobs) // max(fit, AT_LEAST))
        cost = len(group.jobs) / n_chunks / fit
        sized_chunks += [(cost, list(group.jobs[i::n_chunks])) for i in range(n_chunks)]
    chunks = [jobs for _, jobs in sorted(sized_chunks, key=lambda chunk: -chunk[0])]  # the longest first
    total, done, told = sum(chunk[0].config.trainer.max_epochs for chunk in chunks), [0] * len(chunks), threading.Lock()

    def work(place: int, go_on: Callable[[], None]) -> list[Trained]:
        def after_epoch(epochs: int, left: int, best: float) -> None:
            with told:
                done[place] = epochs
                report(sum(done), total)

        scored = chunks[place][0].config.scheduler.name == "plateau"  # nobody else looks at networks one by one
        return FusedTraining(chunks[place], device, after_epoch, pulse=go_on, scored=scored).run()

    works = [partial(work, place) for place in range(len(chunks))]
    trained = side_by_side(works) if device.type == "cpu" else [work(lambda: None) for work in works]
    results = {t.job.number: t for of_chunk in trained for t in of_chunk}
    return [results[i] for i in range(len(jobs))]
