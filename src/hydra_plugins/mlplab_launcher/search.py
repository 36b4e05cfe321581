"""hydra/sweeper=optuna: a search over intervals, choices and ranges by Optuna, whole batches at a time.

Like every plugin module it is executed at each start of any Hydra program: no heavy import, no future annotations.
"""

from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class OptunaSweeperConf:
    """Settings of hydra/sweeper=optuna."""

    _target_: str = "hydra_plugins.mlplab_launcher.search.OptunaSweeper"
    n_trials: int = 50
    batch_size: int = 10
    sampler: str = "tpe"
    direction: str | None = None
    seed: int | None = None
    storage: str | None = None
    study_name: str = "study"


ConfigStore.instance().store(group="hydra/sweeper", name="optuna", node=OptunaSweeperConf, provider="mlplab")


class OptunaSweeper(Sweeper):
    """Asks Optuna for a batch of settings, has the launcher run it, and tells what came of each.

    Args:
        n_trials: of the study in all: one that is gone on with runs only what is missing.
        batch_size: jobs handed to the launcher at once; the fused launcher trains them together.
        sampler: tpe, random, cmaes, gp or grid (which needs choices and ranges only).
        direction: minimize or maximize; None takes that of the program's setting `objective`.
        seed: of the sampler; None draws anew each time.
        storage: a database URL of Optuna's, which several machines may share; None is a file in the sweep's folder.
        study_name: name of the study in the storage.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.config: DictConfig | None = None
        self.launcher: Any = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        from hydra_plugins.mlplab_launcher._search import search

        return search(self, arguments)
