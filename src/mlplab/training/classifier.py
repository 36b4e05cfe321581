"""The one LightningModule: network, loss, regularization, optimizer, and the learning rate of each step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import lightning.pytorch as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlplab import randomness
from mlplab.config import Config
from mlplab.data.augmentation import addresses, augment
from mlplab.data.batches import BLOCK, Batch
from mlplab.models.layers import Clock
from mlplab.training import losses, optimizers, perturbations, schedulers
from mlplab.training.evaluation import number_format
from mlplab.training.metrics import compute, probabilities
from mlplab.training.selection import direction


class Classifier(L.LightningModule):
    """Trains a network to tell classes apart.

    Args:
        network: from (batch, n_features) to logits (batch, n_outputs).
        class_weights: from `losses.class_weights`.
        batches_per_epoch: optimizer steps in an epoch.
        preprocess: from the batches' x to the network's input (`Part.preprocess`); None where they are the same.
    """

    def __init__(
        self,
        network: nn.Module,
        config: Config,
        n_classes: int,
        class_weights: Tensor | None,
        batches_per_epoch: int,
        preprocess: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.preprocess = preprocess
        self.config = config
        self.n_classes = n_classes
        self.batches_per_epoch = batches_per_epoch
        self.class_weights = None if class_weights is None else nn.Buffer(class_weights, persistent=False)
        self.clock: Clock = getattr(network, "clock", None) or Clock()
        self.plateau = schedulers.Plateau(config.scheduler, direction(config.trainer.monitor))
        self._forward = cast(Any, torch.compile(network)) if config.trainer.compile else network
        self._weights: list[Tensor] = [p for p in network.parameters() if p.ndim >= 2]
        self._l1, self._l2 = losses.penalty_factors(config.regularization)
        self._reseed = config.model.name == "custom"  # a person's own layers may draw from torch's generator
        self.seen: list[tuple[Tensor, Tensor, Tensor]] = []
        self.resumed: dict[str, Any] | None = None
        self.after_step: Callable[[int, int, int], None] = lambda epoch, batch, n_batches: None
        # classes instead of probabilities as targets: the same loss in a fifth of the time
        self._plain_targets = (
            config.loss.name == "cross_entropy"
            and class_weights is None
            and config.regularization.mixup is None
            and not hasattr(network, "row_losses")
        )

    def __setattr__(self, name: str, value: Any) -> None:
        # `_forward` is the same module as `network`, perhaps compiled: not a second child. Plain values need none of
        # what a module does for tensors, and Lightning sets some of its own dozens of times a step.
        if name == "_forward" or isinstance(value, str | int) or value is None:
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, shape (batch, n_outputs)."""
        return self._forward(x)

    def training_step(self, batch: Batch | list[Batch], batch_idx: int) -> Tensor | None:
        """The loss of one batch for Lightning to step on; or, of a block of batches, all steps taken here.

        Lightning's loop costs as much as two thirds of a step of 784-512-512-10 in bf16; around a block it costs
        nothing that counts.
        """
        if isinstance(batch, Batch):
            return self.total_loss(batch, batch_idx)
        for i, one in enumerate(batch, batch_idx * BLOCK):
            self._whole_step(one, i)
            self.after_step(self.current_epoch, i, self.batches_per_epoch)
        return None

    def _whole_step(self, batch: Batch, batch_idx: int) -> None:
        optimizer = self._optimizer()
        self._set_rate(batch_idx)
        with number_format(self.config.accelerator.precision, batch.x.device):
            total = self.total_loss(batch, batch_idx)
        optimizer.zero_grad()
        total.backward()
        if clipping := self.config.regularization.gradient_clipping:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), clipping.max_norm)
        self.on_before_optimizer_step(optimizer)
        optimizer.step()
        self._limit_norms()

    def total_loss(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch, with penalties, at its place in the training."""
        step = self.current_epoch * self.batches_per_epoch + batch_idx
        self.clock.step, self.clock.first_row = step, batch.first_row
        if self._reseed:
            torch.manual_seed(randomness.at(randomness.key(self.config.seed, "torch"), step))
        x = self._perturb(batch, step)
        smoothing = self.config.regularization.label_smoothing
        if self._plain_targets:
            logits = self._forward(x)
            wide = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
            epsilon = smoothing.epsilon if smoothing else 0.0
            loss = F.cross_entropy(wide.flatten(0, -2), of_members(batch.y, logits), label_smoothing=epsilon)
        else:
            x, targets = self._targets(x, batch, step)
            logits = self._forward(x)
            loss = self.loss(logits.flatten(0, -2), of_members(targets, logits), smoothing)
        if len(self.seen) == batch_idx:  # lbfgs looks at further points of the same batch
            told = logits.detach()
            self.seen.append((loss.detach(), self.network.answer(told) if told.ndim == 3 else told, batch.y))  # type: ignore[operator]
        total = loss + losses.penalty(self._weights, self._l1, self._l2)
        return total if batch.share == 1 else total * batch.share

    def _perturb(self, batch: Batch, step: int) -> Tensor:
        x = batch.x
        if (augmentation := self.config.augmentation).chosen:
            x = augment(x, augmentation, addresses(augmentation, self.config.seed, step), batch.first_row)
        if self.preprocess is not None:
            x = self.preprocess(x)
        if noise := self.config.regularization.input_noise:
            address = randomness.at(randomness.key(self.config.seed, "noise", batch.first_row), step)
            x = perturbations.add_noise(x.flatten(1), address, noise.std).view_as(x)
        return x

    def _targets(self, x: Tensor, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        targets = F.one_hot(batch.y, self.n_classes).to(x.dtype)
        if mix := self.config.regularization.mixup:
            address = randomness.at(randomness.key(self.config.seed, "mixup", batch.first_row), step)
            x, targets = perturbations.mixup(x, targets, address, mix.alpha)
        return x, targets

    def loss(self, logits: Tensor, targets: Tensor, smoothing: Any = None) -> Tensor:
        """Mean loss of rows with target probabilities (rows, n_classes); a row counts by its class's weight."""
        logits = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
        goal = losses.smooth(targets, smoothing.epsilon) if smoothing else targets
        weights = None if self.class_weights is None else self.class_weights.to(logits.dtype)
        of_rows = getattr(self.network, "row_losses", losses.row_losses)  # model=numpy_mlp writes out its own
        return losses.weighted_mean(of_rows(self.config.loss, logits, goal), targets, weights)

    def seen_metrics(self) -> dict[str, float]:
        """Loss and metrics over the batches of the epoch, as the network stood at each; forgets them."""
        of_batch, logits, targets = (list(column) for column in zip(*self.seen, strict=True))
        self.seen = []
        rows = torch.tensor([float(len(y)) for y in targets], dtype=torch.float64, device=targets[0].device)
        total = (torch.stack(of_batch).double() * rows).sum()
        logits_all, targets_all = torch.cat(logits), torch.cat(targets)
        if self._trainer is not None and self.trainer.world_size > 1:
            total, rows = (self.trainer.strategy.reduce(v, reduce_op="sum") for v in (total, rows.sum()))
            logits_all, targets_all = _gathered(logits_all), _gathered(targets_all)
        metrics = {name: float(v) for name, v in compute(probabilities(logits_all), targets_all).items()}
        return {"loss": float(total / rows.sum()), **metrics}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        optimizer = optimizers.build(
            self.config.optimizer,
            self.network.parameters(),
            fused=self.config.accelerator.precision != "16-mixed",  # its gradients are scaled back outside the kernel
        )
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        if self.resumed:
            states, groups = self.resumed["optimizer"], self.resumed["groups"]
            optimizers.restore(optimizer, self.network.parameters(), states, groups)
        return optimizer

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if self.automatic_optimization:
            self._set_rate(batch_idx)

    def _set_rate(self, batch_idx: int) -> None:
        step = self.current_epoch * self.batches_per_epoch + batch_idx
        total = self.config.trainer.max_epochs * self.batches_per_epoch
        factor = schedulers.factor(self.config.scheduler, step, self.batches_per_epoch, total) * self.plateau.factor
        for group in self._optimizer().param_groups:
            group["lr"] = group["initial_lr"] * factor

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if decay := self.config.regularization.weight_decay:  # as AdamW: outside the gradient, before the step
            with torch.no_grad():
                torch._foreach_mul_(self._weights, 1 - optimizer.param_groups[0]["lr"] * decay.strength)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.automatic_optimization:
            self._limit_norms()

    def _limit_norms(self) -> None:
        if limit := self.config.regularization.max_norm:
            with torch.no_grad():
                for w in self._weights[:-1]:  # the output layer's units are not hidden
                    norms = w.flatten(1).norm(dim=1).clamp(min=limit.limit)
                    w.mul_((limit.limit / norms).view(-1, *[1] * (w.ndim - 1)))

    def _optimizer(self) -> torch.optim.Optimizer:
        return self.trainer.optimizers[0]

    @property
    def lr(self) -> float:
        """Learning rate of the last step."""
        return float(self._optimizer().param_groups[0]["lr"])

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        if isinstance(batch, list):
            return [self.transfer_batch_to_device(one, device, dataloader_idx) for one in batch]
        if batch.x.device == device:
            return batch
        return batch._replace(x=batch.x.to(device, non_blocking=True), y=batch.y.to(device, non_blocking=True))


def of_members(targets: Tensor, logits: Tensor) -> Tensor:
    """Targets (batch, ...) once for each member of logits (batch, members, n_outputs): the mean over all of their rows
    is the mean of the members' losses. Those of a network without members, (batch, n_outputs), as they are."""
    return targets if logits.ndim == 2 else targets.repeat_interleave(logits.shape[1], 0)


def _gathered(local: Tensor) -> Tensor:
    """Rows of all processes, which may hold different numbers of them."""
    import torch.distributed as dist

    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, local.cpu())
    return torch.cat(parts).to(local.device)
