"""Whether settings fit the data, once the data is known and before anything is written."""

from __future__ import annotations

from mlplab.config import Config, SettingError, check_loss
from mlplab.config.portfolio import TablePortfolio
from mlplab.data.prepared import Prepared


def check_fits(config: Config, prepared: Prepared) -> None:
    """Refuse settings that the prepared data contradict.

    Raises:
        SettingError: the loss does not fit the number of classes, early stopping has nothing to watch, an embedding no
            numbers, a portfolio's folds or settings too few rows.
    """
    try:
        check_loss(config, prepared.n_classes)
    except ValueError as error:
        raise SettingError(str(error)) from None
    if config.regularization.early_stopping and not len(prepared.parts["val"]):
        raise SettingError(
            "regularization=early_stopping watches the validation part, and data.split leaves none; "
            "use data.split=[0.6,0.2,0.2] or leave it out"
        )
    if config.embedding.name != "none" and not prepared.n_numbers:
        raise SettingError(
            f"embedding={config.embedding.name} is for numeric columns, and the data have none; use embedding=none"
        )
    rows, size = len(prepared.parts["train"]), config.data.batch_size
    if isinstance(portfolio := config.portfolio, TablePortfolio):
        if rows < 2 * portfolio.folds:
            raise SettingError(f"portfolio.folds={portfolio.folds} is too many for {rows} rows; use fewer")
        if not portfolio.for_rows(rows):
            raise SettingError(f"portfolio.settings: least_rows is more than the {rows} that train, for all of them")
    if config.regularization.batch_norm and not config.trainer.overfit:
        whole = rows if size == "full" else size
        limit = config.trainer.max_batches
        if rows % whole == 1 and (limit is None or limit * whole >= rows):
            raise SettingError(
                f"regularization=batch_norm needs several rows in a batch, but {rows} training rows in batches of "
                f"data.batch_size={size} leave one row for the last; use another data.batch_size"
            )
