"""What runs beside a process does not outlive it."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

BESIDE = """
import multiprocessing, time
from concurrent.futures import ProcessPoolExecutor
from headframe.sim.children import end_with_parent
if __name__ == "__main__":
    context = multiprocessing.get_context({context!r})
    pool = ProcessPoolExecutor(2, mp_context=context, initializer=end_with_parent)
    pool.submit(abs, 1).result()
    pool.submit(time.sleep, 600)
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("context", ["spawn", "forkserver"])
def test_cases_end_when_the_command_is_killed(context: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    script = tmp_path_factory.mktemp("beside") / "beside.py"
    script.write_text(BESIDE.format(context=context))
    command = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert command.stdout is not None
    assert "ready" in command.stdout.readline()
    command.send_signal(signal.SIGKILL)
    command.communicate(timeout=30)  # returns when nobody holds its output open any more
