"""Trains a group of jobs as one batched program; each job ends with what it would have had alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mlplab.fused import state
from mlplab.fused.group_data import StackedBatches, StackedPart
from mlplab.fused.halving import Halving
from mlplab.fused.objective import Objective
from mlplab.fused.plan import Job
from mlplab.fused.scores import first_bad, metrics
from mlplab.fused.stack import Context, Stack
from mlplab.fused.trained import Trained
from mlplab.fused.updates import Update, Value, column, spread
from mlplab.training import schedulers
from mlplab.training.calibration import fit_temperature
from mlplab.training.evaluation import ROWS_AT_ONCE, Scores
from mlplab.training.history import Diverged, Row, likely_cause
from mlplab.training.metrics import probabilities
from mlplab.training.network import initial_network
from mlplab.training.selection import Selection, direction
from mlplab.training.threads import threads_for

VALUES_AT_ONCE = 1 << 24
"""Activations of one layer that scoring holds at a time, of all networks together."""

Report = Callable[[int, int, float], None]


class FusedTraining:
    """The training of one group.

    Args:
        report: told after each epoch (epochs done, networks left, best monitored value so far).
        halving: stops networks that are behind.
        pulse: called before each step; it may raise to end the training.
        scored: whether the training rows of each epoch are scored, beside their loss.

    Attributes:
        epochs: epochs that are done, in `seconds`.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        device: torch.device,
        report: Report | None = None,
        halving: Halving | None = None,
        pulse: Callable[[], None] | None = None,
        scored: bool = True,
    ) -> None:
        config, prepared = jobs[0].config, jobs[0].prepared
        self.config, self.report, self.halving, self.pulse, self.scored = config, report, halving, pulse, scored
        self.dtype = torch.float64 if config.accelerator.precision == 64 else torch.float32
        template = initial_network(config, prepared)
        self.stack = Stack(template, [job.config for job in jobs], device, self.dtype)  # type: ignore[arg-type]
        self.stack.fit_edges([job.prepared.parts["train"].x for job in jobs])
        self.update = Update(self.stack, [job.config.optimizer for job in jobs])
        self.objective = Objective(self.stack, jobs)
        self.train = StackedPart.stack([job.prepared.parts["train"] for job in jobs], device)
        self.batches = StackedBatches(self.train, jobs)
        val = [job.prepared.parts["val"] for job in jobs]
        self.val = StackedPart.stack(val, device) if len(val[0]) else None
        self.test = StackedPart.stack([job.prepared.parts["test"] for job in jobs], device)
        monitor = config.trainer.monitor
        self.all = [
            Trained(
                job,
                Selection(monitor if self.val else None, job.config.regularization.early_stopping),
                schedulers.Plateau(job.config.scheduler, direction(monitor)),
            )
            for job in jobs
        ]
        self.alive = list(self.all)
        self.best = self.stack.snapshot()
        self.epochs, self.seconds = 0, 0.0
        self._schedules = {t.schedule: t.job.config.scheduler for t in self.all}
        self._moves = any(schedulers.moves_within_epochs(s) for s in self._schedules.values())
        self._factors: dict[str, float] = {}
        self._rates: list[float] = []
        self._rate: Value = 0.0
        self._of_networks: Value = 0.0

    def state(self) -> dict[str, Any]:
        """Everything that a later `restore` needs, copied to the CPU: plain types and tensors."""
        return state.capture(self)

    def restore(self, kept: dict[str, Any]) -> None:
        """Go on from what `state` gave between two epochs, in a training of the same jobs that has not run yet."""
        state.put_back(self, kept)

    @torch.no_grad()
    def run(self) -> list[Trained]:
        """Train to the end; one result a job, in the jobs' order."""
        n_parameters = sum(math.prod(p.shape) for p in self.stack.parameters)
        with threads_for(n_parameters * self.batches.size * self.config.ensemble.packed):
            return self._run()

    def _run(self) -> list[Trained]:
        started = time.perf_counter() - self.seconds
        for epoch in range(self.epochs, self.config.trainer.max_epochs):
            if not self.alive:
                break
            rows, finite = self._epoch(epoch)
            self.seconds = time.perf_counter() - started
            for row in rows:
                row["seconds"] = self.seconds
            self._take_in(epoch, rows, finite)
            self.epochs = epoch + 1
            if self.report:
                found = [t.selection.best for t in self.all if not math.isnan(t.selection.best)]
                pick = max if self.all[0].selection.mode == "max" else min
                self.report(epoch + 1, len(self.alive), pick(found, default=math.nan))
        self._retire(list(range(len(self.alive))), self.stack.snapshot())
        seconds = time.perf_counter() - started
        for trained in self.all:
            trained.seconds = seconds / len(self.all)
        return self.all

    def _epoch(self, epoch: int) -> tuple[list[Row], list[tuple[int, list[float]] | None]]:
        """One pass over the training parts; a row of scores and the first bad step (or None) of each network."""
        seen: list[tuple[Tensor, Tensor, Tensor, Tensor | None]] = []
        n_batches = len(self.batches)
        context = Context()
        for i, batch in enumerate(self.batches.epoch(epoch)):
            if self.pulse:
                self.pulse()
            context.step = epoch * n_batches + i
            rate = self._rate_at(context.step, n_batches)
            x, targets = self.objective.perturbed(batch, self.train, context.step)
            logits = self.stack.forward(x, context)
            loss, grad = self.objective.loss_and_gradient(logits, targets, batch.real)
            self.stack.backward(grad)
            self.objective.constrain_gradient(self._of_networks)
            self.update.step(rate)
            self.objective.constrain_weights()
            seen.append((loss, self.stack.answer(logits), batch.y, batch.real))
        scores = self._seen_scores(seen)
        rows: list[Row] = []
        parts = {"train": scores}
        if self.val is not None:
            parts["val"] = self._scores(self.val, self.logits(self.val))
        columns = {f"{part}/{name}": v for part, of_part in parts.items() for name, v in of_part.items()}
        for m in range(self.stack.n):
            row: Row = {"epoch": epoch, "step": (epoch + 1) * n_batches, "lr": self._rates[m]}
            rows.append(row | {name: values[m] for name, values in columns.items()})
        return rows, first_bad(torch.stack([loss for loss, *_ in seen]))

    def _rate_at(self, step: int, n_batches: int) -> Value:
        """Each network's learning rate at a step, laid out over the flat buffer if they differ."""
        if self._rates and step % n_batches and not self._moves:
            return self._rate
        total = self.config.trainer.max_epochs * n_batches
        factors = {
            kind: schedulers.factor(settings, step, n_batches, total) for kind, settings in self._schedules.items()
        }
        if self._rates and factors == self._factors and step % n_batches:
            return self._rate  # plateau moves between epochs only
        self._factors = factors
        rates = [t.job.config.optimizer.lr * (factors[t.schedule] * t.plateau.factor) for t in self.alive]
        if rates != self._rates:
            self._rates = rates
            alike = all(r == rates[0] for r in rates)
            self._rate = rates[0] if alike else spread(self.stack, rates)
            self._of_networks = rates[0] if alike else column(self.stack, rates)
        return self._rate

    def _seen_scores(self, seen: list[Any]) -> dict[str, list[float]]:
        per_batch = torch.stack([loss for loss, *_ in seen]).double()
        real = [
            torch.full((self.stack.n,), float(s[2].shape[1]), dtype=torch.float64, device=self.stack.device)
            if s[3] is None
            else s[3].sum(1).double()
            for s in seen
        ]
        rows = torch.stack(real)
        loss = (per_batch * rows).sum(0) / rows.sum(0)
        if not self.scored:
            return {"loss": loss.tolist()}
        padded = any(s[3] is not None for s in seen)
        n_rows = rows.sum(0).long() if padded else None
        logits, y = torch.cat([s[1] for s in seen], 1), torch.cat([s[2] for s in seen], 1)
        return {"loss": loss.tolist(), **metrics(logits, y, n_rows)}

    def _scores(self, part: StackedPart, logits: Tensor) -> dict[str, list[float]]:
        y = part.y[part.of]
        n_rows = None if part.even else part.n_rows
        real = None if n_rows is None else torch.arange(y.shape[1], device=y.device) < n_rows[:, None]
        return {"loss": self.objective.data_loss(logits, y, real).tolist(), **metrics(logits, y, n_rows)}

    def logits(self, part: StackedPart) -> Tensor:
        """Logits (networks, most rows, n_outputs) in evaluation mode."""
        context = Context(training=False)
        chunks = []
        width = max(max(p.shape) for p in self.stack.parameters)
        at_once = max(64, min(ROWS_AT_ONCE, VALUES_AT_ONCE // (self.stack.n * width)))
        for start in range(0, part.x.shape[1], at_once):
            x = part.x[:, start : start + at_once]
            # data that all share are scaled once for all
            inputs = part.inputs(x).expand(self.stack.n, -1, -1) if part.shared else part.inputs(x[part.of])
            chunks.append(self.stack.forward(inputs, context))
        return torch.cat(chunks, 1) if len(chunks) > 1 else chunks[0]

    def _take_in(self, epoch: int, rows: list[Row], first_bad: list[tuple[int, list[float]] | None]) -> None:
        improved, leaving = [], []
        for m, (trained, row, bad) in enumerate(zip(self.alive, rows, first_bad, strict=True)):
            if bad is not None:
                step, before = bad
                cause = likely_cause(trained.job.config, before, trained.history)
                trained.diverged = Diverged(epoch * len(self.batches) + step, cause)
                leaving.append(m)
                continue
            trained.history.append(row)
            if trained.selection.update(epoch, row.get(trained.selection.monitor or "")):
                improved.append(m)
            monitor = self.config.trainer.monitor
            trained.plateau.update(row.get(monitor, row.get(monitor.replace("val/", "train/"), math.nan)))
            if trained.selection.stop:
                leaving.append(m)
        if self.halving and epoch + 1 in self.halving.rungs(self.config.trainer.max_epochs):
            reached = [m for m in range(len(self.alive)) if m not in leaving]
            leaving += [reached[i] for i in self.halving.stop(epoch + 1, [self.alive[m] for m in reached])]
        if len(improved) == len(self.alive):
            self.best = self.stack.snapshot()
        elif improved:
            self.stack.refresh(self.best, torch.tensor(improved, device=self.stack.device))
        if leaving:
            self._retire(leaving, self.stack.snapshot())
            self.compact([m for m in range(len(self.alive)) if m not in set(leaving)])

    def _retire(self, leaving: list[int], now: list[Tensor]) -> None:
        """Keep what networks that leave the batch came to, and score their best weights on every part."""
        self._score_best(leaving)
        states = {name: self.stack.views(flat) for name, flat in self.update.state.items()}
        for m in leaving:
            trained = self.alive[m]
            if trained.history:
                trained.best = self.stack.state(self.best, m)
            trained.last = self.stack.state(now, m)
            trained.optimizer = [
                {name: views[i][m].to("cpu", copy=True) for name, views in states.items()}
                for i in range(len(self.stack.parameters))
            ]

    def _score_best(self, leaving: list[int]) -> None:
        """The scores that result.json holds; the test part is read here and nowhere else."""
        now = self.stack.snapshot()
        self.stack.restore(self.best)
        parts = {"train": self.train, **({"val": self.val} if self.val is not None else {}), "test": self.test}
        temperatures = self._temperatures(leaving)
        for name, part in parts.items():
            logits = self.logits(part)
            if temperatures is not None:
                logits = logits / temperatures
            columns = self._scores(part, logits)
            probs = probabilities(logits).cpu()
            for m in leaving:
                if self.alive[m].history:
                    metrics = {metric: values[m] for metric, values in columns.items()}
                    n_rows = len(self.alive[m].job.prepared.parts[name])
                    self.alive[m].scores[name] = Scores(metrics, probs[m, :n_rows].clone())
        self.stack.restore(now)

    def _temperatures(self, leaving: list[int]) -> Tensor | None:
        """What each network's logits are divided by, (networks, 1, 1), where calibration asks for it."""
        if self.config.calibration.name == "none" or self.val is None:
            return None
        logits = self.logits(self.val)
        found = torch.ones(self.stack.n, 1, 1, dtype=logits.dtype, device=logits.device)
        for m in leaving:
            val = self.alive[m].job.prepared.parts["val"]
            temperature = fit_temperature(logits[m, : len(val)], val.y.to(logits.device))
            found[m], self.alive[m].temperature = temperature, temperature
        return found

    def compact(self, keep: list[int]) -> None:
        """Leave only some of the networks that are in the batch."""
        self.alive = [self.alive[m] for m in keep]
        if not keep:
            return
        which = torch.tensor(keep, device=self.stack.device)
        self.best = [copy[which] for copy in self.best]
        self.update.compact(keep, self.stack.compact(which, list(self.update.state.values())))
        self.objective.compact(keep)
        self.train = self.train.compact(which)
        self.batches.compact(which, self.train)
        self.val = self.val.compact(which) if self.val is not None else None
        self.test = self.test.compact(which)
        self._rates = []
