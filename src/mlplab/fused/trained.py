"""What became of one job of a group."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from mlplab.fused.plan import Job
from mlplab.training import schedulers
from mlplab.training.evaluation import Scores
from mlplab.training.history import Diverged, Row
from mlplab.training.network import initial_network
from mlplab.training.selection import Selection


@dataclass
class Trained:
    """What became of one job."""

    job: Job
    selection: Selection
    plateau: schedulers.Plateau
    history: list[Row] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    last: dict[str, Tensor] = field(default_factory=dict)
    optimizer: list[dict[str, Tensor]] = field(default_factory=list)
    scores: dict[str, Scores] = field(default_factory=dict)
    diverged: Diverged | None = None
    temperature: float | None = None
    seconds: float = 0.0
    rungs: dict[int, float] = field(default_factory=dict)
    pruned: bool = False

    def __post_init__(self) -> None:
        self.schedule = self.job.config.scheduler.model_dump_json()

    def network(self) -> nn.Module:
        """The job's network alone, with the weights of its best epoch, in evaluation mode."""
        network = initial_network(self.job.config, self.job.prepared)
        network.load_state_dict(self.best)
        return network.eval()
