"""Settings of the groups `regularization`, `loss`, `accelerator`, `logger` and `trainer`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from mlplab.config.base import Settings

Probability = Annotated[float, Field(ge=0, lt=1)]


class Penalty(Settings):
    """A penalty on the weights (not on biases or normalization)."""

    strength: NonNegativeFloat
    """Its factor, lambda."""


class ElasticNet(Settings):
    """l1 and l2 together (Zou and Hastie 2005)."""

    l1: NonNegativeFloat
    """Factor of the sum of absolute weights."""
    l2: NonNegativeFloat
    """Factor of the sum of squared weights."""


class Dropout(Settings):
    """Sets hidden units to zero at random while training (Srivastava et al. 2014)."""

    p: Probability
    """Probability of each unit to be dropped, to 1/65536; the others are divided by 1 - p."""


class BatchNorm(Settings):
    """Normalizes each hidden unit over the batch, before the activation (Ioffe and Szegedy 2015)."""

    momentum: Annotated[float, Field(gt=0, le=1)]
    """Share of the newest batch in the running statistics."""
    eps: PositiveFloat
    """Added to the variance."""


class LayerNorm(Settings):
    """Normalizes each row over its hidden units, before the activation (Ba et al. 2016)."""

    eps: PositiveFloat
    """Added to the variance."""


class LabelSmoothing(Settings):
    """Moves a share of each target to all classes alike (Szegedy et al. 2016)."""

    epsilon: Probability
    """The share that is moved."""


class EarlyStopping(Settings):
    """Stops when the monitored value has not improved for a while (Prechelt 1998)."""

    patience: NonNegativeInt
    """Epochs without improvement that are forgiven."""
    min_delta: NonNegativeFloat
    """Least absolute improvement that counts."""


class GradientClipping(Settings):
    """Scales the gradient down to a largest norm (Pascanu et al. 2013)."""

    max_norm: PositiveFloat
    """Largest norm of all gradients together."""


class MaxNorm(Settings):
    """Scales the weights into each hidden unit down to a largest norm after each step (Srivastava et al. 2014)."""

    limit: PositiveFloat
    """Largest norm of one unit's incoming weights."""


class InputNoise(Settings):
    """Adds normal noise to the scaled features while training (Bishop 1995)."""

    std: NonNegativeFloat
    """Standard deviation."""


class Mixup(Settings):
    """Trains on mixtures of two rows and of their targets (Zhang et al. 2018)."""

    alpha: PositiveFloat
    """The share of the first row is drawn from Beta(alpha, alpha), once a batch."""


class Regularization(Settings):
    """Any of them together; one that is absent is off."""

    l1: Penalty | None = None
    """lambda times the sum of absolute weights, added to the loss."""
    l2: Penalty | None = None
    """lambda times the sum of squared weights, added to the loss."""
    elastic_net: ElasticNet | None = None
    weight_decay: Penalty | None = None
    """Shrinks the weights by lr times lambda before each step, outside the gradient (decoupled)."""
    dropout: Dropout | None = None
    batch_norm: BatchNorm | None = None
    layer_norm: LayerNorm | None = None
    label_smoothing: LabelSmoothing | None = None
    early_stopping: EarlyStopping | None = None
    gradient_clipping: GradientClipping | None = None
    max_norm: MaxNorm | None = None
    input_noise: InputNoise | None = None
    mixup: Mixup | None = None


class LossSettings(Settings):
    """Shared by every loss."""

    class_weights: Literal["none", "balanced"] | list[PositiveFloat]
    """Weight of each class's rows; `balanced` is rows / (classes * rows of the class), from the training part."""


class PlainLoss(LossSettings):
    """`cross_entropy` of the softmax, `bce` of one sigmoid output, `mse` of probabilities against one-hot targets."""

    name: Literal["cross_entropy", "bce", "mse"]


class Focal(LossSettings):
    """Cross-entropy times (1 - p)^gamma: less weight on easy rows (Lin et al. 2017)."""

    name: Literal["focal"]
    gamma: NonNegativeFloat
    """Power of the easy rows' discount; 0 is cross-entropy."""


Loss = Annotated[PlainLoss | Focal, Field(discriminator="name")]


class Accelerator(Settings):
    """Where and in which number format the network trains."""

    name: Literal["auto", "cpu", "gpu", "mps", "ddp", "ddp_cpu"]
    devices: PositiveInt
    """Number of devices, or of processes with ddp and ddp_cpu."""
    nodes: PositiveInt
    """Number of machines, with ddp."""
    precision: Literal["auto", 64, 32, "bf16-mixed", "16-mixed"]
    """Number format: 64 and 32 are plain; the mixed ones keep the weights in 32. auto: bf16-mixed on a processor with
    instructions for it and a network and batch large enough for them to pay, else 32."""
    deterministic: bool
    """Refuse operations whose result can differ from run to run."""


class PlainLogger(Settings):
    """`csv`: metrics.csv only. `none`: neither metrics.csv nor TensorBoard events."""

    name: Literal["csv", "none"]


class TensorBoardLogger(Settings):
    """TensorBoard events beside metrics.csv."""

    name: Literal["tensorboard"]
    histograms: bool
    """Histograms of weights and gradients, each layer's gradient norm and share of dead ReLU units."""
    figures: bool
    """Confusion matrix, ROC and precision-recall curves, and the decision boundary of two-feature data."""
    graph: bool
    """The network's graph."""
    images: bool
    """Of image data: samples, what augmentation does to them, the worst mistakes, the first layer's weights."""
    in_sweeps: bool
    """The same four for each job of a sweep, which costs more than training small networks; scalars always are."""


Logger = Annotated[PlainLogger | TensorBoardLogger, Field(discriminator="name")]


class Trainer(Settings):
    """How long and how much is trained."""

    name: Literal["default", "debug", "overfit"]
    max_epochs: PositiveInt
    """Passes over the training part."""
    max_batches: PositiveInt | None
    """Only so many batches of each epoch; null is all."""
    overfit: bool
    """Train on the first batch only, always the same: can the network learn at all?"""
    monitor: Literal["val/loss", "val/accuracy", "val/balanced_accuracy", "val/f1", "val/auroc", "val/log_loss"]
    """What chooses the best epoch; without a validation part the last epoch is the best."""
    compile: bool
    """Compile the network with torch.compile."""
    checkpoint_seconds: NonNegativeFloat
    """Least time between two writings of the checkpoints; a killed run resumes from the last."""
    detect_anomaly: bool
    """Name the operation whose gradient became NaN (slow)."""
    show_first_step: bool
    """Print every number of the first step: for a tiny model=numpy_mlp and data.batch_size=1."""
