"""Jobs, logs, bills and requests outlive `kill -9` of any process of Headframe at any moment."""

from __future__ import annotations

import json
import random
import subprocess
import threading
import time
from collections.abc import Callable

from running import HEADFRAME, WAIT_S, Running, born, check_books, end_of, follow, log_text, numbers, until

Serve = Callable[..., Running]

COUNTER = """
n=0
while [ ! -e "$HEADFRAME_OUTPUTS/enough" ]; do
  n=$((n + 1)); echo "line $n"; sleep 0.02
done
echo "ended $n $(date +%s%N)"
exit 3
"""

CHATTER = """
import os, sys
for n in range(1, 20_001):
    sys.stdout.write(f"line {n} " + "x" * 80 + "\\n")
    sys.stdout.flush()
    if n in (4_000, 12_000):
        open(os.environ["HEADFRAME_OUTPUTS"] + f"/reached-{n}", "w").close()
"""


def test_a_job_goes_on_while_server_and_agent_are_killed_in_turn(serve: Serve) -> None:
    running = serve()
    client = running.client()
    job = client.submit({"name": "counter", "run": COUNTER, "resources": {"gpu": 1, "cpu": 0.5, "memory": "64MB"}})
    followed, follower = follow(client, job["id"])
    attempt = client.story(job["id"])["attempts"][0]
    ticks = born(attempt["pid"])
    assert ticks is not None

    def further() -> None:
        seen = len(numbers(log_text(client, job["id"])))
        until(lambda: len(numbers(log_text(client, job["id"]))) > seen + 5)

    running.kill()
    running.start()
    further()
    running.kill_agents()
    further()  # the server has started another agent, which took the job over
    running.kill_all()
    assert born(attempt["pid"]) == ticks
    running.start()
    further()
    (running.outputs(job["id"]) / "enough").touch()
    ended = end_of(client, job["id"])
    text = log_text(client, job["id"])
    story = client.story(job["id"])

    assert (ended["state"], ended["exit_code"]) == ("failed", 3)
    assert [(one["number"], one["pid"]) for one in story["attempts"]] == [(1, attempt["pid"])]
    count, end_ns = map(int, text.splitlines()[-1].split()[1:])
    assert numbers(text) == list(range(1, count + 1))
    assert abs(ended["ended_us"] - end_ns // 1000) < 1_000_000
    follower.join(WAIT_S)
    assert "".join(followed) == text
    check_books(running)


def test_what_ends_while_no_headframe_runs_ends_at_its_moment_with_its_code(serve: Serve) -> None:
    running = serve()
    client = running.client()
    run = 'touch "$HEADFRAME_OUTPUTS/here"; sleep 1; echo "ended $(date +%s%N)"; exit 42'
    job = client.submit({"run": run, "max_duration": "1m"})
    until((running.outputs(job["id"]) / "here").exists)
    running.kill_all()
    killed = time.monotonic()
    until(lambda: time.monotonic() > killed + 2.5)
    running.start()
    ended = end_of(client, job["id"])
    said_us = int(log_text(client, job["id"]).split()[-1]) // 1000
    assert (ended["exit_code"], ended["attempt"]) == (42, 1)
    assert abs(ended["ended_us"] - said_us) < 1_000_000  # it was 1.5 s before anybody could look


def test_a_log_at_full_speed_has_no_gap_and_no_double(serve: Serve) -> None:
    running = serve()
    client = running.client()
    job = client.submit({"name": "chatter", "run": f"python3 -c '{CHATTER}'"})
    for line in (4_000, 12_000):
        until((running.outputs(job["id"]) / f"reached-{line}").exists)
        running.kill_all()
        running.start()
    assert end_of(client, job["id"])["state"] == "succeeded"
    assert numbers(log_text(client, job["id"])) == list(range(1, 20_001))


def test_a_hundred_jobs_run_once_each_while_everything_is_killed_at_random(serve: Serve) -> None:
    running = serve()
    jobs: dict[int, str] = {}
    run = 'echo "$HEADFRAME_ATTEMPT" >> "$HEADFRAME_OUTPUTS/ran"'

    submitter = running.client(patience_s=60)
    submitter.whoami()

    def submit() -> None:
        for number in range(100):
            document = {"name": f"job-{number}", "run": run, "resources": {"cpu": 0.1, "memory": "32MB"}}
            jobs[number] = submitter.submit(document, idempotency_key=f"submit-{number}")["id"]
            time.sleep(0.04)

    submitting = threading.Thread(target=submit, daemon=True)
    submitting.start()
    chance = random.Random(8)
    kills = 0
    while submitting.is_alive() and kills < 8:
        moment = time.monotonic() + chance.uniform(0.02, 0.5)
        until(lambda moment=moment: time.monotonic() > moment)
        if chance.random() < 0.5:
            running.kill()
        else:
            running.kill_all()
        kills += 1
        running.start()
    submitting.join(WAIT_S)
    assert len(jobs) == 100
    client = running.client()
    ended = [end_of(client, job_id) for job_id in jobs.values()]
    listed = client.jobs(limit=None)
    assert sorted(job["id"] for job in listed) == sorted(jobs.values())
    assert {job["state"] for job in ended} == {"succeeded"}
    for job in ended:
        ran = (running.outputs(job["id"]) / "ran").read_text().split()
        assert ran == sorted(set(ran)), f"an attempt of {job['name']} ran twice"
        assert len(ran) == 1 or len(client.story(job["id"])["attempts"]) >= len(ran)
    assert kills >= 3
    check_books(running)


def test_a_server_that_is_stopped_says_why(serve: Serve) -> None:
    running = serve()
    assert running.server is not None
    running.client().whoami()
    running.server.terminate()
    running.server.wait(30)
    assert running.log.read_text().splitlines()[-1].startswith("Headframe stops: SIGTERM received. Running jobs go on")


def test_a_second_server_and_a_taken_port_are_refused_with_a_reason(serve: Serve) -> None:
    running = serve()

    def try_to_serve(data: str, port: str) -> subprocess.CompletedProcess[str]:
        words = [*HEADFRAME, "serve", "--data", data, "--port", port]
        return subprocess.run(words, env=running.env, capture_output=True, text=True, timeout=WAIT_S)

    second = try_to_serve(str(running.data), "0")
    assert second.returncode == 1
    assert f"(process {running.server.pid})" in second.stderr  # type: ignore[union-attr]
    assert "choose another folder with --data" in second.stderr
    other = running.root / "other"
    taken = try_to_serve(str(other), running.port)
    assert taken.returncode == 1
    assert f"127.0.0.1:{running.port} cannot be listened on: Address already in use." in taken.stderr
    assert "--port" in taken.stderr
    assert not other.exists()
    assert json.loads((running.data / "server.json").read_text())["pid"] == running.server.pid  # type: ignore[union-attr]
    assert running.client().whoami()["member"]["role"] == "owner"
