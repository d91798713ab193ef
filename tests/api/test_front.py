"""A server that passes requests on to the one that decides: all goes through, and nobody forges from where it came."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request
from house import WallClock, served, wait_for
from starlette.responses import JSONResponse, Response, StreamingResponse

from headframe.api import front
from headframe.api.app import Server
from headframe.api.connections import Connection
from headframe.api.front import Front
from headframe.api.wire import Limits
from headframe.base.errors import Invalid
from headframe.compose import MachineIds
from headframe.console.changeover import changeover
from headframe.settings import from_options

SECRET = "of-this-term"
HERE = "127.0.0.1"


class Probe:
    """The app of the server that decides, which tells what reached it."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.app.state.serving = SimpleNamespace(closing=False, bells={})
        self.gone = threading.Event()
        self.arrived = bytearray()
        self.more = threading.Event()
        self.done = 0

        @self.app.api_route("/seen", methods=["GET", "POST", "DELETE"])
        async def seen(request: Request) -> Response:
            self.done += 1
            told = {
                "headers": request.headers.items(),
                "client": request.client.host if request.client else "",
                "scheme": request.url.scheme,
                "target": request.scope["raw_path"].decode() + "?" + request.scope["query_string"].decode(),
                "body": (await request.body()).decode(),
            }
            answer = JSONResponse(told, headers={"Connection": "x-hop", "X-Hop": "1", "X-Stays": "1"})
            answer.set_cookie("one", "1")
            answer.set_cookie("two", "2")
            return answer

        @self.app.get("/drops")
        async def drops(request: Request) -> Response:
            async def told() -> Any:
                try:
                    yield b"id: 1\ndata: first\n\n"
                    while not await request.is_disconnected():
                        await asyncio.sleep(0.02)
                finally:
                    self.gone.set()

            return StreamingResponse(told(), media_type="text/event-stream")

        @self.app.put("/taken")
        async def taken(request: Request) -> Response:
            async for piece in request.stream():
                self.arrived += piece
            return Response(str(len(self.arrived)))

        @self.app.get("/cut")
        async def cut() -> Response:
            async def half() -> Any:
                yield b"x" * 1000
                raise RuntimeError("the machine is gone")

            return StreamingResponse(half(), headers={"Content-Length": "2000"})


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The one that decides, the standby before it, and clients of both."""
    monkeypatch.setattr(front, "LISTEN_S", 0.1)
    refuse = changeover(WallClock(), MachineIds())
    probe, first, second = Probe(), Front(refuse, Limits()), Front(refuse, Limits())
    first.decide(probe.app, SECRET)
    with served(first) as decides, served(second) as standby:  # type: ignore[arg-type]
        second.way = SimpleNamespace(url=decides, secret=SECRET)
        with httpx.Client(base_url=standby, trust_env=False, timeout=20) as http:
            yield SimpleNamespace(probe=probe, first=first, second=second, decides=decides, standby=standby, http=http)


def test_a_request_arrives_as_it_was_sent_with_the_address_of_its_caller(pair) -> None:
    heads = {
        "Host": "gpu.example.org", "Origin": "https://gpu.example.org", "Cookie": "__Host-headframe=abc",
        "X-Forwarded-For": "10.9.8.7", "X-Forwarded-Proto": "http", "Last-Event-ID": "17", "Connection": "x-mine",
        "X-Mine": "of this connection", "Proxy-Authorization": "x", "X-Real-IP": "10.0.0.1",
    }  # fmt: skip
    answer = pair.http.post("/seen?a=%2F&b=%20c", headers=heads, content=b"body")
    told = answer.json()
    got = dict(told["headers"])
    assert {name: got[name.lower()] for name in ("Host", "Origin", "Cookie", "Last-Event-ID")} == {
        name: heads[name] for name in ("Host", "Origin", "Cookie", "Last-Event-ID")
    }
    assert not {"x-mine", "x-forwarded-for", "x-forwarded-proto", "x-real-ip", "proxy-authorization"} & set(got)
    assert not [name for name in got if "relay" in name], "our secret is not for the app"
    assert (told["target"], told["body"]) == ("/seen?a=%2F&b=%20c", "body")
    # The standby runs behind a proxy of this machine, which it believes; the one that decides believes the standby.
    assert told["client"] == "10.9.8.7"
    assert answer.headers["x-stays"] == "1"
    assert "x-hop" not in answer.headers
    assert answer.headers.get_list("set-cookie") == ["one=1; Path=/; SameSite=lax", "two=2; Path=/; SameSite=lax"]


def test_the_scheme_of_the_proxy_before_the_standby_is_told(pair) -> None:
    heads = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "10.9.8.7"}
    assert pair.http.get("/seen", headers=heads).json()["scheme"] == "https"
    assert pair.http.get("/seen").json()["scheme"] == "http"


@pytest.mark.parametrize("relay", ["", "guess http 10.0.0.1", f"{SECRET}x http 10.0.0.1", f"{SECRET} http", SECRET])
def test_nobody_can_forge_an_address(pair, relay: str) -> None:
    for url in (pair.decides, pair.standby):
        answer = httpx.get(f"{url}/seen", headers={"X-Headframe-Relay": relay}, trust_env=False)
        assert (answer.status_code, answer.json()["code"]) == (503, "changing_over")
    assert pair.probe.done == 0


def test_what_was_passed_on_once_is_not_passed_on_again(pair) -> None:
    """Two that stand by and take each other for the one that decides, or one that takes itself for it."""
    pair.second.way = SimpleNamespace(url=pair.standby, secret=SECRET)
    answer = pair.http.get("/seen")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"


def test_a_stream_is_told_as_it_comes_and_its_end_by_the_reader_is_noticed(pair) -> None:
    with pair.http.stream("GET", "/drops") as answer:
        assert next(answer.iter_lines()) == "id: 1"
    assert pair.probe.gone.wait(10)


def test_an_upload_is_passed_on_while_it_is_sent(pair) -> None:
    goes_on = threading.Event()

    def pieces() -> Iterator[bytes]:
        yield b"x" * 100_000
        assert goes_on.wait(10)
        yield b"y" * 10

    result: list[str] = []
    sender = threading.Thread(target=lambda: result.append(pair.http.put("/taken", content=pieces()).text))
    sender.start()
    wait_for(lambda: len(pair.probe.arrived) == 100_000, "the first piece")
    goes_on.set()
    sender.join(10)
    assert result == ["100010"]


def test_an_upload_that_breaks_off_breaks_off_there_too(pair) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"x" * 1000
        wait_for(lambda: pair.probe.arrived, "the first piece")
        raise RuntimeError("the caller gives up")

    with pytest.raises(RuntimeError):
        pair.http.put("/taken", content=pieces())
    assert pair.http.get("/seen").status_code == 200
    assert bytes(pair.probe.arrived) == b"x" * 1000


def test_half_an_answer_is_not_taken_for_the_whole(pair) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        pair.http.get("/cut")


def test_without_one_that_decides_a_browser_gets_a_page_and_a_program_a_problem(pair) -> None:
    pair.second.way = None
    page = pair.http.get("/jobs?state=running", headers={"Accept": "text/html", "Cookie": "headframe-theme=light"})
    assert (page.status_code, page.headers["retry-after"], page.headers["cache-control"]) == (503, "1", "no-store")
    assert "changing over" in page.text
    assert 'data-theme="light"' in page.text
    assert "script-src 'self'" in page.headers["content-security-policy"]
    for name in ("tokens.css", "changeover.js", "marks.svg"):
        address = next(part for part in page.text.split('"') if name in part).partition("#")[0]
        assert pair.http.get(address).status_code == 200
    assert pair.http.get("/static/../../etc/passwd").status_code in (404, 503)
    assert pair.http.get("/static/x").status_code == 404
    sent = pair.http.post("/jobs/new", headers={"Accept": "text/html"})
    assert "changeover.js" not in sent.text, "what was posted is not asked for again"
    problem = pair.http.get("/v1/jobs")
    assert (problem.status_code, problem.json()["code"]) == (503, "changing_over")
    assert problem.headers["content-type"] == "application/problem+json"
    health = pair.http.get("/healthz")
    assert (health.status_code, health.json()) == (200, {"status": "ok", "role": "standby"})


def test_a_server_that_has_gone_is_told_apart_from_one_that_may_have_done_it(pair) -> None:
    with socket.create_server((HERE, 0)) as deaf:  # takes what is sent, and hangs up

        def hang_up() -> None:
            for _ in range(2):
                line, _ = deaf.accept()
                line.recv(65536)
                line.close()

        threading.Thread(target=hang_up, daemon=True).start()
        pair.second.way = SimpleNamespace(url=f"http://{HERE}:{deaf.getsockname()[1]}", secret=SECRET)
        asked, sent = pair.http.get("/seen").json(), pair.http.post("/seen").json()
    refused = pair.http.post("/seen").json()
    assert {one["code"] for one in (asked, sent, refused)} == {"changing_over"}
    assert "Idempotency-Key" in sent["next_step"]
    assert "Idempotency-Key" not in asked["next_step"] + refused["next_step"]


def test_one_that_is_halted_lets_nobody_wait(pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes connections and answers nothing; whoever waits is told, and who comes later is told at once."""
    monkeypatch.setattr(front, "DEAF_S", 0.2)
    alive = pair.second.way
    with socket.create_server((HERE, 0)) as halted:
        pair.second.way = SimpleNamespace(url=f"http://{HERE}:{halted.getsockname()[1]}", secret=SECRET)
        assert "Idempotency-Key" in pair.http.post("/seen").json()["next_step"], "it may wake up and do it"
        told = pair.http.post("/seen")
        assert (told.status_code, "no sign of life" in told.json()["detail"]) == (503, True)
        assert pair.http.get("/healthz").json()["role"] == "standby"
    pair.second.way = alive
    wait_for(lambda: pair.http.get("/seen").status_code == 200, "the one that answers")


@pytest.mark.parametrize(
    ("request_line", "heads", "status"),
    [("GET /seen HTTP/1.0", "", b"200"), ("GET /seen HTTP/1.1", "Host: a\r\nHost: b\r\n", b"400")],
    ids=["a probe without a host", "two hosts"],
)
def test_an_odd_request_is_not_taken_for_a_server_that_is_gone(pair, request_line, heads, status) -> None:
    where = httpx.URL(pair.standby)
    with socket.create_connection((where.host, where.port), timeout=10) as line:
        line.sendall(f"{request_line}\r\n{heads}\r\n".encode())
        assert line.recv(65536).split(b" ")[1] == status


def test_one_that_takes_over_ends_what_it_passed_on_and_answers_itself(pair) -> None:
    own = Probe()
    with pair.http.stream("GET", "/drops") as answer:
        lines = answer.iter_lines()
        assert next(lines) == "id: 1"
        pair.second.decide(own.app, "of-the-next-term")
        assert list(lines)[-1] == "", "the stream ends in order, and its reader comes back"
    assert pair.http.get("/seen").json()["client"] == HERE
    assert (own.done, pair.probe.done) == (1, 0)
    pair.second.step_down()
    assert own.app.state.serving.closing
    assert pair.http.get("/seen").status_code == 503


def test_a_standby_that_stops_ends_streams_at_once() -> None:
    refuse = changeover(WallClock(), MachineIds())
    probe, first, second = Probe(), Front(refuse, Limits()), Front(refuse, Limits())
    first.decide(probe.app, SECRET)
    with served(first) as decides:  # type: ignore[arg-type]
        second.way = SimpleNamespace(url=decides, secret=SECRET)
        config = uvicorn.Config(second, host=HERE, port=0, log_level="critical", http=Connection)
        server = Server(config)
        running = threading.Thread(target=server.run, daemon=True)
        running.start()
        wait_for(lambda: server.started, "the standby")
        url = f"http://{HERE}:{server.servers[0].sockets[0].getsockname()[1]}"
        with httpx.stream("GET", f"{url}/drops", trust_env=False) as answer:
            lines = answer.iter_lines()
            next(lines)
            server.should_exit = True
            list(lines)
        running.join(10)
        assert not running.is_alive()


@pytest.mark.parametrize("url", ["ftp://a", "http://", "a.internal:8470", "http://a/path", "http://a b", "https://a?b"])
def test_what_is_advertised_must_be_the_address_of_a_server(url: str) -> None:
    with pytest.raises(Invalid, match="advertise"):
        from_options({"advertise": url})
    assert from_options({"advertise": "https://a.internal:8470"}).advertise == "https://a.internal:8470"
