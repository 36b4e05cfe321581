"""What a killed process leaves behind is ended by its guard, and nothing else is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlplab.sweeps.engines import guard

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found in /proc")

OWNER = """
import subprocess, sys, time
from mlplab.sweeps.engines.guard import Guard

child = "import subprocess, time; print(subprocess.Popen(['sleep', '100'], env={}).pid, flush=True); time.sleep(100)"
guard = Guard()
with guard:
    helper = subprocess.Popen([sys.executable, "-c", child], start_new_session=True, stdout=subprocess.PIPE, text=True)
    of_helper = helper.stdout.readline().strip()
other = subprocess.Popen(["sleep", "100"])
print(helper.pid, of_helper, other.pid, flush=True)
time.sleep(1)
if sys.argv[1] == "close":
    guard.close()
    print(helper.wait(5), other.poll(), flush=True)
time.sleep(100)
"""


def alive(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("how", ["kill", "close"])
def test_helpers_end_with_their_owner_or_when_told(how: str) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, how], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    helper, of_helper, other = map(int, owner.stdout.readline().split())
    try:
        assert all(map(alive, (helper, of_helper, other)))
        if how == "kill":
            time.sleep(1)
            owner.kill()
        else:
            assert owner.stdout.readline().split() == ["-9", "None"]
        end = time.monotonic() + 5
        while alive(helper) or alive(of_helper):  # the latter has no word in its environment
            assert time.monotonic() < end
            time.sleep(0.05)
        assert alive(other)
    finally:
        os.kill(other, signal.SIGKILL)
        owner.kill()
        owner.wait()


def test_a_word_nobody_has_finds_nobody() -> None:
    assert guard.family("nobody") == set()
