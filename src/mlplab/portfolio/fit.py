"""From a portfolio of settings to one answer: cross-validate, rank, blend (or train the best again), calibrate."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mlplab import randomness
from mlplab.config import Config
from mlplab.config.portfolio import TablePortfolio
from mlplab.data.prepared import Prepared, seen_through
from mlplab.data.preprocess import Features, SideBySide
from mlplab.fused.training import Trained
from mlplab.models.build import SEEDS, dtype_of
from mlplab.models.ensemble import Blend, Calibrated
from mlplab.portfolio.blend import LEAST, bagged_weights, folds_of, log_loss
from mlplab.portfolio.networks import Data, Report, jobs_of, settings_of, train
from mlplab.runs import RunFolder
from mlplab.training import checkpoints, losses
from mlplab.training.calibration import fit_temperature
from mlplab.training.history import Fitted, mean_row, write_metrics
from mlplab.training.metrics import compute

LEAST_WEIGHT = 0.02
"""Settings with less of a blend are left out of it."""
PRIOR_ROWS = 300


@dataclass(frozen=True)
class Tried:
    """One setting of a portfolio."""

    name: str
    scores: dict[str, float]
    """Out-of-fold, with its own temperature: log_loss, accuracy and the other metrics."""
    temperature: float | None
    weight: float
    """Its share in the answer."""
    n_parameters: int


@dataclass(frozen=True)
class Chosen:
    """What a portfolio came to."""

    tried: list[Tried]
    """By rank."""
    out_of_fold: dict[str, float]
    """Scores of the blend on predictions by networks that had not seen the row; what chose is a little flattered."""
    temperature: float | None
    folds: int
    networks: int
    """Networks that were trained, and of these those that answer."""
    answering: int

    def record(self) -> dict[str, Any]:
        """What result.json says of it."""
        return {
            "tried": {
                t.name: {"weight": t.weight, "n_parameters": t.n_parameters, "temperature": t.temperature, **t.scores}
                for t in self.tried
            },
            "folds": self.folds,
            "networks": {"trained": self.networks, "answering": self.answering},
            "temperature": self.temperature,
        }


def fit_portfolio(
    config: Config, prepared: Prepared, device: str, folder: RunFolder, report: Report
) -> tuple[Prepared, Fitted, Chosen]:
    """Train a portfolio and write its checkpoint and metrics.csv.

    Args:
        config: from `Config.pooled`.
        prepared: its data; the training part holds all rows but those of the test part.

    Returns:
        The data as the blend takes it, the blend, and how it was chosen.
    """
    started = time.perf_counter()
    portfolio, pool = config.portfolio, prepared.parts["train"]
    assert isinstance(portfolio, TablePortfolio)
    y, n_folds = pool.y.numpy(), portfolio.folds
    order = randomness.permutation(randomness.key(config.data.split_seed, "portfolio"), len(y)).numpy()
    folds, data, place = folds_of(y, n_folds, order), Data(prepared), torch.device(device)
    settings = settings_of(config, prepared)
    jobs = [job for own in settings.values() for job in jobs_of(own, portfolio, data, folds, range(n_folds))]
    trained = train(jobs, place, report)
    by_name = {name: trained[i * n_folds : (i + 1) * n_folds] for i, name in enumerate(settings)}
    probs = {name: p for name, of in by_name.items() if (p := _out_of_fold(of, folds, prepared.n_classes)) is not None}
    if not probs:
        fitted = _fitted(config, prepared, device, trained, None)
        return prepared, replace(fitted, diverged=trained[0].diverged), Chosen([], {}, None, n_folds, len(trained), 0)
    calibrates = config.calibration.name == "temperature"
    cooling = {name: own_temperature(p, pool.y) if calibrates else None for name, p in probs.items()}
    probs = {name: _sharpened(p, cooling[name]) for name, p in probs.items()}
    weights = choose(list(probs.values()), y, portfolio, randomness.key(config.seed, "samples") & SEEDS)
    shares = {name: float(w) for name, w in zip(probs, weights, strict=True) if w > 0}
    blended = np.sum([w * probs[name] for name, w in shares.items()], 0)
    temperature = None
    if calibrates:
        temperature = fit_temperature(torch.from_numpy(_log(blended)), pool.y)
    answering = {name: by_name[name] for name in shares}
    again: list[Trained] = []
    if portfolio.choose == "best":
        (name,) = shares
        again = train(jobs_of(settings[name], portfolio, data, folds, [None] * portfolio.refits), place, report)
        answering[name] = [t for t in again if t.diverged is None] or by_name[name]
    network, features, told = _assemble(answering, shares, cooling, dtype_of(config))
    whole = network.eval() if temperature is None else Calibrated(network, temperature).eval()
    fitted = replace(
        _fitted(config, prepared, device, [*trained, *again], whole), seconds=time.perf_counter() - started
    )
    final = seen_through(prepared, features)
    _save(config, final, network, temperature, told, fitted, folder)
    tried = [
        Tried(name, _scores(probs[name], pool.y), cooling[name], shares.get(name, 0.0), _size(by_name[name][0]))
        for name in sorted(probs, key=lambda name: log_loss(probs[name], y))
    ]
    n_answering = sum(len(of) for of in answering.values())
    out_of_fold = _scores(_sharpened(blended, temperature), pool.y)
    return final, fitted, Chosen(tried, out_of_fold, temperature, n_folds, len(trained) + len(again), n_answering)


def _fitted(
    config: Config, prepared: Prepared, device: str, trained: Sequence[Trained], whole: nn.Module | None
) -> Fitted:
    good = [t.history for t in trained if t.diverged is None] if whole is not None else []
    epochs = min((len(rows) for rows in good), default=0)
    history = [mean_row([rows[epoch] for rows in good]) for epoch in range(epochs)]
    return Fitted(
        network=whole,
        history=history,
        best_epoch=epochs - 1,
        seconds=0.0,
        rows_seen=sum(len(t.job.prepared.parts["train"]) * len(t.history) for t in trained),
        n_parameters=0 if whole is None else sum(p.numel() for p in whole.parameters()),
        device=device,
        class_weights=losses.class_weights(config.loss, prepared.parts["train"].y, prepared.n_classes),
        diverged=None,
    )


def _save(
    config: Config,
    final: Prepared,
    network: Blend,
    temperature: float | None,
    told: dict[str, Any],
    fitted: Fitted,
    folder: RunFolder,
) -> None:
    n_outputs, epoch = losses.n_outputs(config.loss.name, final.n_classes), fitted.best_epoch
    best = checkpoints.best_content(config, final, network.state_dict(), n_outputs, epoch, math.nan, temperature)
    checkpoints.save(best | {"blend": told}, folder.best)
    checkpoints.save_last(checkpoints.ended(config, fitted.history, final.fingerprint), folder.last)
    write_metrics(config, fitted.history, folder.metrics)


def choose(probs: Sequence[np.ndarray], y: np.ndarray, portfolio: TablePortfolio, seed: int) -> np.ndarray:
    """Weight of each setting, from its out-of-fold probabilities; they add up to 1."""
    if portfolio.choose == "best":
        return np.eye(len(probs))[int(np.argmin([log_loss(p, y) for p in probs]))]
    of_true = np.stack([p[np.arange(len(y)), y] for p in probs])
    weights = bagged_weights(of_true, portfolio.rounds, portfolio.samples, seed)
    weights = np.where(weights >= LEAST_WEIGHT, weights, 0)
    return weights / weights.sum()


def own_temperature(probs: np.ndarray, y: Tensor) -> float:
    """The temperature of one setting, so that what counts in a blend is what it tells apart, not how sure it is.

    Label smoothing and dropout make probabilities too modest, each setting's by another measure. Few rows tell little
    of it: the temperature is drawn towards 1 as if `PRIOR_ROWS` further rows had said so.
    """
    return fit_temperature(torch.from_numpy(_log(probs)), y) ** (len(y) / (len(y) + PRIOR_ROWS))


def _out_of_fold(trained: Sequence[Trained], folds: np.ndarray, n_classes: int) -> np.ndarray | None:
    """Probabilities of all rows, each by the network that had not seen it; None where one of them diverged."""
    if any(t.diverged is not None or "test" not in t.scores for t in trained):
        return None
    probs = np.zeros((len(folds), n_classes))
    for fold, t in enumerate(trained):
        probs[folds == fold] = t.scores["test"].probs.double().numpy()
    return probs if np.isfinite(probs).all() else None


def _scores(probs: np.ndarray, y: Tensor) -> dict[str, float]:
    return {name: float(value) for name, value in compute(torch.from_numpy(probs), y).items()}


def _log(probs: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probs, LEAST))


def _sharpened(probs: np.ndarray, temperature: float | None) -> np.ndarray:
    return probs if temperature is None else torch.from_numpy(_log(probs) / temperature).softmax(1).numpy()


def _size(trained: Trained) -> int:
    return sum(v.numel() for name, v in trained.last.items() if name.endswith(("weight", "bias", "frequencies")))


def _cooled(network: nn.Module, temperature: float | None) -> nn.Module:
    """The network with its logits divided by a temperature, which its last layer does by itself."""
    if temperature is not None:
        last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
        with torch.no_grad():
            for parameter in last.parameters():
                parameter.div_(temperature)
    return network


def _assemble(
    answering: dict[str, list[Trained]],
    shares: dict[str, float],
    cooling: dict[str, float | None],
    dtype: torch.dtype,
) -> tuple[Blend, SideBySide, dict[str, Any]]:
    """The blend, the features that it takes, and what rebuilds both."""
    features: list[Features] = []
    made: list[dict[str, Any]] = []
    places: dict[int, tuple[int, int]] = {}
    members, weights, stretches, told, end = [], [], [], [], 0
    for name, of in answering.items():
        for t in of:
            own = t.job.prepared.preprocess
            assert isinstance(own, Features)
            if id(own) not in places:
                places[id(own)] = (end, end + own.n_features)
                end += own.n_features
                features.append(own)
                made.append({"scaling": t.job.config.data.scaling, "onehot": own.onehot})
            members.append(_cooled(t.network(), cooling[name]))
            weights.append(shares[name] / len(of))
            stretches.append(places[id(own)])
            of_which = list(places).index(id(own))
            told.append({"setting": name, "features": of_which, "config": t.job.config.model_dump()})
    blend = Blend(members, stretches, torch.tensor(weights, dtype=torch.float64))
    return blend, SideBySide(features, dtype), {"features": made, "members": told}
