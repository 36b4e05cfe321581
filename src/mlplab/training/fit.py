"""Training of one network by Lightning, from a Config and prepared data to the weights of the best epoch."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from mlplab.config import Config
from mlplab.data.batches import Batches, Blocks, Streamed
from mlplab.data.prepared import Prepared
from mlplab.models.embedding import fit_edges
from mlplab.runs import RunFolder
from mlplab.signals import Interrupted
from mlplab.training import checkpoints, devices, losses
from mlplab.training.checks import check_fits
from mlplab.training.classifier import Classifier
from mlplab.training.epochs import EpochEnd, Observer
from mlplab.training.history import Diverged, Fitted
from mlplab.training.network import initial_network
from mlplab.training.selection import Selection
from mlplab.training.threads import threads_for


def fit(
    config: Config,
    prepared: Prepared,
    device: str,
    folder: RunFolder | None,
    observers: list[Observer],
    start: dict[str, Any] | None = None,
) -> Fitted:
    """Train the network that a Config describes.

    Args:
        device: from `devices.resolve`.
        folder: where checkpoints and metrics.csv go; None writes nothing.
        observers: told of each batch and epoch.
        start: what last.ckpt holds, to go on from there.

    Raises:
        SettingError: the settings do not fit the data or the machine.
    """
    check_fits(config, prepared)
    rank, world, main = _place(config)
    train = prepared.parts["train"]
    n_outputs = losses.n_outputs(config.loss.name, prepared.n_classes)
    network = initial_network(config, prepared)
    fit_edges(network, train.x)
    monitor = config.trainer.monitor if len(prepared.parts["val"]) else None
    workers = devices.workers(config.data, train, device)
    if device != "cpu" and world == 1 and workers is None:
        train = train.to(torch.device(device))
    batches = Batches(
        train,
        config.data.batch_size,
        config.seed,
        limit=config.trainer.max_batches,
        fixed=config.trainer.overfit,
        rank=rank,
        world=world,
    )
    loader: Any = batches if workers is None else Streamed(batches, workers, pin=device == "cuda")
    n_batches, in_blocks = len(loader), steps_itself(config, world)
    if in_blocks:
        loader = Blocks(loader)
    weights = losses.class_weights(config.loss, prepared.parts["train"].y, prepared.n_classes)
    classifier = Classifier(network, config, prepared.n_classes, weights, n_batches, train.preprocess)
    classifier.automatic_optimization = not in_blocks
    if start is not None:
        network.load_state_dict(start["network"])
        classifier.plateau.load_state_dict(start["plateau"])
        classifier.resumed = start

    def save_best(state: dict[str, Tensor], epoch: int, value: float) -> None:
        assert folder is not None
        content = checkpoints.best_content(config, prepared, state, n_outputs, epoch, value)
        checkpoints.save(content, folder.best)

    epochs = EpochEnd(
        prepared,
        folder if main else None,
        Selection(monitor, config.regularization.early_stopping),
        observers if main else [],
        save_best,
        config.trainer.checkpoint_seconds,
        write_metrics=config.logger.name != "none",
        start=start,
    )
    classifier.after_step = epochs.on_step
    diverged: Diverged | None = None
    n_parameters = sum(p.numel() for p in network.parameters())
    with quiet_lightning(), threads_for(n_parameters * batches.batch_size * config.ensemble.packed):
        trainer = make_trainer(config, device, epochs, in_blocks)
        batches.epoch = lambda: trainer.current_epoch
        seconds = epochs.history[-1]["seconds"] if epochs.history else 0.0
        started = time.perf_counter()
        progress: Any = trainer.fit_loop.epoch_progress.current
        progress.ready = progress.started = progress.processed = progress.completed = len(epochs.history)
        try:
            if not epochs.selection.stop:  # early stopping has ended it before
                trainer.fit(classifier, loader, weights_only=True)
            if main and trainer.optimizers:
                epochs.write(trainer)
        except Diverged as error:
            diverged = error
            epochs.write_best()
        except Interrupted:
            if main:
                epochs.write_captured()
            raise
        finally:
            epochs.close()
        seconds += time.perf_counter() - started
    network.cpu()
    if epochs.best_weights:
        network.load_state_dict(epochs.best_weights)
    per_epoch = min(n_batches * batches.batch_size, len(train))
    return Fitted(
        network=network.eval(),
        history=epochs.history,
        best_epoch=epochs.selection.best_epoch,
        seconds=seconds,
        rows_seen=per_epoch * len(epochs.history),
        n_parameters=n_parameters,
        device=device,
        class_weights=weights,
        diverged=diverged,
        main=main,
    )


def _place(config: Config) -> tuple[int, int, bool]:
    """(rank, number of processes, whether this process keeps the record)."""
    chosen = config.accelerator
    if chosen.name not in ("ddp", "ddp_cpu"):
        return 0, 1, True
    rank = int(os.environ.get("NODE_RANK", "0")) * chosen.devices + int(os.environ.get("LOCAL_RANK", "0"))
    return rank, chosen.devices * chosen.nodes, rank == 0


def steps_itself(config: Config, world: int) -> bool:
    """Whether the Classifier takes its steps itself, a block at a time; Lightning does where that is more than a step:
    several processes, gradients scaled against underflow, an optimizer that looks at a batch several times."""
    return (
        world == 1 and config.accelerator.precision != "16-mixed" and config.optimizer.name not in ("lbfgs", "custom")
    )


def make_trainer(config: Config, device: str, epochs: EpochEnd, in_blocks: bool) -> L.Trainer:
    """A Lightning Trainer without what is done here faster: validation, logging and checkpoints are EpochEnd's.

    Args:
        in_blocks: number format and clipping are the Classifier's (`steps_itself`).
    """
    chosen, precision = config.accelerator, config.accelerator.precision
    clipping = config.regularization.gradient_clipping
    several = chosen.name in ("ddp", "ddp_cpu")
    strategy: Any = DDPStrategy(process_group_backend="gloo" if device == "cpu" else None) if several else "auto"
    return L.Trainer(
        accelerator={"cuda": "gpu"}.get(device, device),
        devices=chosen.devices,
        num_nodes=chosen.nodes,
        strategy=strategy,
        sync_batchnorm=several and device == "cuda",
        # 64: the network itself is float64; auto, where nobody has decided it, is 32
        precision=precision if precision in ("bf16-mixed", "16-mixed") and not in_blocks else "32-true",
        max_epochs=config.trainer.max_epochs,
        gradient_clip_val=clipping.max_norm if clipping and not in_blocks else None,
        deterministic=chosen.deterministic,
        detect_anomaly=config.trainer.detect_anomaly,
        callbacks=[epochs],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        use_distributed_sampler=False,
    )


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's notes on hardware and its own products; its warnings about the user's code stay."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*srun.*command is available.*")  # a cluster's front door is no mistake
        warnings.filterwarnings("ignore", ".*LeafSpec.*")
        warnings.filterwarnings("ignore", ".*`srun` command is available.*")
        warnings.filterwarnings("ignore", ".*isinstance\\(treespec.*")
        try:
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)
