"""Settings of the groups that shape the network: `model`, `activation`, `initialization`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from mlplab.config.base import Settings, Target


class Layered(Settings):
    """Shared by the multilayer perceptrons."""

    hidden: PositiveInt | Annotated[list[PositiveInt], Field(min_length=1)]
    """Width of the hidden layers: one number, or a list with one number a layer."""
    depth: PositiveInt | None
    """Number of hidden layers where `hidden` is one number; null means one."""
    bias: bool
    """Whether the layers have biases."""

    @model_validator(mode="after")
    def _depth(self) -> Layered:
        if isinstance(self.hidden, list) and self.depth not in (None, len(self.hidden)):
            raise ValueError(
                f"model.hidden={self.hidden} already says {len(self.hidden)} layers, but model.depth={self.depth}; "
                "leave out model.depth, or give model.hidden as one number"
            )
        return self

    @property
    def widths(self) -> list[int]:
        """Width of each hidden layer."""
        return self.hidden if isinstance(self.hidden, list) else [self.hidden] * (self.depth or 1)


class Mlp(Layered):
    """A multilayer perceptron; its input and output sizes come from the data."""

    name: Literal["mlp"]


class NumpyMlp(Layered):
    """The same network written out in NumPy, forward and backward, without autograd."""

    name: Literal["numpy_mlp"]


class Linear(Settings):
    """Softmax regression (logistic regression with loss=bce): no hidden layer."""

    name: Literal["linear"]
    bias: bool
    """Whether the layer has a bias."""

    @property
    def widths(self) -> list[int]:
        """No hidden layer."""
        return []


class CustomModel(Target):
    """Your own nn.Module, built as target(n_features, n_outputs, **kwargs)."""

    name: Literal["custom"]


WRITTEN_OUT = ("sigmoid", "tanh", "relu", "leaky_relu", "elu")
"""Activations that model=numpy_mlp has."""

Model = Annotated[Mlp | NumpyMlp | Linear | CustomModel, Field(discriminator="name")]


class PlainActivation(Settings):
    """An activation with nothing to set."""

    name: Literal["relu", "gelu", "silu", "mish", "selu", "softplus", "prelu", "sigmoid", "tanh", "identity"]


class LeakyRelu(Settings):
    """max(x, slope x)."""

    name: Literal["leaky_relu"]
    slope: NonNegativeFloat
    """Slope for negative inputs."""


class Elu(Settings):
    """x for positive inputs, alpha (exp(x) - 1) for negative ones (Clevert et al. 2016)."""

    name: Literal["elu"]
    alpha: PositiveFloat
    """The value approached for large negative inputs is -alpha."""


class CustomActivation(Target):
    """Your own elementwise nn.Module, built as target(**kwargs)."""

    name: Literal["custom"]


Activation = Annotated[PlainActivation | LeakyRelu | Elu | CustomActivation, Field(discriminator="name")]


class PlainInitialization(Settings):
    """`auto`: He for the ReLU family, Xavier otherwise. `zeros`: fails to break symmetry. `torch`: nn.Linear's own."""

    name: Literal["auto", "zeros", "torch"]


class ScaledInitialization(Settings):
    """He et al. 2015 (`he`) or Glorot and Bengio 2010 (`xavier`): a spread by the layer's fan."""

    name: Literal["he", "xavier"]
    distribution: Literal["normal", "uniform"]
    """Law of the draws."""


class NormalInitialization(Settings):
    """Normal with mean 0."""

    name: Literal["normal"]
    std: PositiveFloat
    """Standard deviation."""


class UniformInitialization(Settings):
    """Uniform between -bound and bound."""

    name: Literal["uniform"]
    bound: PositiveFloat
    """Largest absolute value."""


class OrthogonalInitialization(Settings):
    """Rows or columns orthonormal, times gain (Saxe et al. 2014)."""

    name: Literal["orthogonal"]
    gain: PositiveFloat
    """Factor on the orthogonal matrix."""


Initialization = Annotated[
    PlainInitialization
    | ScaledInitialization
    | NormalInitialization
    | UniformInitialization
    | OrthogonalInitialization,
    Field(discriminator="name"),
]
