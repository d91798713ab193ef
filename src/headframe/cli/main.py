"""The entry: finds a command, runs it, and turns an error into a line of cause, one of what to do, and an exit code."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import click

from headframe import __version__
from headframe.base.errors import HeadframeError, Unauthenticated
from headframe.cli import exits, printing
from headframe.cli.options import SETTINGS

# Which module of this folder holds a command. Read only when that command is run, so that each starts fast.
COMMANDS: dict[str, dict[str, str]] = {
    "Server": {"serve": "server", "demo": "server", "migrate": "server", "sim": "sim", "bench": "bench",
               "doctor": "doctor"},
    "Access": {"login": "access", "whoami": "access", "completion": "access"},
    "Jobs": {
        "submit": "submit", "plan": "submit", "jobs": "jobs", "queue": "queue", "show": "story", "logs": "logs",
        "stop": "jobs", "wait": "jobs", "events": "logs", "metrics": "metrics", "outputs": "files", "datasets": "files",
    },
    "Fleet": {"clusters": "fleet", "nodes": "fleet", "node": "fleet", "gpus": "fleet", "drain": "fleet",
              "resume": "fleet", "label": "fleet", "taint": "fleet",
              "reservations": "reservations", "storage": "storage"},
    "Slurm": {"import": "migration", "shim": "migration"},
    "Money": {"prices": "money", "usage": "spend", "cheaper": "spend", "meters": "metering", "contracts": "contracts",
              "rates": "contracts", "charges": "money", "budget": "money", "credits": "money",
              "invoices": "invoices", "export": "invoices", "ledger": "invoices",
              "audit": "invoices", "example": "example"},
    "Tenants": {
        "orgs": "tenancy", "projects": "tenancy", "members": "tenancy", "keys": "tenancy", "quotas": "limits",
        "secrets": "limits",
    },
}  # fmt: skip
_WHERE = {name: module for group in COMMANDS.values() for name, module in group.items()}


class Root(click.Group):
    """All commands, each loaded when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_WHERE)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _WHERE:
            return None
        found: click.Command = getattr(import_module(f"headframe.cli.{_WHERE[cmd_name]}"), cmd_name)
        return found

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(args[0], _WHERE, n=1)
            hint = f" Did you mean {near[0]}?" if near and "Did you mean" not in error.message else ""
            raise click.UsageError(f"{error.message.rstrip('.')}.{hint}", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, group in COMMANDS.items():
            rows = []
            for name in group:
                command = self.get_command(ctx, name)
                assert command is not None
                rows.append((name, command.get_short_help_str(120)))
            with formatter.section(title):
                formatter.write_dl(rows)


@click.group(
    cls=Root,
    context_settings=SETTINGS,
    epilog="\b\nExit codes:\n"
    + exits.described()
    + "\n\n\b\nExample:\n  headframe submit --gpu H100:1 -- python train.py",
)
@click.version_option(__version__, prog_name="headframe")
def root() -> None:
    """Headframe: your machines as a GPU cloud."""


def main(args: list[str] | None = None) -> int:
    """Run one command and return its exit code. The entry of the `headframe` command."""
    try:
        code = root.main(args, prog_name="headframe", standalone_mode=False)
        sys.stdout.flush()
    except HeadframeError as error:
        _tell(error)
        return exits.code_of(error)
    except click.exceptions.Abort:
        printing.note("")
        return exits.INTERRUPTED
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        # The reader went away, as `head` does. What is still buffered goes nowhere, and nobody need hear of it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.BROKEN_PIPE
    except OSError as error:
        printing.note(
            f"{printing.style('Error:', 'red', sys.stderr)} {error.strerror or error}: {error.filename or ''}"
        )
        return 1
    return code if isinstance(code, int) else 0


def _tell(error: HeadframeError) -> None:
    """A line of cause for each fault, and what to do next, on standard error."""
    told: Any = error.details.get("errors")
    several = isinstance(told, list) and len(told) > 1 and all(isinstance(each, dict) for each in told)
    faults: list[dict[str, Any]] = told if several else [{**error.details, "message": error.message}]
    file = error.details.get("file")
    for fault in faults:
        line = fault.get("line")
        place = f"{file or 'job file'}:{line}: " if line else f"{file}: " if file else ""
        message, field = str(fault.get("message", "")), str(fault.get("field", ""))
        text = printing.safe(f"{place}{f'{field}: ' if place and field not in message else ''}{message}")
        allowed = printing.safe(fault.get("next_step")) if several else ""
        printing.note(f"{printing.style('Error:', 'red', sys.stderr)} {text}{f' {allowed}' if allowed else ''}")
    next_step = "" if several else error.next_step
    if isinstance(error, Unauthenticated):
        next_step = "Sign in with `headframe login`, or set HEADFRAME_URL and HEADFRAME_KEY."
    if next_step:
        printing.note(f"{printing.style('Next:', 'bold', sys.stderr)}  {printing.safe(next_step)}")


if __name__ == "__main__":
    sys.exit(main())
