"""Every knob of the server, typed and with its meaning. Options of `serve` and HEADFRAME_ variables set them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from headframe.base.errors import Invalid
from headframe.base.quantities import parse_mib

DEFAULT_PORT = 8470


def _knob(default: Any, meaning: str) -> Any:
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True, slots=True)
class Settings:
    """How one server runs. The reference page of settings is made from these fields."""

    data: Path = _knob(Path("~/.headframe"), "The data folder: store, logs, files and environments lie there.")
    store_url: str = _knob("", "A database URL, such as postgresql://user@host/name; empty: SQLite in the data folder.")
    host: str = _knob("127.0.0.1", "The address to listen on. Put a proxy with TLS before any other than loopback.")
    port: int = _knob(DEFAULT_PORT, "The port to listen on; 0 takes a free one.")
    fake_gpus: str = _knob("", "Pretended GPUs for trying things out, such as H100:8,A100:2; marked fake everywhere.")
    log_limit_mib: int = _knob(64, "The most that one job's log may hold, in MiB; the middle is cut beyond that.")
    isolation: str = _knob(
        "preferred", "preferred: jobs run with a warning where no sandbox works; required: they fail."
    )

    @property
    def url(self) -> str:
        """The URL of the store."""
        return self.store_url or f"sqlite:///{self.data / 'headframe.db'}"


def from_options(options: Mapping[str, Any]) -> Settings:
    """Settings from the options of a command; an option that is None takes the default. Raises `Invalid`."""
    known = {one.name for one in fields(Settings)}
    given = {name: value for name, value in options.items() if value is not None and name in known}
    if options.get("log_limit") is not None:
        given["log_limit_mib"] = parse_mib(options["log_limit"], field="--log-limit")
    given["data"] = Path(given.get("data", "~/.headframe")).expanduser().absolute()
    if given.get("isolation", "preferred") not in ("preferred", "required"):
        raise Invalid(
            f"isolation is {given['isolation']!r}.", field="isolation", allowed="preferred or required"
        )  # fmt: skip
    return Settings(**given)
