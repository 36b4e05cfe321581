"""Loss, penalties and gradient constraints of many networks, each with its own strengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mlplab import randomness
from mlplab.data.augmentation import augment
from mlplab.fused.group_data import StackedBatch, StackedPart, one_hot
from mlplab.fused.plan import Job
from mlplab.fused.stack import Stack
from mlplab.fused.updates import Value, column, spread
from mlplab.training import losses, perturbations


class Objective:
    """What a step of each network minimizes, and what bounds its gradient and weights."""

    def __init__(self, stack: Stack, jobs: Sequence[Job]) -> None:
        self.stack, self.jobs = stack, list(jobs)
        self.loss = jobs[0].config.loss
        self.n_classes = jobs[0].prepared.n_classes
        self._arrange()

    def _arrange(self) -> None:
        device, dtype = self.stack.device, self.stack.dtype
        chosen = [job.config.regularization for job in self.jobs]
        factors = [losses.penalty_factors(r) for r in chosen]
        self.l1 = self._on_weights([l1 for l1, _ in factors])
        self.l2 = self._on_weights([2 * l2 for _, l2 in factors])

        def unless(numbers: list[float], off: float) -> Tensor | None:
            return None if all(n == off for n in numbers) else column(self.stack, numbers)

        inf = float("inf")
        self.decay = unless([r.weight_decay.strength if r.weight_decay else 0.0 for r in chosen], 0.0)
        self.smoothing = unless([r.label_smoothing.epsilon if r.label_smoothing else 0.0 for r in chosen], 0.0)
        self.clip = unless([r.gradient_clipping.max_norm if r.gradient_clipping else inf for r in chosen], inf)
        self.max_norm = unless([r.max_norm.limit if r.max_norm else inf for r in chosen], inf)
        self.noise = unless([r.input_noise.std if r.input_noise else 0.0 for r in chosen], -1.0)
        self.alpha = unless([r.mixup.alpha if r.mixup else 0.0 for r in chosen], 0.0)
        if chosen[0].input_noise is None:
            self.noise = None
        seeds = [job.config.seed for job in self.jobs]
        self.noise_keys, self.mixup_keys = (
            torch.tensor([randomness.key(s, what, 0) for s in seeds], dtype=torch.int64, device=device)
            for what in ("noise", "mixup")
        )
        self.augmentation = self.jobs[0].config.augmentation
        self.augmentation_keys = {
            name: torch.tensor([randomness.key(s, "augmentation", name) for s in seeds], device=device)
            for name in self.augmentation.chosen
        }
        weights = [
            losses.class_weights(job.config.loss, job.prepared.parts["train"].y, self.n_classes) for job in self.jobs
        ]
        self.class_weights: Tensor | None = None
        if any(w is not None for w in weights):
            ones = torch.ones(self.n_classes, dtype=torch.float64)
            self.class_weights = torch.stack([ones if w is None else w for w in weights]).to(device, dtype)

    def _on_weights(self, strengths: list[float]) -> Tensor | None:
        """Each network's strength at its weights and 0 elsewhere, flat; None where all are 0."""
        if not any(strengths):
            return None
        flat = spread(self.stack, strengths)
        for p, part in zip(self.stack.parameters, self.stack.views(flat), strict=True):
            if len(p.shape) < 2:
                part.zero_()
        return flat

    def compact(self, keep: Sequence[int]) -> None:
        """Leave only some networks."""
        self.jobs = [self.jobs[m] for m in keep]
        self._arrange()

    def perturbed(self, batch: StackedBatch, part: StackedPart, step: int) -> tuple[Tensor, Tensor]:
        """Features and target probabilities after augmentation, input noise and mixup."""
        x, targets = batch.x, one_hot(batch.y, self.n_classes, self.stack.dtype)
        if self.augmentation.chosen:
            addresses = {name: randomness.at(keys, step) for name, keys in self.augmentation_keys.items()}
            x = augment(x, self.augmentation, addresses)
        x = part.inputs(x)
        if self.noise is not None:
            address = randomness.at(self.noise_keys, step)
            x = perturbations.add_noise(x, address, self.noise.view(-1, 1, 1))
        if self.alpha is not None:
            address = randomness.at(self.mixup_keys, step)
            share = (
                perturbations.mixup_share(randomness.at(address, 0), self.alpha).to(x.device, x.dtype).view(-1, 1, 1)
            )
            partner = _partners(randomness.at(address, 1), x.shape[1], batch.real)
            which = torch.arange(len(x), device=x.device)[:, None]
            x = share * x + (1 - share) * x[which, partner]
            targets = share * targets + (1 - share) * targets[which, partner]
        return x, targets

    def loss_and_gradient(self, logits: Tensor, targets: Tensor, real: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean loss of each network (networks,) and its gradient with respect to the logits.

        Args:
            targets: probabilities (networks, rows, n_classes).
            real: which rows count, or None.

        Where networks have members there are so many logits for each row.
        """
        if (members := logits.shape[1] // targets.shape[1]) > 1:
            targets = targets.repeat_interleave(members, 1)
            real = None if real is None else real.repeat_interleave(members, 1)
        weights = self._row_weights(targets, real)
        goal = targets if self.smoothing is None else losses.smooth(targets, self.smoothing.view(-1, 1, 1))
        if self.loss.name == "cross_entropy":
            # over a dimension that is not the last, torch works on many rows at a time
            log_p = logits.mT.contiguous().log_softmax(-2).mT
            of_row = -(goal * log_p).sum(-1)
            grad = log_p.exp().sub_(goal)
        elif self.loss.name == "bce":
            of_row = losses.row_losses(self.loss, logits, goal)
            grad = logits.sigmoid() - goal[..., 1:]
        else:
            leaf = logits.detach().requires_grad_()
            with torch.enable_grad():
                of_row = losses.row_losses(self.loss, leaf, goal)
                (grad,) = torch.autograd.grad(of_row.sum(), leaf)
            of_row = of_row.detach()
        if weights is None:
            return of_row.mean(-1), grad.div_(logits.shape[1])
        share = weights / weights.sum(-1, keepdim=True)
        return (of_row * share).sum(-1), grad * share.unsqueeze(-1)

    def _row_weights(self, targets: Tensor, real: Tensor | None) -> Tensor | None:
        weights = None if self.class_weights is None else (targets @ self.class_weights.unsqueeze(-1)).squeeze(-1)
        if real is None:
            return weights
        return real.to(targets.dtype) if weights is None else weights * real

    def data_loss(self, logits: Tensor, y: Tensor, real: Tensor | None) -> Tensor:
        """Loss of each network without penalties and smoothing, (networks,), as `evaluation.score` gives it."""
        targets = one_hot(y, self.n_classes, logits.dtype)
        of_row, weights = losses.row_losses(self.loss, logits, targets), self._row_weights(targets, real)
        return of_row.mean(-1) if weights is None else (of_row * weights).sum(-1) / weights.sum(-1)

    def constrain_gradient(self, rates: Value) -> None:
        """Add the penalties' gradients, clip, and shrink the weights of decoupled decay.

        Args:
            rates: the networks' learning rate now, or (networks,) if they differ.
        """
        values, grads = self.stack.values, self.stack.grads
        if self.l2 is not None:
            grads.addcmul_(values, self.l2)
        if self.l1 is not None:
            grads.addcmul_(values.sign(), self.l1)
        if self.clip is not None:
            squares = torch.stack([p.grad.flatten(1).square().sum(1) for p in self.stack.parameters])
            factor = (self.clip / (squares.sum(0).sqrt() + 1e-6)).clamp(max=1.0)
            for p in self.stack.parameters:
                p.grad.mul_(factor.view(-1, *[1] * len(p.shape)))
        if self.decay is not None:
            shrunk = (1 - rates * self.decay).view(-1, 1, 1)
            for p in self.stack.parameters:
                if len(p.shape) > 1:
                    p.value.mul_(shrunk)

    def constrain_weights(self) -> None:
        """Scale each hidden unit's incoming weights down to the largest norm."""
        if self.max_norm is None:
            return
        limit = self.max_norm.view(-1, 1, 1)
        matrices = [p.value for p in self.stack.parameters if len(p.shape) == 2]
        for w in matrices[:-1]:
            norms = w.norm(dim=2, keepdim=True)
            w.mul_(torch.where(norms > limit, limit / norms, torch.ones_like(norms)))


def _partners(address: Any, rows: int, real: Tensor | None) -> Tensor:
    draws = randomness.bits(address, rows)
    if real is not None:
        draws.masked_fill_(~real, torch.iinfo(torch.int64).max)
    return draws.argsort(dim=-1, stable=True)
