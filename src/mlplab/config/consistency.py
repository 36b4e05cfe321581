"""Settings that contradict each other: one function a subject, which raises ValueError saying which to change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlplab.config.data import n_classes_before_reading, validates
from mlplab.config.images import ImageSettings
from mlplab.config.network import WRITTEN_OUT, CustomModel, Linear, NumpyMlp
from mlplab.config.optimization import Lbfgs
from mlplab.config.tables import TableFile

if TYPE_CHECKING:
    from mlplab.config import Config


def batches(config: Config) -> None:
    full = config.data.batch_size == "full"
    if isinstance(config.optimizer, Lbfgs):
        if not full:
            raise ValueError(
                f"optimizer=lbfgs needs the whole training part in each step, but data.batch_size="
                f"{config.data.batch_size}; use data.batch_size=full or another optimizer"
            )
        stochastic = [
            name
            for name in ("dropout", "input_noise", "mixup", "weight_decay", "gradient_clipping")
            if getattr(config.regularization, name) is not None
        ]
        if config.augmentation.chosen:
            raise ValueError(
                f"optimizer=lbfgs follows one fixed function, but augmentation={config.augmentation.chosen[0]} "
                "changes it at every step; leave it out or use another optimizer"
            )
        if stochastic:
            raise ValueError(
                f"optimizer=lbfgs follows one fixed function, but regularization={stochastic[0]} changes it at "
                "every step; leave it out or use another optimizer"
            )
    if config.regularization.batch_norm is not None and config.data.batch_size == 1:
        raise ValueError(
            "regularization=batch_norm needs several rows in a batch, but data.batch_size=1; "
            "use regularization=layer_norm or a larger data.batch_size"
        )


def augmentation(config: Config) -> None:
    if config.augmentation.chosen and not isinstance(config.data, ImageSettings):
        raise ValueError(
            f"augmentation={config.augmentation.chosen[0]} is for images, and data={config.data.name} is a table; "
            "leave it out, or use regularization=input_noise or mixup"
        )


def loss(config: Config) -> None:
    n_classes = n_classes_before_reading(config.data)
    if n_classes is not None:
        check_loss(config, n_classes)


def regularization(config: Config) -> None:
    chosen = config.regularization
    if chosen.batch_norm is not None and chosen.layer_norm is not None:
        raise ValueError("regularization=batch_norm and regularization=layer_norm normalize the same units; choose one")
    if chosen.elastic_net is not None and (chosen.l1 is not None or chosen.l2 is not None):
        raise ValueError(
            "regularization=elastic_net is l1 and l2 together; leave out l1 and l2, or leave out elastic_net"
        )
    if isinstance(config.model, Linear | CustomModel):
        names = ("dropout", "batch_norm", "layer_norm", *(["max_norm"] if isinstance(config.model, Linear) else []))
        inside = [n for n in names if getattr(chosen, n) is not None]
        if inside:
            raise ValueError(
                f"regularization={inside[0]} acts on hidden layers, and model={config.model.name} has none of "
                "mlplab's; use model=mlp or leave it out"
            )


def numpy(config: Config) -> None:
    if not isinstance(config.model, NumpyMlp):
        return
    if config.activation.name not in WRITTEN_OUT:
        raise ValueError(
            f"activation={config.activation.name} is not written out in model=numpy_mlp; {', '.join(WRITTEN_OUT)} "
            "are. Use one of them, or model=mlp"
        )
    if config.accelerator.precision in ("bf16-mixed", "16-mixed"):
        raise ValueError(
            f"accelerator.precision={config.accelerator.precision} is torch's, and model=numpy_mlp computes in "
            "NumPy; use accelerator.precision=32 or 64, or model=mlp"
        )
    if config.trainer.compile:
        raise ValueError("trainer.compile=true compiles torch code, and model=numpy_mlp is NumPy; use model=mlp")


def categories(config: Config) -> None:
    if not isinstance(config.data, TableFile) or config.data.encode != "embedding":
        return
    noisy = [n for n in ("input_noise", "mixup") if getattr(config.regularization, n) is not None]
    if isinstance(config.model, NumpyMlp | CustomModel):
        raise ValueError(
            f"data.encode=embedding is a first layer of mlplab's networks, and model={config.model.name} has none; "
            "use data.encode=onehot or model=mlp"
        )
    if noisy:
        raise ValueError(
            f"regularization={noisy[0]} mixes features, which codes of categories cannot be; use "
            "data.encode=onehot or leave it out"
        )


def numbers(config: Config) -> None:
    if config.embedding.name == "none":
        return
    if isinstance(config.data, ImageSettings):
        raise ValueError(
            f"embedding={config.embedding.name} is for the numbers of a table, and data={config.data.name} is images; "
            "use embedding=none"
        )
    if isinstance(config.model, NumpyMlp | CustomModel):
        raise ValueError(
            f"embedding={config.embedding.name} is a first layer of mlplab's networks, and model={config.model.name} "
            "has none; use embedding=none or model=mlp"
        )


def first_step(config: Config) -> None:
    if not config.trainer.show_first_step:
        return
    regularized = [name for name, value in config.regularization if value is not None]
    for wrong, instead in (
        (not isinstance(config.model, NumpyMlp) and f"model={config.model.name}", "model=numpy_mlp"),
        (config.data.batch_size != 1 and f"data.batch_size={config.data.batch_size}", "data.batch_size=1"),
        (config.loss.class_weights != "none" and "loss.class_weights", "loss.class_weights=none"),
        (regularized and f"regularization={regularized[0]}", "regularization=none"),
        (config.optimizer.name == "custom" and "optimizer=custom", "a shipped optimizer"),
    ):
        if wrong:
            raise ValueError(
                f"trainer.show_first_step=true follows one row through the network written out in NumPy, which "
                f"{wrong} does not fit; use {instead}"
            )


def ensemble(config: Config) -> None:
    if config.ensemble.name == "packed":
        for wrong, instead in (
            (config.model.name != "mlp" and f"model={config.model.name}", "model=mlp"),
            (config.regularization.batch_norm and "regularization=batch_norm", "layer_norm"),
        ):
            if wrong:
                raise ValueError(
                    f"ensemble=packed shares the hidden layers of model=mlp between its members, and {wrong} does "
                    f"not go with that; use {instead}, or ensemble=independent"
                )
    several = config.ensemble.networks > 1
    for wrong, instead in (
        (config.accelerator.name in ("ddp", "ddp_cpu") and f"accelerator={config.accelerator.name}", "one device"),
        (config.trainer.show_first_step and "trainer.show_first_step", "trainer.show_first_step=false"),
    ):
        if several and wrong:
            raise ValueError(f"ensemble.size={config.ensemble.size} does not go with {wrong}; use {instead}")
    if config.calibration.name != "none" and config.portfolio.name == "none" and not validates(config.data):
        raise ValueError(
            f"calibration={config.calibration.name} is fitted on validation rows, and there are none; use "
            "data.split=[0.6,0.2,0.2] or the like"
        )


def accelerator(config: Config) -> None:
    chosen = config.accelerator
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
    if chosen.name in ("ddp", "ddp_cpu") and isinstance(config.optimizer, Lbfgs):
        raise ValueError(f"optimizer=lbfgs runs on one device; use another optimizer or not accelerator={chosen.name}")


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


CHECKS = (batches, augmentation, loss, regularization, numpy, categories, numbers, first_step, ensemble, accelerator)
