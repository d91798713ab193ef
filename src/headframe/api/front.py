"""What a server shows: its own app while it decides, else a way through to the server that does.

Everything is passed on as it comes, both ways and without being gathered, so that logs, live streams, uploads and
downloads work through here. The caller's host, origin and cookies stay as they are. The server that decides is told
from where the request came, and believes it because of a secret that stands in the store, where no caller sees it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from hmac import compare_digest
from typing import Protocol

import httpx
from anyio import to_thread
from fastapi import FastAPI
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headframe.api.streams import close_streams
from headframe.api.wire import Limits, answer
from headframe.base.errors import ChangingOver

RELAY = b"x-headframe-relay"  # "<secret> <scheme> <address of the caller>", from one of our servers to another
CONNECT_S, READ_S, WRITE_S = 3.0, 90.0, 60.0  # answers come, and streams show life, more often than that
IDLE_S = 4.0  # less than a server keeps an idle connection, so that none is used that is just being closed
LISTEN_S, DEAF_S = 2.0, 10.0  # how often we ask the one that decides for a sign of life, and how long we wait for it
# What belongs to one connection, and what we say ourselves.
_OWN = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"te",
        b"trailer", b"transfer-encoding", b"upgrade", b"expect", b"forwarded", b"x-real-ip", RELAY,
    }
)  # fmt: skip
_log = logging.getLogger("headframe.api")


class Way(Protocol):
    """Where the server that decides is, and the secret that it knows us by."""

    @property
    def url(self) -> str: ...
    @property
    def secret(self) -> str: ...


Refuse = Callable[[Scope, ChangingOver], ASGIApp]


class Front:
    """The outermost app. Its methods may be called from any thread once the server listens.

    `refuse` makes the answer for a request that nobody can be asked for now.
    """

    def __init__(self, refuse: Refuse, limits: Limits) -> None:
        self.app: FastAPI | None = None
        self.way: Way | None = None
        self._secret = self._deaf = ""  # where a server is that takes requests and answers none
        self._refuse, self._limits = refuse, limits
        self._loop: asyncio.AbstractEventLoop | None = None
        self._under_way: dict[asyncio.Task[None], _Passage] = {}
        self._wires: dict[str, httpx.AsyncHTTPTransport] = {}  # by scheme

    def decide(self, app: FastAPI, secret: str) -> None:
        """Answer by our own app from now on; what was passed on to another server ends."""
        self._secret, self.app, self.way = secret, app, None
        self._on_loop(lambda: self._end(lambda _: True))

    def step_down(self) -> None:
        """Answer by our own app no longer; its streams end, and so does what others ask of it under our secret."""
        app, self.app, self._secret = self.app, None, ""
        if app is not None:
            close_streams(app)

    def close(self) -> None:
        """End all streams: the server stops."""
        if self.app is not None:
            close_streams(self.app)
        self._on_loop(lambda: self._end(lambda passage: passage.is_stream))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if scope["type"] != "http":
            return
        told = [value for name, value in scope["headers"] if name == RELAY]
        app, way = self.app, self.way
        if app is not None and (not told or self._believes(scope, told[0])):
            await app(scope, receive, send)
        elif scope["path"] == "/healthz" and not told:
            await answer({"status": "ok", "role": "standby"})(scope, receive, send)
        elif way is not None and way.url == self._deaf and not told:
            await self._refuse(scope, _silent())(scope, receive, send)
        elif way is not None and not told:  # one that was passed on to us is not passed on again: it might go round
            await self._pass_on(way, scope, receive, send)
        else:
            await self._refuse(scope, _nobody())(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self._loop = asyncio.get_running_loop()
        to_thread.current_default_thread_limiter().total_tokens = self._limits.threads
        await send({"type": "lifespan.startup.complete"})
        listening = asyncio.create_task(self._listen())
        await receive()
        listening.cancel()
        for wire in self._wires.values():
            await wire.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    async def _listen(self) -> None:
        """While we stand by, look whether the one that decides still answers: it may be halted and keep its claim."""
        while True:
            await asyncio.sleep(LISTEN_S)
            way, deaf = self.way, ""
            if way is None:
                continue
            limits = {"connect": CONNECT_S, "read": DEAF_S, "write": DEAF_S, "pool": DEAF_S}
            asked = httpx.Request("GET", way.url, extensions={"target": b"/healthz", "timeout": limits})
            try:
                await (await self._wire(way).handle_async_request(asked)).aread()
            except httpx.ReadTimeout:
                deaf = way.url
            except httpx.TransportError:
                pass  # it is gone, which whoever asks for something hears at once
            if deaf and self.way is not None and self.way.url == deaf:
                self._end(lambda passage: passage.is_stream or not passage.is_answered)
                if deaf != self._deaf:
                    _log.warning("%s decides and does not answer; while it lives nobody can take over: end it.", deaf)
            self._deaf = deaf

    def _believes(self, scope: Scope, told: bytes) -> bool:
        """Take another server's word for where a request came from, if it is one of ours."""
        secret, *words = told.decode("latin-1").split(" ")
        if not self._secret or not compare_digest(secret.encode(), self._secret.encode()) or len(words) != 2:
            return False
        scope["headers"] = [each for each in scope["headers"] if each[0] != RELAY]
        scope["scheme"], scope["client"] = words[0], (words[1], 0)
        return True

    async def _pass_on(self, way: Way, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on, until it is answered, its caller has gone, or we are told to end it."""
        passage = _Passage(scope, receive, send)
        work = asyncio.create_task(passage.carry(self._wire(way), way))
        gone = asyncio.create_task(passage.until_gone())
        self._under_way[work] = passage
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            left = not work.done() and not passage.ended_by_us
        finally:
            del self._under_way[work]
            for task in (work, gone):
                task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)
        if left or not (work.cancelled() or work.exception()):
            return
        await self._broken(passage, None if work.cancelled() else work.exception())

    async def _broken(self, passage: _Passage, error: BaseException | None) -> None:
        """The other server is gone, or we have taken over from it."""
        if isinstance(error, ClientDisconnect):
            return
        if error is not None and not isinstance(error, httpx.TransportError):
            raise error
        if isinstance(error, httpx.LocalProtocolError) and not passage.is_answered:  # such as two hosts
            wrong = PlainTextResponse("Invalid HTTP request.", 400)
            await wrong(passage.scope, passage.receive, passage.send)
        elif not passage.is_answered:
            never_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
            certain = never_sent or passage.scope["method"] in ("GET", "HEAD")
            refused = _nobody() if certain else _unknown()
            await self._refuse(passage.scope, refused)(passage.scope, passage.receive, passage.send)
        elif passage.is_stream:  # its end is no loss: readers come back and go on from where they were
            await passage.send({"type": "http.response.body", "body": b""})
        # Anything else is cut off, so that nobody takes a part for the whole.

    def _wire(self, way: Way) -> httpx.AsyncHTTPTransport:
        """The pool of connections to other servers."""
        scheme = httpx.URL(way.url).scheme
        if scheme not in self._wires:
            room = httpx.Limits(
                max_connections=self._limits.requests, max_keepalive_connections=64, keepalive_expiry=IDLE_S
            )
            trust = ssl.create_default_context() if scheme == "https" else False
            self._wires[scheme] = httpx.AsyncHTTPTransport(verify=trust, limits=room, trust_env=False)
        return self._wires[scheme]

    def _end(self, which: Callable[[_Passage], bool]) -> None:
        for task, passage in self._under_way.items():
            if which(passage):
                passage.ended_by_us = True
                task.cancel()

    def _on_loop(self, call: Callable[[], None]) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has been closed
                self._loop.call_soon_threadsafe(call)


class _Passage(httpx.AsyncByteStream):
    """One request on its way through; to the other server it is the body that is sent."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope, self.receive, self.send = scope, receive, send
        self.is_answered = self.is_stream = self.ended_by_us = False
        self._has_all = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        more = True
        while more:
            message: Message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            more = message.get("more_body", False)
            if piece := message.get("body", b""):
                yield piece
        self._has_all.set()

    async def until_gone(self) -> None:
        """Return when the caller has hung up."""
        await self._has_all.wait()
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def carry(self, wire: httpx.AsyncHTTPTransport, way: Way) -> None:
        """Ask the other server, and hand on what it answers."""
        target = self.scope.get("raw_path") or self.scope["path"].encode()
        if self.scope["query_string"]:
            target += b"?" + self.scope["query_string"]
        timeout = {"connect": CONNECT_S, "read": READ_S, "write": WRITE_S, "pool": CONNECT_S}
        request = httpx.Request(
            self.scope["method"], way.url, headers=self._heads(way), stream=self,
            extensions={"target": target, "timeout": timeout},
        )  # fmt: skip
        response = await wire.handle_async_request(request)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        try:
            heads = [(name.lower(), value) for name, value in response.headers.raw]
            self.is_stream = any(
                name == b"content-type" and value.startswith(b"text/event-stream") for name, value in heads
            )
            heads = _without_own(heads)
            self.is_answered = True
            await self.send({"type": "http.response.start", "status": response.status_code, "headers": heads})
            async for piece in response.stream:
                await self.send({"type": "http.response.body", "body": piece, "more_body": True})
            await self.send({"type": "http.response.body", "body": b""})
        finally:
            await response.aclose()

    def _heads(self, way: Way) -> list[tuple[bytes, bytes]]:
        """The headers to send: as they came but for those of the connection, and from where they came."""
        client = self.scope["client"]
        came = f"{way.secret} {self.scope['scheme']} {client[0] if client else ''}".encode()
        given = [(bytes(name), bytes(value)) for name, value in self.scope["headers"]]
        chunked = [(b"transfer-encoding", b"chunked")] if any(name == b"transfer-encoding" for name, _ in given) else []
        host = [] if any(name == b"host" for name, _ in given) else [(b"host", httpx.URL(way.url).netloc)]  # HTTP/1.0
        return [*_without_own(given), *host, *chunked, (RELAY, came)]


def _without_own(heads: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Headers without those that are about one connection, or claim to know where a request came from."""
    named = {
        word.strip().lower() for name, value in heads if name == b"connection" for word in value.split(b",")
    } - {b"host", b"content-length", b"authorization", b"cookie"}  # fmt: skip
    return [
        (name, value)
        for name, value in heads
        if name not in _OWN and name not in named and not name.startswith(b"x-forwarded-")
    ]


def _nobody() -> ChangingOver:
    return ChangingOver(
        "No server decides at this moment: one starts, or takes over.", next_step="Try again in a few seconds."
    )


def _silent() -> ChangingOver:
    return ChangingOver(
        f"The server that decides has given no sign of life for {DEAF_S:.0f} seconds.",
        next_step="Try again in a moment. Should it stay so, its operator ends it, and another one takes over.",
    )


def _unknown() -> ChangingOver:
    return ChangingOver(
        "The server that was to carry this out has gone, and another one is taking over: it may have been done or not.",
        next_step="Repeat it with the same Idempotency-Key, or look whether it was done.",
    )
