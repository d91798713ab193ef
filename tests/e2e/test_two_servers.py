"""Two servers on one store: one decides, the other passes on what it is asked, and takes over from it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from browser import THEMES, open_tab
from playwright.sync_api import expect
from running import WAIT_S, Row, Running, born, check_books, end_of, follow, log_text, numbers, until
from sqlalchemy import create_engine, text

COUNTER = """
cp -r data/. "$HEADFRAME_OUTPUTS/"
n=0
while [ ! -e "$HEADFRAME_OUTPUTS/enough" ]; do
  n=$((n + 1)); echo "line $n"; sleep 0.02
done
"""
Serve = Callable[..., Running]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start servers, on one data folder unless told otherwise."""
    made: list[Running] = []

    def start(*words: str, data: str = "data", **env: str) -> Running:
        root = tmp_path / f"server-{len(made)}"
        root.mkdir()
        running = Running(root, data=tmp_path / data, **env)
        made.append(running)
        running.launch(*words)
        return running

    yield start
    for running in made:
        if running.server is not None:
            running.server.send_signal(signal.SIGCONT)
        running.clear()


def wait_by(running: Running) -> Running:
    """Wait until a server stands by."""
    found = until(lambda: re.search(r"stands by at http://127.0.0.1:(\d+):", running.log.read_text()))
    running.port = found[1]
    until(lambda: role(running) == "standby" and passes_on(running))
    return running


def role(running: Running) -> str:
    return str(httpx.get(f"{running.url}/healthz", trust_env=False).json()["role"])


def passes_on(running: Running) -> bool:
    return httpx.get(f"{running.url}/readyz", trust_env=False).status_code == 200


def decides(running: Running) -> None:
    """Wait until a server decides that stood by."""
    until(lambda: f"serves at {running.url} " in running.log.read_text())
    assert role(running) == "decides"


@pytest.mark.parametrize("store", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def test_nothing_is_lost_when_the_one_that_decides_is_killed(
    serve: Serve, store: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    env = {"HEADFRAME_STORE_URL": str(request.getfixturevalue("postgres_url"))} if store == "postgresql" else {}
    first = serve(**env)
    first.wait_up()
    third = serve(**env)
    second = wait_by(serve("--standby", **env))
    client = second.client(first.key, patience_s=60)

    folder = tmp_path / "job" / "data"
    folder.mkdir(parents=True)
    (folder / "large").write_bytes(os.urandom(3 << 20))
    spec = {"name": "counter", "run": COUNTER, "resources": {"gpu": 1, "cpu": 0.5, "memory": "64MB"}}
    job = client.submit(spec, files=folder.parent)
    followed, follower = follow(client, job["id"])
    attempt = client.story(job["id"])["attempts"][0]
    ticks = born(attempt["pid"])
    assert ticks is not None
    assert client.download(job["id"], tmp_path / "got", ["large"])[0].read_bytes() == (folder / "large").read_bytes()

    assert third.server is not None
    assert third.server.wait(WAIT_S) == 1, "one that does not stand by is refused"
    assert "--standby" in third.log.read_text()
    with live(second, first.key, "jobs", after=0) as frames:
        until(lambda: [frame for frame in frames if frame["state"] == "running"])
    first.kill()
    again = client.submit({"name": "again", "run": "echo again"}, idempotency_key="while-nobody-decides")
    decides(second)
    assert born(attempt["pid"]) == ticks
    seen = len(followed)
    until(lambda: len(followed) > seen + 5)

    # The first one, started anew where it was, stands by from now on; what was open there goes on, too.
    first.launch("--standby", "--port", first.port)
    wait_by(first)
    (first.outputs(job["id"]) / "enough").touch()
    client = first.client()
    assert end_of(client, job["id"])["state"] == "succeeded"
    follower.join(WAIT_S)
    assert numbers("".join(followed)) == numbers(log_text(client, job["id"]))
    assert [(one["number"], one["pid"]) for one in client.story(job["id"])["attempts"]] == [(1, attempt["pid"])]
    assert end_of(client, again["id"])["attempt"] == 1
    assert [one["id"] for one in client.jobs() if one["name"] == "again"] == [again["id"]]
    if store == "sqlite":
        second.key = first.key
        check_books(second)


@contextmanager
def live(running: Running, key: str, topics: str, after: int) -> Iterator[list[Row]]:
    """What the live stream tells of some topics, as it comes, in a list that grows."""
    frames: list[Row] = []
    url, head = f"{running.url}/v1/live?topics={topics}&after={after}", {"Authorization": f"Bearer {key}"}
    with httpx.stream("GET", url, headers=head, timeout=WAIT_S, trust_env=False) as answer:

        def reading() -> None:
            with contextlib.suppress(httpx.HTTPError, httpx.StreamError):  # it is closed below
                for line in answer.iter_lines():
                    if line.startswith("data: {"):
                        frames.append(json.loads(line[6:]))

        threading.Thread(target=reading, daemon=True).start()
        yield frames


@pytest.mark.postgres
def test_one_that_was_halted_writes_nothing_once_another_has_taken_over(serve: Serve, postgres_url: str) -> None:
    """As on two machines with a data folder each: only the database stands between them."""
    env = {"HEADFRAME_STORE_URL": postgres_url}
    first = serve("--standby", **env)
    first.wait_up()
    second = wait_by(serve("--standby", data="other", **env))
    assert first.server is not None
    old = first.client()
    old.submit({"name": "before", "run": "sleep 600"})
    first.server.send_signal(signal.SIGSTOP)
    late: list[Any] = []
    head = {"Authorization": f"Bearer {first.key}"}
    body = {"spec": {"name": "late", "run": "true"}}
    sender = threading.Thread(
        target=lambda: late.append(
            httpx.post(f"{first.url}/v1/jobs", json=body, headers=head, timeout=WAIT_S, trust_env=False)
        )
    )
    sender.start()  # it lies in the socket of the one that is halted
    engine = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as admin:
        admin.execute(text("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"))
        decides(second)
        new = second.client(first.key)
        new.submit({"name": "after", "run": "true"})
        first.server.send_signal(signal.SIGCONT)
        sender.join(WAIT_S)
        until(lambda: role(first) == "standby" and passes_on(first))
        term = admin.execute(text("SELECT term FROM deciders")).scalar()
        seqs = admin.execute(text("SELECT count(*), max(seq) FROM events")).one()
        chain = admin.execute(text("SELECT count(*), count(DISTINCT number) FROM transfers WHERE number > 0")).one()
    engine.dispose()
    # It was refused, or the old server had noticed before it read the request, and passed it on to the new one.
    assert late[0].status_code in (201, 503), late[0].text
    came = ["late"] if late[0].status_code == 201 else []
    assert sorted(one["name"] for one in old.jobs()) == ["after", "before", *came], "asked of the one that was halted"
    assert "nothing of this change was written" in first.log.read_text()
    assert "secrets lie in another one" in second.log.read_text(), "the second one's folder is a new one"
    assert term == 2
    assert seqs[0] == seqs[1]
    assert chain[0] == chain[1]
    old.submit({"name": "through", "run": "true"})
    assert "through" in [one["name"] for one in new.jobs()]


def test_pages_while_one_takes_over_from_another(browser: Any, serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o700)
    lock = os.open(tmp_path / "data" / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    first = serve("--standby")
    first.port = until(lambda: re.search(r"stands by at http://127.0.0.1:(\d+):", first.log.read_text()))[1]
    problem = httpx.get(f"{first.url}/v1/jobs", trust_env=False)
    assert (problem.status_code, problem.headers["retry-after"]) == (503, "1")
    with open_tab(browser, first.url, None, "phone") as tab:
        tab.expected = ("503",)
        for theme in THEMES:
            tab.theme(theme)
            page = tab.go("/jobs?state=running")
            expect(page.get_by_role("heading", level=1)).to_have_text("The server is changing over")
            tab.axe()
            tab.fits()
        os.close(lock)  # whoever held it has gone
        expect(page).to_have_url(re.compile("/sign-in"))
        tab.check()
    first.wait_up()
    _a_page_goes_on_when_its_server_dies(browser, first, wait_by(serve("--standby")))


def _a_page_goes_on_when_its_server_dies(browser: Any, first: Running, second: Running) -> None:
    client = second.client(first.key, patience_s=60)
    with open_tab(browser, second.url, None) as tab:
        tab.expected = ("ERR_", "Failed to load resource")
        tab.sign_in(first.key)
        client.submit({"name": "keep-1", "run": "sleep 600"})
        page = tab.go("/jobs?name=keep")
        page.evaluate("window.mark = 'the same document'")
        client.submit({"name": "other", "run": "sleep 600"})
        rows = page.locator("main tbody tr")
        expect(rows.filter(has_text="keep-1")).to_have_count(1)
        first.kill()
        client.submit({"name": "keep-2", "run": "sleep 600"})
        client.submit({"name": "other-2", "run": "sleep 600"})
        expect(rows.filter(has_text="keep-2")).to_have_count(1)
        expect(rows.filter(has_text="other")).to_have_count(0)
        expect(page.locator("hf-connection")).to_be_hidden()
        assert page.evaluate("window.mark") == "the same document"
        assert page.url == f"{second.url}/jobs?name=keep"
        page.reload()  # the session is good at the new server
        expect(rows.filter(has_text="keep")).to_have_count(2)
        tab.check()
