"""What all commands share: the server to call, --json, -q, the example in each help text, questions before they act."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from headframe.cli import printing
from headframe.cli.printing import Column

if TYPE_CHECKING:
    from headframe.client import Client


SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
F = TypeVar("F", bound=Callable[..., Any])


def _tell_wait(why: str) -> None:
    """A command that takes long says why."""
    printing.note(printing.style(f"{printing.safe(why)} Trying again ...", "dim", sys.stderr))


@dataclass
class Session:
    """One command's run: how to print, and the server once it is needed."""

    json: bool = False
    quiet: bool = False
    url: str | None = None
    profile: str | None = None
    _client: Client | None = field(default=None, repr=False)

    @property
    def client(self) -> Client:
        """The SDK's client, loaded at first use."""
        if self._client is None:
            from headframe.client import Client

            self._client = Client(self.url, profile_name=self.profile)
            self._client.wire.tell_wait = _tell_wait
        return self._client

    def rows(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], empty: str, key: str = "id") -> None:
        """A list: as JSON, as ids only, or as a table; `empty` is said when there is nothing."""
        if self.json:
            printing.as_json(rows)
        elif self.quiet:
            for row in rows:
                printing.say(printing.safe(row[key]))
        elif rows:
            printing.table(columns, rows)
        else:
            printing.note(empty)

    def done(self, row: Mapping[str, Any] | None, text: str, key: str = "id") -> None:
        """The result of an act: as JSON, as its id, or as a sentence."""
        if self.json:
            printing.as_json(row if row is not None else {})
        elif self.quiet and row is not None:
            printing.say(printing.safe(row.get(key, "")))
        else:
            printing.say(text)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


def common(function: F) -> F:
    """Give a command --json, -q, --url and --profile, and hand it a `Session` first."""

    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @click.option("-q", "--quiet", is_flag=True, help="Print ids only.")
    @click.option("--url", metavar="URL", help="The server's address (HEADFRAME_URL).")
    @click.option("--profile", metavar="NAME", help="The saved login to use (HEADFRAME_PROFILE).")
    @functools.wraps(function)
    def run(as_json: bool, quiet: bool, url: str | None, profile: str | None, **values: Any) -> Any:
        session = Session(as_json, quiet, url, profile)
        try:
            return function(session, **values)
        finally:
            session.close()

    return cast(F, run)


def command(*examples: str, cls: type[click.Command] = click.Command) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a command whose help ends with examples."""
    return click.command(cls=cls, epilog=_shown(examples), context_settings=SETTINGS)


class Listing(click.Group):
    """A command with commands of its own. Alone, or with options only, it is its first one, which lists."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = [next(iter(self.commands)), *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


def group(*examples: str) -> Callable[[Callable[..., Any]], Listing]:
    """Make a command that has commands of its own, of which the first one lists what there is."""
    return click.group(
        cls=Listing,
        epilog=_shown(examples),
        context_settings=SETTINGS,
    )


def part(parent: click.Group, name: str, *examples: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a command of a command."""
    return parent.command(name, epilog=_shown(examples), context_settings=SETTINGS)


def _shown(examples: Sequence[str]) -> str:
    title = "Examples" if len(examples) > 1 else "Example"
    return f"\b\n{title}:\n" + "\n".join(f"  {line}" for line in examples)


def confirm(question: str, yes: bool) -> None:
    """Ask before what cannot be undone; without a terminal to ask on, --yes is needed."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} Add --yes to say so.")
    click.confirm(question, abort=True, err=True)


def pairs(values: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE texts as a table; NAME alone takes the value of this environment."""
    import os

    found: dict[str, str] = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not equals:
            if name not in os.environ:
                raise click.UsageError(
                    f"--env {name} has no value and {name} is not set here. Write --env {name}=VALUE."
                )
            value = os.environ[name]
        found[name] = value
    return found
