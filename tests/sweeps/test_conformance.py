"""hydra/launcher=fused and its like are launchers like any other: Hydra's own suites for launchers pass with each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.test_utils.launcher_common_tests import BatchedSweeperTestSuite, IntegrationTestSuite, LauncherTestSuite
from hydra.version import VersionBase

from hydra_plugins.mlplab_launcher.fused import FusedLauncher
from mlplab.sweeps.engines import close_all

# the suites' programs name no version of Hydra's behaviour
ENGINES = ("joblib", "ray", "submitit_local")
pytestmark = pytest.mark.filterwarnings(r"ignore:\s*Future Hydra versions will no longer change:UserWarning")


@pytest.fixture(autouse=True)
def hydra_as_in_a_new_process() -> None:
    """The suites' programs choose their own version of Hydra's behaviour."""
    VersionBase.set_instance(VersionBase())


def test_hydra_finds_the_launcher() -> None:
    assert FusedLauncher.__name__ in [found.__name__ for found in Plugins.instance().discover(Launcher)]


@pytest.mark.parametrize(("launcher_name", "overrides"), [("fused", [])])
class TestFusedLauncher(LauncherTestSuite):
    """Sweeps of a program without a batch function run job by job."""


@pytest.mark.parametrize(("launcher_name", "overrides"), [(name, []) for name in ENGINES])
@pytest.mark.slow
class TestEngines(LauncherTestSuite):
    """Sweeps of a program without a batch function whose jobs are tasks of an engine."""

    @pytest.fixture(autouse=True)
    def closed(self) -> Iterator[None]:
        """Engines end with the process; this one goes on, and would be ended by a Ray whose cluster is gone."""
        yield
        close_all()


@pytest.mark.parametrize(
    ("launcher_name", "overrides"), [("fused", ["hydra/sweeper=basic", "hydra.sweeper.max_batch_size=2"])]
)
class TestFusedLauncherInBatches(BatchedSweeperTestSuite):
    """Sweepers that send their jobs in batches."""


@pytest.mark.parametrize(
    ("task_launcher_cfg", "extra_flags"),
    [
        ({}, ["-m", "hydra/launcher=fused"]),
        ({"defaults": [{"override hydra/launcher": "fused"}]}, ["-m"]),
    ],
    ids=["chosen on the command line", "chosen in the config"],
)
@pytest.mark.slow
class TestFusedLauncherIntegration(IntegrationTestSuite):
    """Programs in processes of their own, with hydra.job.chdir as well."""


@pytest.mark.parametrize(
    ("task_launcher_cfg", "extra_flags"), [({}, ["-m", f"hydra/launcher={name}"]) for name in ENGINES], ids=ENGINES
)
@pytest.mark.slow
class TestEnginesIntegration(IntegrationTestSuite):
    """The same with each engine."""
