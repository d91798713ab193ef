"""What the server and the agent of a machine say to each other: one JSON object a line over a unix socket.

Down: {"hello"}, {"launch"}, {"stop"}, {"signal"}, {"forget"}, {"report"}, {"follow"}, {"unfollow"}, {"measure"},
{"leave"}. Up: {"hello"}, {"observation"}, {"report"}, {"grew"}, {"measured"}.
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import fields
from pathlib import Path
from typing import Any

from headframe.fleet.engine_words import Forget, Launch, Observation, Seen, Signal, Stop
from headframe.fleet.records import Share, Slice

VERSION = 1  # of this protocol and of what lies in the agent's folder: a server asks an older agent to leave
LINE_LIMIT = 16 << 20  # bytes; a longer line is not ours

_ACTIONS: dict[str, type[Any]] = {"launch": Launch, "stop": Stop, "signal": Signal, "forget": Forget}


def encode(message: dict[str, Any]) -> bytes:
    """One line."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass") + b"\n"


def _plain(record: Any) -> dict[str, Any]:
    """The fields of a flat record; unlike `asdict` it copies nothing, which matters for a thousand launches."""
    return {item.name: getattr(record, item.name) for item in fields(record)}


def action_out(action: Launch | Stop | Signal | Forget) -> dict[str, Any]:
    """An action as a message."""
    plain = _plain(action)
    if isinstance(action, Launch):
        plain["slices"] = [slice_out(piece) for piece in action.slices]
    return {type(action).__name__.lower(): plain}


def action_in(message: dict[str, Any]) -> Launch | Stop | Signal | Forget | None:
    """The action that a message holds; None when it holds none."""
    for name, kind in _ACTIONS.items():
        if name in message:
            plain = dict(message[name])
            if kind is Launch:
                plain["slices"] = tuple(slice_in(piece) for piece in plain["slices"])
                plain["datasets"] = tuple((str(pair[0]), str(pair[1])) for pair in plain["datasets"])
            action: Launch | Stop | Signal | Forget = kind(**plain)
            return action
    return None


def slice_out(piece: Slice) -> dict[str, Any]:
    return _plain(piece) | {"shares": [_plain(share) for share in piece.shares]}


def slice_in(plain: dict[str, Any]) -> Slice:
    return Slice(**(plain | {"shares": tuple(Share(**share) for share in plain["shares"])}))


def observation_out(seen: Observation) -> dict[str, Any]:
    return _plain(seen) | {"seen": seen.seen.value, "story": list(seen.story)}


def observation_in(plain: dict[str, Any]) -> Observation:
    return Observation(**(plain | {"seen": Seen(plain["seen"]), "story": tuple(plain["story"])}))


class Lines:
    """Cuts what arrives into messages."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> list[dict[str, Any]]:
        """The messages that are complete now; raises `ValueError` on what is no line of ours."""
        self._rest += chunk
        *whole, rest = self._rest.split(b"\n")
        self._rest = bytearray(rest)
        if len(rest) > LINE_LIMIT:
            raise ValueError("a line that does not end")
        messages = [json.loads(line.decode("utf-8", "surrogatepass")) for line in whole if line]
        if not all(isinstance(message, dict) for message in messages):
            raise ValueError("a line that is no object")
        return messages


def listen(folder: Path) -> socket.socket:
    """The agent's socket in `folder`, readable and writable by its owner only.

    Bound by way of a folder descriptor: a socket's path may hold 107 bytes, a data folder's may be longer. Bound under
    another name first and then moved, so that nobody finds a socket that does not listen.
    """
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        (folder / "socket.new").unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            server.bind(f"/proc/self/fd/{handle}/socket.new")
        finally:
            os.umask(mask)
        server.listen(16)
        (folder / "socket.new").rename(folder / "socket")
        return server
    finally:
        os.close(handle)


def connect(folder: Path) -> socket.socket:
    """A connection to the agent; raises `OSError` when none answers."""
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        client.connect(f"/proc/self/fd/{handle}/socket")
    except OSError:
        client.close()
        raise
    finally:
        os.close(handle)
    return client
