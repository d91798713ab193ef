"""What a connection may do before it has asked for anything: nothing for long, and nothing large."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
from house import House

from headframe.api import connections


@pytest.fixture
def line(house: House) -> Iterator[socket.socket]:
    url = house.http.base_url
    with closing(socket.create_connection((url.host, url.port), 10)) as made:
        yield made


def _all(line: socket.socket) -> bytes:
    """What comes until the server closes."""
    found = b""
    try:
        while piece := line.recv(1 << 16):
            found += piece
    except ConnectionResetError:
        pass
    return found


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.2)


@pytest.mark.parametrize("begin", [b"", b"GET /heal", b"GET /healthz HTTP/1.1\r\nHost: x\r\n"])
def test_a_head_that_does_not_come_ends_the_connection(impatient: None, line: socket.socket, begin: bytes):
    line.sendall(begin)
    assert _all(line) == b""


def test_a_second_head_that_does_not_come_ends_the_connection(impatient: None, line: socket.socket):
    line.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert line.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
    line.sendall(b"GET /heal")
    assert _all(line) == b""


def test_a_head_without_end_is_not_kept(line: socket.socket):
    line.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
    with pytest.raises(OSError):  # refused long before all of it is sent
        _send_without_end(line)


def _send_without_end(line: socket.socket) -> None:
    for _ in range(10_000):
        line.sendall(b"X: " + b"y" * 8000 + b"\r\n")


def test_large_bodies_and_many_requests_on_one_connection_are_welcome(line: socket.socket):
    body = b" " * 500_000
    for _ in range(3):
        line.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert line.recv(1 << 16).startswith(b"HTTP/1.1 401 ")
