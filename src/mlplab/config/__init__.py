"""Every setting of a run: its name, type, bounds and one sentence. Imports neither torch nor lightning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, ValidationError, model_validator

from mlplab.config import objectives
from mlplab.config.augmentation import Augmentation
from mlplab.config.base import SettingError, Settings
from mlplab.config.data import Data, n_classes_before_reading, validates
from mlplab.config.embedding import Embedding
from mlplab.config.ensemble import Calibration, Ensemble
from mlplab.config.fusable import alone_because
from mlplab.config.images import ImageSettings
from mlplab.config.messages import explain
from mlplab.config.network import WRITTEN_OUT, Activation, CustomModel, Initialization, Linear, Model, NumpyMlp
from mlplab.config.optimization import Lbfgs, Optimizer, Scheduler
from mlplab.config.portfolio import PER_SETTING, NoPortfolio, Portfolio, TablePortfolio, merged
from mlplab.config.tables import TableFile
from mlplab.config.targets import refused
from mlplab.config.training import Accelerator, Logger, Loss, Regularization, Trainer

__all__ = ["Config", "SettingError", "parse"]


class Config(Settings):
    """All settings of one run, checked one by one and against each other."""

    name: str
    """First folder under outputs/: the experiment's name, or the data's."""
    seed: NonNegativeInt
    """Seed of the initial weights, the order of the rows and every random draw of the training."""
    objective: str | Annotated[list[str], Field(min_length=1)]
    """What a sweep or search looks at, one or several: part/metric (never of the test part), parameters or seconds."""
    on_error: Literal["continue", "stop", "retry"]
    """What a sweep does when a job fails: go on with the others, start no more, or try it once again."""
    allow_targets: list[str]
    """Packages, besides your own code, whose functions `target` may name; a saved run's own list does not count."""
    data: Data
    embedding: Embedding
    model: Model
    activation: Activation
    initialization: Initialization
    optimizer: Optimizer
    scheduler: Scheduler
    regularization: Regularization
    augmentation: Augmentation
    loss: Loss
    ensemble: Ensemble
    calibration: Calibration
    portfolio: Portfolio
    accelerator: Accelerator
    logger: Logger
    trainer: Trainer

    @property
    def objectives(self) -> list[str]:
        """What a search looks at, one or several."""
        return objectives.listed(self.objective)

    @property
    def several(self) -> bool:
        """Whether several networks answer together, whose insides are not shown one by one."""
        return self.ensemble.networks > 1 or self.portfolio.name != "none"

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        objectives.check(self.objectives)
        self._check_batches()
        self._check_loss()
        self._check_regularization()
        self._check_augmentation()
        self._check_accelerator()
        self._check_numpy()
        self._check_categories()
        self._check_numbers()
        self._check_first_step()
        self._check_ensemble()
        self._check_portfolio()
        for why in refused(self, self.allow_targets):
            raise ValueError(why)
        return self

    def _check_batches(self) -> None:
        full = self.data.batch_size == "full"
        if isinstance(self.optimizer, Lbfgs):
            if not full:
                raise ValueError(
                    f"optimizer=lbfgs needs the whole training part in each step, but data.batch_size="
                    f"{self.data.batch_size}; use data.batch_size=full or another optimizer"
                )
            stochastic = [
                name
                for name in ("dropout", "input_noise", "mixup", "weight_decay", "gradient_clipping")
                if getattr(self.regularization, name) is not None
            ]
            if self.augmentation.chosen:
                raise ValueError(
                    f"optimizer=lbfgs follows one fixed function, but augmentation={self.augmentation.chosen[0]} "
                    "changes it at every step; leave it out or use another optimizer"
                )
            if stochastic:
                raise ValueError(
                    f"optimizer=lbfgs follows one fixed function, but regularization={stochastic[0]} changes it at "
                    "every step; leave it out or use another optimizer"
                )
        if self.regularization.batch_norm is not None and self.data.batch_size == 1:
            raise ValueError(
                "regularization=batch_norm needs several rows in a batch, but data.batch_size=1; "
                "use regularization=layer_norm or a larger data.batch_size"
            )

    def _check_augmentation(self) -> None:
        if self.augmentation.chosen and not isinstance(self.data, ImageSettings):
            raise ValueError(
                f"augmentation={self.augmentation.chosen[0]} is for images, and data={self.data.name} is a table; "
                "leave it out, or use regularization=input_noise or mixup"
            )

    def _check_loss(self) -> None:
        n_classes = n_classes_before_reading(self.data)
        if n_classes is not None:
            check_loss(self, n_classes)

    def _check_regularization(self) -> None:
        chosen = self.regularization
        if chosen.batch_norm is not None and chosen.layer_norm is not None:
            raise ValueError(
                "regularization=batch_norm and regularization=layer_norm normalize the same units; choose one"
            )
        if chosen.elastic_net is not None and (chosen.l1 is not None or chosen.l2 is not None):
            raise ValueError(
                "regularization=elastic_net is l1 and l2 together; leave out l1 and l2, or leave out elastic_net"
            )
        if isinstance(self.model, Linear | CustomModel):
            names = ("dropout", "batch_norm", "layer_norm", *(["max_norm"] if isinstance(self.model, Linear) else []))
            inside = [n for n in names if getattr(chosen, n) is not None]
            if inside:
                raise ValueError(
                    f"regularization={inside[0]} acts on hidden layers, and model={self.model.name} has none of "
                    "mlplab's; use model=mlp or leave it out"
                )

    def _check_numpy(self) -> None:
        if not isinstance(self.model, NumpyMlp):
            return
        if self.activation.name not in WRITTEN_OUT:
            raise ValueError(
                f"activation={self.activation.name} is not written out in model=numpy_mlp; {', '.join(WRITTEN_OUT)} "
                "are. Use one of them, or model=mlp"
            )
        if self.accelerator.precision in ("bf16-mixed", "16-mixed"):
            raise ValueError(
                f"accelerator.precision={self.accelerator.precision} is torch's, and model=numpy_mlp computes in "
                "NumPy; use accelerator.precision=32 or 64, or model=mlp"
            )
        if self.trainer.compile:
            raise ValueError("trainer.compile=true compiles torch code, and model=numpy_mlp is NumPy; use model=mlp")

    def _check_categories(self) -> None:
        if not isinstance(self.data, TableFile) or self.data.encode != "embedding":
            return
        noisy = [n for n in ("input_noise", "mixup") if getattr(self.regularization, n) is not None]
        if isinstance(self.model, NumpyMlp | CustomModel):
            raise ValueError(
                f"data.encode=embedding is a first layer of mlplab's networks, and model={self.model.name} has none; "
                "use data.encode=onehot or model=mlp"
            )
        if noisy:
            raise ValueError(
                f"regularization={noisy[0]} mixes features, which codes of categories cannot be; use "
                "data.encode=onehot or leave it out"
            )

    def _check_numbers(self) -> None:
        if self.embedding.name == "none":
            return
        if isinstance(self.data, ImageSettings):
            raise ValueError(
                f"embedding={self.embedding.name} is for the numbers of a table, and data={self.data.name} is images; "
                "use embedding=none"
            )
        if isinstance(self.model, NumpyMlp | CustomModel):
            raise ValueError(
                f"embedding={self.embedding.name} is a first layer of mlplab's networks, and model={self.model.name} "
                "has none; use embedding=none or model=mlp"
            )

    def _check_first_step(self) -> None:
        if not self.trainer.show_first_step:
            return
        regularized = [name for name, value in self.regularization if value is not None]
        for wrong, instead in (
            (not isinstance(self.model, NumpyMlp) and f"model={self.model.name}", "model=numpy_mlp"),
            (self.data.batch_size != 1 and f"data.batch_size={self.data.batch_size}", "data.batch_size=1"),
            (self.loss.class_weights != "none" and "loss.class_weights", "loss.class_weights=none"),
            (regularized and f"regularization={regularized[0]}", "regularization=none"),
            (self.optimizer.name == "custom" and "optimizer=custom", "a shipped optimizer"),
        ):
            if wrong:
                raise ValueError(
                    f"trainer.show_first_step=true follows one row through the network written out in NumPy, which "
                    f"{wrong} does not fit; use {instead}"
                )

    def _check_ensemble(self) -> None:
        if self.ensemble.name == "packed":
            for wrong, instead in (
                (self.model.name != "mlp" and f"model={self.model.name}", "model=mlp"),
                (self.regularization.batch_norm and "regularization=batch_norm", "layer_norm"),
            ):
                if wrong:
                    raise ValueError(
                        f"ensemble=packed shares the hidden layers of model=mlp between its members, and {wrong} does "
                        f"not go with that; use {instead}, or ensemble=independent"
                    )
        several = self.ensemble.networks > 1
        for wrong, instead in (
            (self.accelerator.name in ("ddp", "ddp_cpu") and f"accelerator={self.accelerator.name}", "one device"),
            (self.trainer.show_first_step and "trainer.show_first_step", "trainer.show_first_step=false"),
        ):
            if several and wrong:
                raise ValueError(f"ensemble.size={self.ensemble.size} does not go with {wrong}; use {instead}")
        if self.calibration.name != "none" and self.portfolio.name == "none" and not validates(self.data):
            raise ValueError(
                f"calibration={self.calibration.name} is fitted on validation rows, and there are none; use "
                "data.split=[0.6,0.2,0.2] or the like"
            )

    def _check_portfolio(self) -> None:
        if isinstance(self.portfolio, NoPortfolio):
            return
        stopping = self.regularization.early_stopping
        for wrong, instead in (
            (isinstance(self.data, ImageSettings) and f"data={self.data.name}", "a table, or ensemble.size=8"),
            (self.ensemble.size > 1 and f"ensemble.size={self.ensemble.size}", "portfolio.refits for more networks"),
            (stopping and "regularization=early_stopping", "portfolio.steps for shorter trainings"),
            (alone_because(self.model_copy(update=ALONE)) or "", "portfolio=none"),
        ):
            if wrong:
                raise ValueError(f"portfolio={self.portfolio.name} does not go with {wrong}; use {instead}")
        for name, own in self.portfolio.settings.items():
            told = f"portfolio.settings.{name}"
            if surplus := [key for key in own.get("data", {}) if key not in PER_SETTING]:
                raise ValueError(
                    f"{told}.data.{surplus[0]} is the whole run's; a setting may have {', '.join(PER_SETTING)}"
                )
            try:
                reason = alone_because(setting(self, name))
            except SettingError as error:
                raise ValueError(f"{told}: {error}") from None
            if reason:
                raise ValueError(f"{told} cannot train with the others: {reason}")

    def _check_accelerator(self) -> None:
        chosen = self.accelerator
        if chosen.precision == "16-mixed" and chosen.name in ("cpu", "ddp_cpu"):
            raise ValueError(
                f"accelerator.precision=16-mixed needs a GPU, but accelerator={chosen.name}; "
                "use accelerator.precision=bf16-mixed or 32"
            )
        if chosen.precision == 64 and chosen.name == "mps":
            raise ValueError("accelerator=mps has no 64-bit numbers; use accelerator.precision=32")
        if chosen.name not in ("ddp", "ddp_cpu") and (chosen.devices, chosen.nodes) != (1, 1):
            raise ValueError(
                f"accelerator={chosen.name} uses one device, but accelerator.devices={chosen.devices} and "
                f"accelerator.nodes={chosen.nodes}; use accelerator=ddp (GPUs) or accelerator=ddp_cpu (processes)"
            )
        if chosen.name in ("ddp", "ddp_cpu") and isinstance(self.optimizer, Lbfgs):
            raise ValueError(
                f"optimizer=lbfgs runs on one device; use another optimizer or not accelerator={chosen.name}"
            )


ALONE = {"portfolio": NoPortfolio(name="none"), "calibration": Calibration(name="none")}


def setting(config: Config, name: str) -> Config:
    """One setting of a run's portfolio, as a run of its own.

    Raises:
        SettingError: it is not allowed.
    """
    assert isinstance(config.portfolio, TablePortfolio)
    base = config.model_copy(update=ALONE).model_dump()
    return parse(merged(base, config.portfolio.settings[name]))


def check_loss(config: Config, n_classes: int) -> None:
    """Raise ValueError if the loss does not fit data with so many classes."""
    loss = config.loss
    if loss.name == "bce" and n_classes != 2:
        raise ValueError(
            f"loss=bce is for two classes, but data={config.data.name} has {n_classes}; use loss=cross_entropy"
        )
    if isinstance(loss.class_weights, list) and len(loss.class_weights) != n_classes:
        raise ValueError(
            f"loss.class_weights has {len(loss.class_weights)} numbers, but data={config.data.name} has "
            f"{n_classes} classes; give one number a class, or balanced"
        )


def parse(values: Mapping[str, Any]) -> Config:
    """A checked Config from plain values.

    Raises:
        SettingError: in one short message, with the setting's path, what was given and what is allowed.
    """
    try:
        return Config.model_validate(dict(values))
    except ValidationError as error:
        raise SettingError(explain(error, Config)) from None
