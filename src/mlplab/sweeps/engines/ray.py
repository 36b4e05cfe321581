"""Ray: a cluster on this machine that starts with the sweep and ends with it, or one that is running already."""

from __future__ import annotations

import os
import signal
import socket
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Any

from mlplab.config.base import SettingError
from mlplab.config.launching import Launching
from mlplab.sweeps.engines import SECONDS_TO_LEAVE, Task, WorkerDied, on_this_machine
from mlplab.sweeps.engines.guard import Guard
from mlplab.sweeps.engines.worker import Place, call, pass_on_path

STORE_BYTES = 100 << 20
"""Ray's memory for objects: configs and results are small."""


class Ray:
    """Tasks of a Ray cluster, through Ray's own interface."""

    def __init__(self, settings: Launching) -> None:
        self.settings = settings
        self.workers, self.threads = on_this_machine(settings)
        self.connected = False
        self.guard: Guard | None = None
        """Of a cluster of ours: after a kill Ray's own helpers look for their cluster for half a minute."""

    def start(self) -> None:
        """Start the cluster of this machine or reach the one of `ray_address`.

        Raises:
            SettingError: there is none.
        """
        if self.connected:
            return
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is sent anywhere
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or Ray warns of a change to come
        pass_on_path()
        import ray

        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        address = self.settings.ray_address
        before = signal.getsignal(signal.SIGTERM)
        try:
            if address is None:
                cpus = self.workers * self.threads
                own: dict[str, Any] = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": STORE_BYTES}
                self.guard = Guard()
                with self.guard:
                    ray.init(address="local", **own, **quiet)  # not one that somebody has running here
            else:
                _knock(address)
                ray.init(address=address, **quiet)
        except (ConnectionError, OSError, RuntimeError, ValueError) as error:
            why = str(error).strip().splitlines()[0]
            raise SettingError(
                f"hydra.launcher.ray_address={address}: no Ray cluster is reached there ({why})"
            ) from None
        finally:
            signal.signal(signal.SIGTERM, before)  # Ray sets its own
        self.connected = True
        if address is not None:
            self.threads = 1 if self.settings.cpus_per_task == "auto" else self.settings.cpus_per_task
            if self.settings.workers == "auto":
                self.workers = max(1, int(ray.cluster_resources().get("CPU", 1)) // self.threads)

    def run(self, tasks: Sequence[Task], folder: Path) -> Generator[tuple[int, Any], None, None]:
        """See Engine."""
        import ray

        self.start()
        place, gpus = Place.here(), self.settings.gpus_per_task
        remote = ray.remote(num_cpus=self.threads, num_gpus=gpus, max_retries=0)(call)
        waiting = deque(enumerate(tasks))
        running: dict[Future[Any], tuple[int, Any]] = {}  # futures: ray.wait does not hear Ctrl-C
        try:
            while waiting or running:
                while waiting and len(running) < self.workers:
                    number, task = waiting.popleft()
                    reference = remote.remote(place, task)
                    running[reference.future()] = number, reference
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    number, _ = running.pop(future)
                    try:
                        outcome = future.result()
                    except ray.exceptions.RayTaskError as error:
                        outcome = RuntimeError(str(error))
                    except ray.exceptions.RayError as error:
                        said = str(error).strip().splitlines()[0]
                        outcome = WorkerDied(f"the process that ran it ended ({type(error).__name__}: {said})")
                    yield number, outcome
        finally:
            for force in (False, True):  # as Ctrl-C, with time to write the state of their training; then SIGKILL
                for _, reference in running.values():
                    ray.cancel(reference, force=force)
                wait(running, timeout=0 if force else SECONDS_TO_LEAVE)

    def close(self) -> None:
        """End the cluster, if it is ours, or leave it."""
        if self.connected:
            import ray

            ray.shutdown()
            self.connected = False
        if self.guard is not None:
            self.guard.close()
            self.guard = None


def _knock(address: str) -> None:
    """See that somebody listens: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), timeout=5).close()
