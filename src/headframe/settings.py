"""Every knob of the server, typed and with its meaning. Options of `serve` and HEADFRAME_ variables set them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from headframe.base.errors import Invalid
from headframe.base.quantities import DAY_US, parse_mib, parse_span_us

DEFAULT_PORT = 8470


@dataclass(frozen=True, slots=True)
class Settings:
    """How one server runs. The reference page of settings is made from these fields."""

    data: Annotated[Path, "The data folder: store, logs, files and environments lie there."] = Path("~/.headframe")
    store_url: Annotated[
        str, "A database URL, such as postgresql://user@host/name; empty: SQLite in the data folder."
    ] = ""
    host: Annotated[str, "The address to listen on. Put a proxy with TLS before any other than loopback."] = "127.0.0.1"
    port: Annotated[int, "The port to listen on; 0 takes a free one."] = DEFAULT_PORT
    fake_gpus: Annotated[
        str, "Pretended GPUs for trying things out, such as H100:8,A100:2; marked fake everywhere."
    ] = ""
    log_limit_mib: Annotated[int, "The most that one job's log may hold, in MiB; the middle is cut beyond that."] = 64
    invoice_grace_us: Annotated[
        int, "How long after its end a month stays open for late use before its invoices are final, in microseconds."
    ] = DAY_US
    isolation: Annotated[str, "preferred: jobs run with a warning where no sandbox works; required: they fail."] = (
        "preferred"
    )

    @property
    def url(self) -> str:
        """The URL of the store."""
        return self.store_url or f"sqlite:///{self.data / 'headframe.db'}"


def meanings() -> dict[str, str]:
    """What each knob is for, by its name."""
    hints = get_type_hints(Settings, include_extras=True)
    return {one.name: hints[one.name].__metadata__[0] for one in fields(Settings)}


def from_options(options: Mapping[str, Any]) -> Settings:
    """Settings from the options of a command; an option that is None takes the default. Raises `Invalid`."""
    known = {one.name for one in fields(Settings)}
    given = {name: value for name, value in options.items() if value is not None and name in known}
    if options.get("log_limit") is not None:
        given["log_limit_mib"] = parse_mib(options["log_limit"], field="--log-limit")
    if options.get("invoice_grace") is not None:
        given["invoice_grace_us"] = parse_span_us(options["invoice_grace"], field="--invoice-grace")
    given["data"] = Path(given.get("data", "~/.headframe")).expanduser().absolute()
    if given.get("isolation", "preferred") not in ("preferred", "required"):
        raise Invalid(
            f"isolation is {given['isolation']!r}.", field="isolation", allowed="preferred or required"
        )  # fmt: skip
    return Settings(**given)
