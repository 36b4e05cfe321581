"""Settings of the scripts that look at a network or its data from outside, or put it to use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError, model_validator

from mlplab.config.base import SettingError, Settings
from mlplab.config.messages import explain

Baseline = Literal["logistic_regression", "knn", "svm", "random_forest", "gradient_boosting", "sklearn_mlp"]


class GradientCheck(Settings):
    """How a network's gradients are compared with finite differences."""

    rows: PositiveInt
    """Rows of the batch on which the loss is taken."""
    entries: PositiveInt
    """Entries of each parameter that are compared, drawn by `seed`; all of them where there are fewer."""
    step: PositiveFloat
    """Each entry is moved by so much, up and down."""
    tolerance: PositiveFloat
    """Largest relative error of a right gradient."""


class Baselines(Settings):
    """Which other methods a network is compared with."""

    run: str | None
    """A run folder to stand beside them, whose data and split are then taken."""
    methods: Annotated[list[Baseline], Field(min_length=1)]
    """The methods to score."""
    svm_rows: PositiveInt
    """The support vector machine, whose time grows with the square of the rows, is left out above so many."""
    file: str | None
    """Where to write the table, .json or .csv; null writes baselines.json into the run folder, if there is a run."""


class Compare(Settings):
    """How many runs are set side by side."""

    runs: str | Annotated[list[str], Field(min_length=1)]
    """A folder, or several, with runs in or below them."""
    metric: str | None
    """What the runs are ranked by, such as val/accuracy; null takes the runs' own `objective`."""
    out: str | None
    """Folder of the files; null is `comparison` in the (first) folder of runs."""
    best: bool
    """Print the command that trains the winner again."""
    retrain: NonNegativeInt
    """Train the winner again with the seeds 0 to so many less one, and compare those."""
    ensemble: NonNegativeInt
    """Score the average of so many of the best runs' probabilities."""
    allow_targets: list[str]
    """Packages whose functions the run's own settings may name, besides your own code."""


class Export(Settings):
    """How a finished run becomes one file that needs no mlplab."""

    run: str
    """The run folder."""
    allow_targets: list[str]
    """Packages whose functions the run's own settings may name, besides your own code."""
    format: Literal["onnx", "pt2"]
    """ONNX, which onnxruntime and others run, or torch.export's archive, which torch alone runs."""
    output: str | None
    """The file; null is model.<format> in the run folder. <file>.json is written beside it."""
    overwrite: bool
    """Write over files of an earlier export."""
    check_rows: PositiveInt
    """So many of the run's rows are given to the file and to the checkpoint."""
    tolerance: PositiveFloat
    """Largest difference of a probability between the two; above it nothing is written."""


class Predict(Settings):
    """How new rows are given classes."""

    run: str
    """The run folder."""
    allow_targets: list[str]
    """Packages whose functions the run's own settings may name, besides your own code."""
    input: str
    """A table with the columns that the run was trained on, in any order; of an image run, a folder of files."""
    output: str
    """The .csv file to write."""
    keep: Literal["auto", "all"] | list[str]
    """Columns of the input to copy: auto takes those that the training file had and the network does not use."""
    overwrite: bool
    """Write over a file of that name."""
    on_bad_file: Literal["error", "skip"]
    """Image files that cannot be read: list and refuse them, or list and leave them out."""

    @model_validator(mode="after")
    def _is_csv(self) -> Predict:
        if not self.output.endswith(".csv"):
            raise ValueError(f"output={self.output} must end in .csv")
        return self


class Explain(Settings):
    """How to find out which columns a network looks at."""

    run: str
    """The run folder."""
    allow_targets: list[str]
    """Packages whose functions the run's own settings may name, besides your own code."""
    part: Literal["val", "test"]
    """The part whose rows are shuffled; the training part would show what was learnt by heart too."""
    metric: Literal["accuracy", "balanced_accuracy", "precision", "recall", "f1", "auroc", "log_loss", "ece"]
    """What gets worse when a column is shuffled."""
    repeats: Annotated[int, Field(ge=2)]
    """Shuffles of each column; their standard deviation is the spread."""
    rows: Annotated[int, Field(ge=2)]
    """Rows of the part that are looked at, at most; drawn by `seed`."""
    seed: NonNegativeInt
    """Seed of the shuffles."""
    columns: Literal["auto"] | list[str]
    """Numeric columns whose partial dependence is drawn; auto takes the most important ones."""
    curves: NonNegativeInt
    """Number of columns that auto takes."""
    points: Annotated[int, Field(ge=2)]
    """Values at which a curve is taken, from the column's 1st percentile to its 99th."""
    patch: PositiveInt
    """Images: side of the squares that are shuffled, in pixels."""


Tool = TypeVar("Tool", bound=Settings)


def split_off(values: Mapping[str, Any], tool: type[Tool]) -> tuple[Tool, dict[str, Any]]:
    """A script's own settings, checked, and the rest, which is a run's.

    Raises:
        SettingError: one of the script's own settings is not allowed.
    """
    own = {name: value for name, value in values.items() if name in tool.model_fields}
    rest = {name: value for name, value in values.items() if name not in own}
    return check(own, tool), rest


def check(values: Mapping[str, Any], tool: type[Tool]) -> Tool:
    """The settings of a script that has no others.

    Raises:
        SettingError: one of them is not allowed.
    """
    try:
        return tool.model_validate(values)
    except ValidationError as error:
        raise SettingError(explain(error, tool)) from None
