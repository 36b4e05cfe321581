"""Whether settings fit the data, once the data is known and before anything is written."""

from __future__ import annotations

from mlplab.config import Config, SettingError, check_loss
from mlplab.data.prepared import Prepared


def check_fits(config: Config, prepared: Prepared) -> None:
    """Refuse settings that the prepared data contradict.

    Raises:
        SettingError: the loss does not fit the number of classes, or early stopping has nothing to watch.
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
