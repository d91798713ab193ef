"""Requests of the SDK: addresses and keys, tries after a lost connection, errors by their code, streams that resume."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from headframe.base.errors import CallerError, HeadframeError, Invalid, OurError, Unreachable

if TYPE_CHECKING:
    import httpx

DEFAULT_URL = "http://127.0.0.1:8470"
CONNECT_S = 5.0
READ_S = 60.0  # streams send a sign of life more often than that
PATIENCE_S = 30.0  # how long a connection that once stood is sought again
TOLD_TRY = 3  # which failed try is told to those who wait
FIRST_PATIENCE_S = 0.5  # how long a server that was never met is sought


@dataclass(frozen=True, slots=True)
class Profile:
    """Where the server is and with which key to call it. `source` says where they come from."""

    url: str
    key: str
    source: str


def config_path() -> Path:
    """The file that `headframe login` writes."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "headframe" / "config.toml"


def profile(url: str | None = None, key: str | None = None, name: str | None = None) -> Profile:
    """The server and key in use: arguments before HEADFRAME_URL and HEADFRAME_KEY, these before the saved profile."""
    name = name or os.environ.get("HEADFRAME_PROFILE") or "default"
    written_url, written_key = url or os.environ.get("HEADFRAME_URL"), key or os.environ.get("HEADFRAME_KEY")
    if written_url and written_key:
        return Profile(_checked(written_url), written_key, "environment" if not url else "arguments")
    saved = saved_profiles().get(name, {})
    # A saved key is only ever sent to the server that it was saved for.
    same = written_url is None or written_url.rstrip("/") == saved.get("url")
    return Profile(
        _checked(written_url or saved.get("url") or DEFAULT_URL),
        written_key or (saved.get("key", "") if same else ""),
        f"profile {name}" if saved else "defaults",
    )


def saved_profiles() -> dict[str, dict[str, str]]:
    """All that is saved, by profile name; a damaged file is an error that names it."""
    import tomllib

    path = config_path()
    try:
        table = tomllib.loads(path.read_text("utf-8")).get("profiles", {})
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise CallerError(f"{path} cannot be read: {error}.", next_step="Mend or delete it and log in again.") from None
    if not isinstance(table, dict):
        return {}
    return {
        str(name): {str(field): str(value) for field, value in entry.items()}
        for name, entry in table.items()
        if isinstance(entry, dict)
    }


def save_profile(name: str, url: str, key: str) -> Path:
    """Keep url and key for later calls, in a file that only its owner can read."""
    import json

    profiles = {**saved_profiles(), name: {"url": url, "key": key}}
    lines = []
    for each in sorted(profiles):
        lines.append(f"[profiles.{json.dumps(each)}]")
        lines += [f"{field} = {json.dumps(value)}" for field, value in sorted(profiles[each].items())]
        lines.append("")
    path = config_path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write("\n".join(lines))
    part.replace(path)
    return path


def _checked(url: str) -> str:
    if not url.startswith(("http://", "https://")) or any(ord(char) <= 32 for char in url):
        raise _not_an_address(url, "it does not begin with http:// or https://")
    return url.rstrip("/")


def _not_an_address(url: str, why: str) -> Invalid:
    return Invalid(
        f"{url!r} is not the address of a server: {why}.",
        field="url", value=url, allowed="http://host:port or https://host",
    )  # fmt: skip


class Wire:
    """One server, one key, one pool of connections. Safe to use from several threads."""

    def __init__(
        self,
        where: Profile,
        *,
        patience_s: float = PATIENCE_S,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        import httpx

        self.where = where
        self.patience_s = patience_s
        self.tell_wait: Callable[[str], None] = lambda why: None  # hears once why a call takes longer than a moment
        self._met = False
        self._errors = httpx.RequestError
        plain = where.url.startswith("http://")
        if not all(" " < char < "\x7f" for char in where.key):
            raise Invalid("The key holds characters that no key has.", field="key", allowed="a key such as hf_...")
        try:
            self._http = httpx.Client(
                base_url=where.url,
                headers={"Authorization": f"Bearer {where.key}"} if where.key else {},
                timeout=httpx.Timeout(READ_S, connect=CONNECT_S),
                # Without TLS there is nothing to verify, and loading certificates takes longer than most commands.
                transport=transport or httpx.HTTPTransport(verify=not plain),
                trust_env=not plain,
            )
        except httpx.InvalidURL as error:
            raise _not_an_address(where.url, str(error)) from None

    def close(self) -> None:
        self._http.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: object = None,
        content: Any = None,
        version: int | None = None,
        idempotency_key: str | None = None,
    ) -> Any:
        """The decoded answer. Sent again after a lost connection or a 503; a repeated POST is carried out once.

        `content` is a call that opens the raw body anew for each try.
        """
        headers = {}
        if method == "POST":
            headers["Idempotency-Key"] = idempotency_key or secrets.token_hex(16)
        if version is not None:
            headers["If-Match"] = f'"{version}"'
        asked = _query(query)
        waiting = _Waiting(self)
        while True:
            try:
                answer = self._http.request(
                    method, path, params=asked, json=body, headers=headers,
                    content=content() if content is not None else None,
                )  # fmt: skip
            except self._errors as error:
                waiting.next(error)
                continue
            self._met = True
            if answer.status_code == 503 and waiting.again(answer.headers.get("retry-after"), _detail(answer)):
                continue
            return _decoded(answer)

    @contextmanager
    def stream(self, path: str, query: Mapping[str, object] | None = None) -> Iterator[httpx.Response]:
        """An open answer whose body has not been read yet; errors are raised as by `call`."""
        asked = _query(query)
        with self._http.stream("GET", path, params=asked) as answer:
            self._met = True
            if answer.status_code >= 400:
                answer.read()
                _decoded(answer)
            yield answer

    def fetch(self, path: str, take: Callable[[Iterator[bytes], int], None]) -> None:
        """Hand the pieces of a file and its size to `take`, once more from the start after a lost connection."""
        waiting = _Waiting(self)
        while True:
            try:
                with self.stream(path) as answer:
                    take(answer.iter_bytes(1 << 20), int(answer.headers.get("content-length") or 0))
                return
            except self._errors as error:
                waiting.next(error)

    def follow(self, path: str, cursor: str, start: int, **query: object) -> Iterator[tuple[str, str]]:
        """(event, data) of a stream, from `start` on. A lost connection is taken up where it broke off."""
        position = start
        waiting = _Waiting(self)
        while True:
            try:
                with self.stream(path, {**query, cursor: position}) as answer:
                    for name, identity, data in events_of(answer.iter_lines()):
                        waiting = _Waiting(self)
                        yield name, data
                        if identity.isdigit():
                            position = int(identity)
                        if name == "end":
                            return
                waiting.next(None)  # the server ended the stream without an end: it is going down
            except self._errors as error:
                waiting.next(error)
            except OurError as error:
                if error.status != 503 or not waiting.again(None):
                    raise


class _Waiting:
    """The pauses between tries: short ones first, given up after the wire's patience."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.until: float | None = None
        self.pause = 0.05
        self.tries = 0

    def again(self, retry_after: str | None, why: str = "") -> bool:
        """Pause before the next try; False when patience is at its end. `why` is what the server says to it."""
        now = time.monotonic()
        patience = self.wire.patience_s if self.wire._met else min(FIRST_PATIENCE_S, self.wire.patience_s)
        if self.until is None:
            self.until = now + patience
        if now >= self.until:
            return False
        self.tries += 1
        if self.tries == TOLD_TRY:
            self.wire.tell_wait(why or f"No Headframe server answers at {self.wire.where.url}.")
        pause = self.pause
        if retry_after is not None and retry_after.isdigit() and len(retry_after) < 4:
            pause = max(pause, float(retry_after))
        time.sleep(min(pause, max(self.until - now, 0.01)))
        self.pause = min(self.pause * 2, 1.0)
        return True

    def next(self, error: Exception | None) -> None:
        """Pause, or raise `Unreachable`."""
        if not self.again(None):
            self._give_up(error)

    def _give_up(self, error: Exception | None) -> NoReturn:
        url = self.wire.where.url
        name = type(error).__name__ if error else "closed"
        why = "" if name == "ConnectError" else f" ({name})"
        raise Unreachable(
            f"No Headframe server answers at {url}{why}.",
            next_step="Start one with `headframe serve`, or name another with `headframe login` or HEADFRAME_URL.",
            details={"url": url},
        ) from error


def _query(query: Mapping[str, object] | None) -> dict[str, str | list[str]] | None:
    """Without what is None; None when nothing is left, so that an address keeps its own query."""
    return {
        name: [str(item) for item in value] if isinstance(value, list) else str(value)
        for name, value in (query or {}).items()
        if value is not None
    } or None


def events_of(lines: Iterator[str]) -> Iterator[tuple[str, str, str]]:
    """(event, id, data) of a stream of server-sent events; comments are signs of life and are passed over."""
    name, identity = "message", ""
    data: list[str] = []
    for line in lines:
        if not line:
            if data or name != "message":
                yield name, identity, "\n".join(data)
            name, data = "message", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif field == "id":
            identity = value


def _decoded(answer: httpx.Response) -> Any:
    """JSON of a good answer, None when it is empty; a bad one is raised as the error that its code names."""
    if answer.status_code < 400:
        if not answer.content:
            return None
        try:
            return answer.json() if "json" in answer.headers.get("content-type", "") else answer.text
        except ValueError:
            raise OurError("The server's answer broke off or is not JSON.", next_step="Try again.") from None
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    raise error_of(problem if isinstance(problem, dict) else {}, answer.status_code)


def _detail(answer: httpx.Response) -> str:
    """What a problem says is wrong."""
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return "The server is busy."


def error_of(problem: Mapping[str, Any], status: int) -> HeadframeError:
    """The error that a problem document tells, as the class that the server raised."""
    kind = _kinds().get(str(problem.get("code", "")))
    if kind is None:
        kind = CallerError if status < 500 else OurError
    base = {"type", "title", "status", "detail", "next_step"}
    details = {name: value for name, value in problem.items() if name not in base}
    error = kind.__new__(kind)
    HeadframeError.__init__(
        error,
        str(problem.get("detail") or f"The server answered with status {status}."),
        next_step=str(problem.get("next_step") or ""),
        details=details,
    )
    if isinstance(error, Invalid):
        error.field, error.value = str(details.get("field", "")), details.get("value")
        error.allowed, line = str(details.get("allowed", "")), details.get("line")
        error.line = line if isinstance(line, int) else None
    error.status = status  # type: ignore[misc]
    return error


def _kinds() -> dict[str, type[HeadframeError]]:
    """Error classes by code; the nearest to the root wins where subclasses share one."""
    found: dict[str, type[HeadframeError]] = {}
    waiting: list[type[HeadframeError]] = [HeadframeError]
    while waiting:
        kind = waiting.pop(0)
        found.setdefault(kind.code, kind)
        waiting += kind.__subclasses__()
    return found
