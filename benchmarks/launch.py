# python benchmarks/launch.py --json
"""Launch latency, throughput and size of one server on this machine, beside the bare sandbox and beside Slurm.

Measured: from the HTTP submit to the first line of the job's log as a follower sees it; 1,000 trivial jobs submitted at
once until the last one is charged; lists while 10,000 are submitted; the idle server; the command `headframe jobs`.
In the same run: the bare limit (fork and exec of the same command in the same sandbox) and, where `sbatch` is
installed, a throwaway Slurm. Everything listens on loopback and ends with the run.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parent))
import slurm_lab

HEADFRAME = str(Path(sys.executable).with_name("headframe"))
TRIVIAL = {"run": "echo hi", "resources": {"cpu": 0.05, "memory": "32MB"}}
CLIENTS = 8


class Server:
    """A real server on a data folder of its own."""

    def __init__(self, data: Path) -> None:
        self.process = subprocess.Popen(
            [HEADFRAME, "serve", "--data", str(data), "--port", "0"], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        text = ""
        while "Sign in with" not in text:
            line = self.process.stdout.readline()
            if not line:
                raise SystemExit(f"the server did not start: {text}")
            text += line
        self.address = urlsplit(re.search(r"http://\S+", text)[0]).netloc  # type: ignore[index]
        self.key = re.search(r"hf_\S+", text)[0]  # type: ignore[index]
        self.data = data

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.address, timeout=120)

    def call(self, connection: http.client.HTTPConnection, method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status >= 300:
            raise SystemExit(f"{method} {path}: {answer.status} {content[:300]!r}")
        return json.loads(content)

    def rss_mib(self) -> float:
        return _status_kib(self.process.pid, "VmRSS") / 1024

    def peak_rss_mib(self) -> float:
        return _status_kib(self.process.pid, "VmHWM") / 1024

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if str(self.data).encode() in (entry / "cmdline").read_bytes():
                        os.kill(int(entry.name), signal.SIGKILL)


def _status_kib(pid: int, field: str) -> int:
    return int(re.search(rf"{field}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])  # type: ignore[index]


def percentile(values: list[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def first_lines(server: Server, count: int) -> list[float]:
    """Milliseconds from submit to the first line of the job, as a follower of its log sees it."""
    times = []
    connection = server.connect()
    for _ in range(count):
        began = time.perf_counter()
        job = server.call(connection, "POST", "/v1/jobs", {"spec": TRIVIAL})
        for line in _follow(server, connection, job["id"]):
            if b'"hi\\n"' in line:
                times.append((time.perf_counter() - began) * 1000)
                break
        connection.close()  # ends the stream
        time.sleep(0.2)  # let the machine be idle again: what follows the first line belongs to no submit
    return times


def _follow(server: Server, connection: http.client.HTTPConnection, job_id: str) -> Iterator[bytes]:
    connection.request("GET", f"/v1/jobs/{job_id}/log/follow", headers={"Authorization": f"Bearer {server.key}"})
    answer = connection.getresponse()
    while line := answer.readline():
        yield line


def bare(count: int) -> list[float]:
    """Milliseconds from fork to first line of the same command in the same sandbox, with nothing of ours around it."""
    from headframe.engines import sandbox, sandbox_etc

    box = sandbox.probe()
    if box.kind == "none":
        return []
    folder = tempfile.mkdtemp()
    etc = sandbox_etc.Etc(Path(folder) / "etc").of(None if box.kind == "user" else sandbox.task_uid(0))
    view = sandbox.View(sandbox.task_uid(0), folder, ((folder, folder),), ((str(etc), "/etc"),))
    command = [box.bwrap, *sandbox.arguments_of(box, view), "--"]
    command += sandbox.command_of(box, view, ["/bin/sh", "-c", "echo hi"])
    times = []
    for _ in range(count):
        began = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE) as task:
            assert task.stdout is not None
            task.stdout.readline()
            times.append((time.perf_counter() - began) * 1000)
        time.sleep(0.02)
    shutil.rmtree(folder)
    return times


def submit_all(server: Server, count: int) -> None:
    """Submit `count` jobs, one request each, from some clients at once."""

    def client(share: int) -> None:
        connection = server.connect()
        for _ in range(share):
            server.call(connection, "POST", "/v1/jobs", {"spec": TRIVIAL})

    shares = [count // CLIENTS + (number < count % CLIENTS) for number in range(CLIENTS)]
    threads = [threading.Thread(target=client, args=(share,)) for share in shares]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def wait_charged(server: Server, total: int) -> None:
    """Until `total` jobs have ended and each has been charged."""
    deadline = time.monotonic() + 300
    while _charged_jobs(server) < total:
        if time.monotonic() > deadline:
            raise SystemExit(f"{_charged_jobs(server)} of {total} jobs were charged in time")
        time.sleep(0.05)


def _charged_jobs(server: Server) -> int:
    """Read from the store's file, so that watching costs the server nothing."""
    with contextlib.closing(sqlite3.connect(f"file:{server.data / 'headframe.db'}?mode=ro", uri=True)) as store:
        return int(store.execute("SELECT count(DISTINCT job_id) FROM charges").fetchone()[0])


def burst(server: Server, count: int, before: int) -> float:
    """Jobs a second, from the first submit until the last of `count` is charged."""
    began = time.perf_counter()
    submit_all(server, count)
    wait_charged(server, before + count)
    return count / (time.perf_counter() - began)


def lists_during(server: Server, count: int) -> list[float]:
    """Milliseconds that GET /v1/jobs takes while `count` jobs are submitted and work is done on them."""
    times: list[float] = []
    done = threading.Event()

    def look() -> None:
        connection = server.connect()
        while not done.is_set():
            began = time.perf_counter()
            server.call(connection, "GET", "/v1/jobs?limit=100")
            times.append((time.perf_counter() - began) * 1000)
            done.wait(0.1)

    looker = threading.Thread(target=look)
    looker.start()
    submit_all(server, count)
    time.sleep(3)
    done.set()
    looker.join()
    return times


def command_line(server: Server, count: int) -> list[float]:
    """Milliseconds that the command `headframe jobs` takes, start to end."""
    environment = os.environ | {"HEADFRAME_URL": f"http://{server.address}", "HEADFRAME_KEY": server.key}
    times = []
    for _ in range(count):
        began = time.perf_counter()
        subprocess.run([HEADFRAME, "jobs"], env=environment, stdout=subprocess.DEVNULL, check=True)
        times.append((time.perf_counter() - began) * 1000)
    return times


def idle(server: Server, seconds: float) -> float:
    """Percent of one core that the server takes while nothing happens."""
    before = server.cpu_seconds()
    time.sleep(seconds)
    return (server.cpu_seconds() - before) / seconds * 100


def stop_everything(server: Server) -> None:
    """Stop the jobs that are left, so that the command line is measured with 10,000 jobs and a quiet machine."""
    connection = server.connect()
    while jobs := server.call(connection, "GET", "/v1/jobs?limit=500&state=queued")["items"]:
        for job in jobs:
            server.call(connection, "POST", f"/v1/jobs/{job['id']}/stop", {})


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    folder = Path(tempfile.mkdtemp(prefix="launch-"))
    server = Server(folder / "data")
    try:
        first_lines(server, 5)
        figures["idle_cpu_percent"] = round(idle(server, arguments.idle_seconds), 2)
        figures["idle_rss_mib"] = round(server.rss_mib(), 1)
        ours = first_lines(server, arguments.launches)
        limit = bare(arguments.launches)
        slurm = slurm_lab.measure(arguments.launches // 5, arguments.slurm_jobs) if not arguments.no_slurm else None
        figures["submit_to_first_line_ms"] = {
            "p50": round(percentile(ours, 0.5), 1),
            "p99": round(percentile(ours, 0.99), 1),
            "bare_p50": round(percentile(limit, 0.5), 1) if limit else None,
            "slurm_p50": round(slurm["p50_ms"], 1) if slurm else None,
        }
        before = _charged_jobs(server)
        figures["jobs_per_second"] = round(burst(server, arguments.jobs, before), 1)
        figures["jobs_per_second_slurm"] = round(slurm["jobs_per_second"], 1) if slurm else None
        lists = lists_during(server, arguments.many)
        figures["list_ms_during_10000"] = round(max(lists), 1)  # the slowest of them all
        figures["list_p50_ms_during_10000"] = round(percentile(lists, 0.5), 1)
        figures["server_rss_mib"] = round(server.peak_rss_mib(), 1)
        stop_everything(server)
        time.sleep(2)
        figures["cli_jobs_10000_ms"] = round(percentile(command_line(server, 9), 0.5), 1)
        figures["load_average"] = os.getloadavg()[0]
    finally:
        server.close()
        shutil.rmtree(folder, ignore_errors=True)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--launches", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--many", type=int, default=10_000)
    parser.add_argument("--slurm-jobs", type=int, default=200)
    parser.add_argument("--idle-seconds", type=float, default=20)
    parser.add_argument("--no-slurm", action="store_true")
    arguments = parser.parse_args()
    figures = measure(arguments)
    if arguments.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:28} {value}")


if __name__ == "__main__":
    main()
