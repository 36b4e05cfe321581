"""Settings of `data=table`: a file of your own, CSV, TSV or Parquet."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from mlplab.config.splitting import DataSettings

Name = str | int


class TableFile(DataSettings):
    """Your own table: kinds of columns recognised, gaps filled, categories encoded, all from the training rows alone.

    With `test_path` that file is the test part, whole; `split`'s first two shares then divide the rows of `path`.
    """

    name: Literal["table"]
    path: str
    """The file: .csv, .tsv or .txt, also as .gz, or .parquet."""
    test_path: str | None
    """File of the official test part, with the same columns; null splits the test part off `path`."""
    target: Name
    """Column that holds the classes: its name, or its position counted from 0, -1 being the last."""
    header: bool
    """The first line names the columns; without it they are c0, c1 and so on."""
    separator: Annotated[str, Field(min_length=1)]
    """Between two fields: `auto`, `tab`, or one character."""
    drop: list[Name]
    """Columns to leave out, by name or position."""
    categorical: Literal["auto"] | list[Name]
    """Columns whose values are names of categories; auto takes those that hold text, a list adds number codes to them
    and keeps columns that would pass for identifiers."""
    missing: list[str]
    """What stands for a missing value, after the white space around it is taken away."""
    label_map: list[Annotated[list[str], Field(min_length=2, max_length=2)]]
    """Pairs of a label as it is in a file and the class that it means, where a class is written in several ways."""
    encode: Literal["onehot", "embedding"]
    """Categories as one column of 0 and 1 for each value, or as learned vectors inside the network."""
    embedding_width: PositiveInt
    """Numbers in the learned vector of a category."""
    max_categories: PositiveInt
    """A text column with more different values is an identifier, and so is one where more than half are different;
    identifiers are left out."""

    @model_validator(mode="after")
    def _table(self) -> TableFile:
        if self.separator not in ("auto", "tab") and len(self.separator) > 1:
            raise ValueError(f"data.separator='{self.separator}' must be auto, tab or one character")
        if self.test_path is not None and self.folds is not None:
            raise ValueError(
                f"data.folds={self.folds} does not fit data.test_path, whose rows are the test part; use "
                "data.folds=null data.fold=null, or leave data.test_path out"
            )
        return self
