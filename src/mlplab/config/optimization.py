"""Settings of the groups `optimizer` and `scheduler`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from mlplab.config.base import Settings, Target

Momentum = Annotated[float, Field(ge=0, lt=1)]
Factor = Annotated[float, Field(gt=0, le=1)]


class OptimizerSettings(Settings):
    """Shared by every optimizer."""

    lr: PositiveFloat
    """Learning rate; the scheduler multiplies it."""


class WithDecay(OptimizerSettings):
    """Adds the weight decay of the optimizer itself."""

    weight_decay: NonNegativeFloat
    """On all parameters, as torch does it: added to the gradient, except in adamw and muon (decoupled)."""


class Sgd(WithDecay):
    """Plain gradient descent."""

    name: Literal["sgd"]


class MomentumSgd(WithDecay):
    """Gradient descent with heavy-ball momentum (`momentum`) or Nesterov's look-ahead (`nesterov`)."""

    name: Literal["momentum", "nesterov"]
    momentum: Annotated[float, Field(gt=0, lt=1)]
    """Share of the last step that is kept."""


class RmsProp(WithDecay):
    """Gradient over the root of its running mean square (Hinton 2012)."""

    name: Literal["rmsprop"]
    alpha: Momentum
    """Share of the running mean square that is kept."""
    eps: PositiveFloat
    """Added to the denominator."""
    momentum: Momentum
    """Share of the last step that is kept."""
    centered: bool
    """Divide by the running standard deviation instead."""


class Adagrad(WithDecay):
    """Gradient over the root of the sum of its squares (Duchi et al. 2011)."""

    name: Literal["adagrad"]
    lr_decay: NonNegativeFloat
    """The rate is divided by 1 + (step - 1) lr_decay."""
    eps: PositiveFloat
    """Added to the denominator."""


class AdamFamily(WithDecay):
    """Shared by Adam and its relatives."""

    betas: Annotated[list[Momentum], Field(min_length=2, max_length=2)]
    """Shares kept of the running mean and of the running mean square."""
    eps: PositiveFloat
    """Added to the denominator."""


class Adam(AdamFamily):
    """Adam (Kingma and Ba 2015), or AdamW with decoupled weight decay (Loshchilov and Hutter 2019)."""

    name: Literal["adam", "adamw"]
    amsgrad: bool
    """Use the largest mean square seen so far (Reddi et al. 2018)."""


class Nadam(AdamFamily):
    """Adam with Nesterov momentum (Dozat 2016)."""

    name: Literal["nadam"]
    momentum_decay: NonNegativeFloat
    """Decay of the momentum's schedule."""


class Radam(AdamFamily):
    """Adam with a rectified variance (Liu et al. 2020)."""

    name: Literal["radam"]


class Lbfgs(OptimizerSettings):
    """Limited-memory BFGS: needs data.batch_size=full."""

    name: Literal["lbfgs"]
    max_iter: PositiveInt
    """Iterations in a step."""
    history_size: PositiveInt
    """Past steps that the curvature is estimated from."""
    line_search: Literal["strong_wolfe", "none"]
    """How the step length is found."""


class Muon(WithDecay):
    """Orthogonalized momentum for the weight matrices (Jordan 2024), AdamW for the other parameters."""

    name: Literal["muon"]
    momentum: Annotated[float, Field(gt=0, lt=1)]
    """Share of the running gradient that is kept."""
    nesterov: bool
    """Look ahead along the momentum."""
    ns_steps: PositiveInt
    """Newton-Schulz iterations that orthogonalize."""
    adamw_lr: PositiveFloat
    """Learning rate of AdamW for biases and normalization; the scheduler multiplies it too."""


class CustomOptimizer(OptimizerSettings, Target):
    """Your own torch.optim.Optimizer, built as target(parameters, lr=lr, **kwargs)."""

    name: Literal["custom"]


Optimizer = Annotated[
    Sgd | MomentumSgd | RmsProp | Adagrad | Adam | Nadam | Radam | Lbfgs | Muon | CustomOptimizer,
    Field(discriminator="name"),
]


class SchedulerSettings(Settings):
    """Shared by every schedule of the learning rate."""

    warmup_epochs: NonNegativeFloat
    """Epochs over which the rate first grows linearly to its full size; the schedule follows it."""


class Constant(SchedulerSettings):
    """The rate stays."""

    name: Literal["none"]


class Step(SchedulerSettings):
    """Multiply by gamma every so many epochs."""

    name: Literal["step"]
    every: PositiveInt
    """Epochs between two cuts."""
    gamma: Factor
    """Factor of each cut."""


class Exponential(SchedulerSettings):
    """Multiply by gamma after each epoch."""

    name: Literal["exponential"]
    gamma: Factor
    """Factor an epoch."""


class Cosine(SchedulerSettings):
    """Half a cosine from the full rate to min_factor of it (Loshchilov and Hutter 2017), moved every step."""

    name: Literal["cosine"]
    min_factor: Annotated[float, Field(ge=0, le=1)]
    """Share of the rate that is left at the end."""


class OneCycle(SchedulerSettings):
    """Up to `lr` and down again along cosines (Smith and Topin 2018), moved every step."""

    name: Literal["one_cycle"]
    rise: Annotated[float, Field(gt=0, lt=1)]
    """Share of the training spent going up."""
    start_divisor: Annotated[float, Field(ge=1)]
    """The rate starts at lr / start_divisor."""
    end_divisor: Annotated[float, Field(ge=1)]
    """The rate ends at its start / end_divisor."""


class Plateau(SchedulerSettings):
    """Cut the rate when the monitored value has stopped improving."""

    name: Literal["plateau"]
    factor: Annotated[float, Field(gt=0, lt=1)]
    """Factor of each cut."""
    patience: NonNegativeInt
    """Epochs without improvement that are forgiven."""
    threshold: NonNegativeFloat
    """Relative improvement that counts."""
    min_factor: Annotated[float, Field(ge=0, le=1)]
    """Share of the rate below which it is not cut."""


Scheduler = Annotated[Constant | Step | Exponential | Cosine | OneCycle | Plateau, Field(discriminator="name")]
