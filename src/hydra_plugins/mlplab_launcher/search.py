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
    pruner: str | None = None
    reduction_factor: int = 2
    min_epochs: int | None = None


ConfigStore.instance().store(group="hydra/sweeper", name="optuna", node=OptunaSweeperConf, provider="mlplab")


class OptunaSweeper(Sweeper):
    """Asks Optuna for a batch of settings, has the launcher run it, and tells what came of each.

    Args:
        n_trials: of the study in all: one that is gone on with runs only what is missing.
        batch_size: jobs handed to the launcher at once; the fused launcher trains them together.
        sampler: tpe, random, cmaes, gp or grid (which needs choices and ranges only).
        direction: minimize or maximize; None takes those of the program's setting `objective`: losses, costs and what
            has a minus in front are to be small.
        seed: of the sampler; None draws anew each time.
        storage: a database URL of Optuna's, which several machines may share; None is a file in the sweep's folder.
        study_name: name of the study in the storage.
        pruner: halving stops the networks of a fused batch that are behind at a rung; None stops none.
        reduction_factor: halving keeps the best 1/factor of a rung, and rungs lie this factor apart.
        min_epochs: epochs before the first rung; None takes an eighth of them (1/factor^3), which makes three rungs.
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
