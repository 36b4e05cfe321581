"""Works in two halves come out as they would one after the other, whatever happens to the fork."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from scripts.command import ROOT

from mlplab.sweeps import halves
from mlplab.sweeps.halves import in_halves

ALONE = """
import os
from mlplab.sweeps.halves import in_halves
found = in_halves(lambda n: (n * n, os.getpid()), range(40))
assert [square for square, _ in found] == [n * n for n in range(40)]
print(os.getpid(), *(process for _, process in found))
"""


def test_a_fork_does_the_later_half() -> None:
    """In a process of its own: earlier tests may have left a thread in this one, beside which nothing is forked."""
    done = subprocess.run(
        [sys.executable, "-c", ALONE],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    here, *by = done.stdout.split()
    there = by[-1]
    assert by == [here] * 20 + [there] * 20
    if len(os.sched_getaffinity(0)) > 1:
        assert there != here


def test_few_works_and_those_beside_a_thread_stay_here() -> None:
    assert set(in_halves(lambda n: os.getpid(), range(31))) == {os.getpid()}
    over = threading.Event()
    beside = threading.Thread(target=over.wait)
    beside.start()
    try:
        assert set(in_halves(lambda n: os.getpid(), range(40))) == {os.getpid()}
    finally:
        over.set()
        beside.join()


@pytest.mark.parametrize("how", ["killed", "raises", "cannot be handed over"])
def test_what_the_fork_does_not_deliver_is_done_here(how: str) -> None:
    here = os.getpid()

    def work(n: int) -> object:
        if os.getpid() == here:
            return n
        if how == "killed" and n == 30:
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "raises" and n == 30:
            raise ValueError("no")
        return (lambda: n) if how == "cannot be handed over" else n

    assert in_halves(work, range(40)) == list(range(40))


class Stays(Exception):
    """Cannot be made again from its message alone, as pickle tries to."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"{number}: {why}")


def test_an_error_that_is_an_outcome_comes_over_by_its_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halves, "_may_fork", lambda: True)
    found = in_halves(lambda n: Stays(n, "full") if n == 30 else n, range(40))
    assert "30: full" in str(found[30])
    assert found[:30] + found[31:] == [n for n in range(40) if n != 30]


def test_an_error_here_ends_the_fork(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halves, "_may_fork", lambda: True)  # earlier tests may have left a thread
    here = os.getpid()

    def work(n: int) -> None:
        if os.getpid() != here:
            (tmp_path / "new").write_text(str(os.getpid()))
            (tmp_path / "new").rename(tmp_path / "fork")
            time.sleep(60)
        while not (tmp_path / "fork").exists():
            time.sleep(0.01)
        raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        in_halves(work, range(40))
    assert time.monotonic() - began < 30
    with pytest.raises(ChildProcessError):  # nobody left to wait for
        os.waitpid(int((tmp_path / "fork").read_text()), os.WNOHANG)


def test_a_fork_whose_process_was_killed_ends_after_its_item(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        here = os.getpid()

        def work(n: int) -> None:
            if os.getpid() != here:
                (tmp_path / str(n)).write_text(str(os.getpid()))
                time.sleep(0.2)
                return
            while not (tmp_path / "20").exists():
                time.sleep(0.01)
            os.kill(here, signal.SIGKILL)

        try:
            in_halves(work, range(40))
        finally:
            os._exit(1)
    os.waitpid(child, 0)
    fork = int((tmp_path / "20").read_text())
    end = time.monotonic() + 20
    while Path(f"/proc/{fork}").exists() and Path(f"/proc/{fork}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < end
        time.sleep(0.05)
    assert not (tmp_path / "39").exists()
