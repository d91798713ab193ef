"""The command line against a real server: a job's whole life as a user types it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headframe.client import Client

WAIT_S = 60


class Cloud:
    """A server on a data folder of its own, and the command line logged in to it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = root / "data"
        self.port = "0"
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("HEADFRAME_")},
            "XDG_CONFIG_HOME": str(root / "config"),
            "PYTHONWARNINGS": "error",
        }
        self.server: subprocess.Popen[str] | None = None

    def start(self) -> str:
        """Start the server; returns what it says until it serves (with the key, the first time)."""
        words = ["serve", "--data", str(self.data), "--port", self.port, "--fake-gpus", "H100:2"]
        with (self.root / "serve.log").open("w") as log:
            self.server = subprocess.Popen([*_HEADFRAME, *words], env=self.env, stdout=log, stderr=log, text=True)

        def said() -> str:
            text = (self.root / "serve.log").read_text()
            assert self.server is not None
            assert self.server.poll() is None, text
            return text if "serves at" in text and ("key" in text or self.port != "0") else ""

        text = until(said)
        url = json.loads((self.data / "server.json").read_text())["url"]
        self.port = url.rpartition(":")[2]
        return text

    def kill(self) -> None:
        assert self.server is not None
        self.server.send_signal(signal.SIGKILL)
        self.server.wait(WAIT_S)

    def stop(self) -> None:
        if self.server is not None and self.server.poll() is None:
            self.server.terminate()
            self.server.wait(WAIT_S)
        for place in Path("/proc").glob("[0-9]*/cmdline"):  # the agent outlives the server, but not the test
            with contextlib.suppress(OSError):
                words = place.read_text().split("\0")
                if "headframe.engines.agent" in words and str(self.data) in words:
                    os.kill(int(place.parent.name), signal.SIGKILL)

    def run(self, *words: str, code: int | None = 0, folder: Path | None = None, **more: Any) -> Any:
        done = subprocess.run(
            [*_HEADFRAME, *words],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            cwd=folder or self.root,
            **more,
        )
        assert code is None or words[0] == "doctor" or done.returncode == code, (words, done.stdout, done.stderr)
        return done

    def json(self, *words: str) -> Any:
        return json.loads(self.run(*words, "--json").stdout)


_HEADFRAME = [sys.executable, "-m", "headframe.cli.main"]


def until(look: Callable[[], Any]) -> Any:
    """What `look` gives once it is something; fails when that takes too long."""
    deadline = time.monotonic() + WAIT_S
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    made = Cloud(tmp_path_factory.mktemp("cloud"))
    try:
        text = made.start()
        key = next(word for word in text.split() if word.startswith("hf_"))
        made.run("login", "--url", f"http://127.0.0.1:{made.port}", input=f"{key}\n")
        yield made
    finally:
        for row in json.loads(made.run("jobs", "--json", "--state", "running", code=None).stdout or "[]"):
            made.run("stop", row["id"], "--grace", "1s", code=None)
            made.run("wait", row["id"], code=None)
        made.stop()


def test_a_command_is_submitted_followed_and_ends_with_its_own_exit_code(cloud: Cloud) -> None:
    done = cloud.run("submit", "--name", "hello", "--follow", "--", "echo out; echo err >&2; exit 7", code=7)
    assert done.stdout == "out\n"
    assert "err\n" in done.stderr
    assert cloud.run("wait", "hello", code=7).stdout.endswith("(exit code 7, error).\n")
    shown = cloud.run("show", "hello").stdout
    for text in ("job_submitted", "exit code 7", "Cost", "Attempts"):
        assert text in shown


def test_a_folder_goes_up_and_outputs_come_down(cloud: Cloud, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        "import json, os, pathlib\n"
        "out = pathlib.Path(os.environ['HEADFRAME_OUTPUTS'])\n"
        "(out / 'model').mkdir()\n"
        "(out / 'model' / 'weights.txt').write_text(open('data.txt').read() + os.environ['TOKEN'])\n"
        "(out / 'metrics.jsonl').write_text(''.join(json.dumps({'step': n, 'loss': 1 / n}) + '\\n' for n in (1, 2)))\n"
        "print(sorted(path.name for path in pathlib.Path('.').iterdir()))\n"
    )
    (tmp_path / "data.txt").write_text("data ")
    (tmp_path / "secret.log").write_text("not for the cloud")
    (tmp_path / ".gitignore").write_text("*.log\n")
    (tmp_path / "job.yaml").write_text("name: folder\nfiles: .\nenv: {TOKEN: null}\nrun: python3 train.py\n")
    assert "job.yaml:3: env.TOKEN must be given" in cloud.run("submit", "job.yaml", code=2, folder=tmp_path).stderr
    done = cloud.run("submit", "job.yaml", "-e", "TOKEN=t0k", "--follow", folder=tmp_path)
    assert "train.py" in done.stdout
    assert "secret.log" not in done.stdout
    names = cloud.run("outputs", "folder", "-q").stdout.split()
    assert any(name.endswith("model/weights.txt") for name in names)
    cloud.run("outputs", "folder", "--download", "results", folder=tmp_path)
    found = list((tmp_path / "results").rglob("weights.txt"))
    assert [place.read_text() for place in found] == ["data t0k"]
    assert cloud.json("metrics", "--lines", "folder")[-1] == {"step": 2, "loss": 0.5}


def test_a_followed_log_and_a_wait_outlive_the_server(cloud: Cloud, tmp_path: Path) -> None:
    said = tmp_path / "said"
    words = ["submit", "-q", "--name", "long", "--", "for n in $(seq 1 60); do echo line $n; sleep 0.1; done"]
    job = cloud.run(*words).stdout.strip()
    with said.open("w") as file:
        follow = subprocess.Popen([*_HEADFRAME, "logs", "-f", job], env=cloud.env, stdout=file, text=True)
    wait = subprocess.Popen([*_HEADFRAME, "wait", job], env=cloud.env, stdout=subprocess.PIPE, text=True)
    until(lambda: "line 5\n" in said.read_text())
    with Client(f"http://127.0.0.1:{cloud.port}", "") as client:
        until(lambda: "headframe_streams_open 2" in client.get("/metrics"))
    cloud.kill()
    cloud.start()
    assert follow.wait(WAIT_S) == 0
    assert "succeeded" in wait.communicate(timeout=WAIT_S)[0]
    assert wait.returncode == 0
    assert said.read_text() == "".join(f"line {n}\n" for n in range(1, 61))
    assert cloud.json("show", job)["job"]["attempt"] == 1


def test_stop_and_quotas_and_what_cannot_be(cloud: Cloud) -> None:
    job = cloud.run("submit", "-q", "--gpu", "H100:2", "--", "sleep 300").stdout.strip()
    until(lambda: cloud.json("show", job)["job"]["state"] == "running")
    waiting = cloud.run("submit", "-q", "--name", "waits", "--gpu", "H100:1", "--", "true").stdout.strip()
    assert "GPUs are free" in until(lambda: cloud.run("show", waiting).stdout.partition("Why it waits")[2])
    assert "be refused" in cloud.run("plan", "--gpu", "H100:3", "--", "true", code=5).stdout
    assert "Next:" in cloud.run("submit", "--gpu", "H100:3", "--", "true", code=5).stderr
    cloud.run("stop", job, "--grace", "1s")
    assert cloud.run("wait", job, code=None).returncode != 0
    cloud.run("wait", waiting)
    assert cloud.json("show", job)["job"]["state"] == "stopped"
    assert cloud.run("show", "nothing-like-it", code=3).stderr.startswith("Error: ")


def test_tenants_keys_and_money(cloud: Cloud, tmp_path: Path) -> None:
    cloud.run("projects", "create", "research")
    assert "research" in cloud.run("projects").stdout
    cloud.run("secrets", "set", "hf-token", "--project", "research", input="s3cret")
    assert cloud.run("secrets", "--project", "research", "-q").stdout == "hf-token\n"
    cloud.run("quotas", "set", "--project", "research", "--gpu", "0.5", "--jobs", "3")
    assert "0.5" in cloud.run("quotas").stdout
    assert cloud.run("submit", "--project", "research", "--gpu", "1", "--", "true", code=None).returncode in (0, 5)
    cloud.run("budget", "set", "100 USD", "--project", "research")
    assert "100.00 USD" in cloud.run("budget").stdout
    member = cloud.run("members", "add", "eve@acme.example", "--role", "viewer", "-q").stdout.strip()
    key = cloud.run("keys", "create", "laptop", "--member", member).stdout.strip()
    cloud.run("login", "--profile", "eve", "--url", f"http://127.0.0.1:{cloud.port}", input=f"{key}\n")
    assert "viewer" in cloud.run("whoami", "--profile", "eve").stdout
    assert "Error: " in cloud.run("submit", "--profile", "eve", "--", "true", code=4).stderr
    (tmp_path / "wiki").mkdir()
    (tmp_path / "wiki" / "a.txt").write_text("a")
    assert cloud.run("datasets", "push", "wiki", str(tmp_path / "wiki")).stdout.startswith("wiki@1: 1 file,")
    lists = ["prices", "usage", "credits", "invoices", "nodes", "gpus", "keys", "clusters", "orgs", "members", "events"]
    words = [[name, *more] for name in [*lists, "jobs", "datasets"] for more in ([], ["--json"])]
    code = (
        f"from headframe.cli.main import main; print([main(words) for words in {[*words, ['invoices', '--draft']]!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=cloud.env, capture_output=True, text=True, timeout=WAIT_S)
    assert done.stdout.splitlines()[-1] == str([0] * (len(words) + 1)), done.stderr
    node = cloud.run("nodes", "-q").stdout.strip()
    assert "draining" in cloud.run("drain", node, "--reason", "new fans").stdout
    assert "ready" in cloud.run("resume", node).stdout


def test_a_reader_that_goes_away_is_no_error(cloud: Cloud) -> None:
    words = " ".join([*_HEADFRAME, "jobs", "--json", "--all"])
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {words} | head -c 1; exit 0"],
        env=cloud.env,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert done.stdout == "["
    assert done.stderr == ""


def test_doctor_finds_the_server(cloud: Cloud) -> None:
    found = {each["name"]: each["state"] for each in json.loads(cloud.run("doctor", "--json").stdout)}
    assert found["server"] == "ok"
    assert found["key"] == "ok"
