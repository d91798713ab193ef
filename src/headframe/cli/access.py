"""Commands about who calls which server: login, whoami, completion."""

from __future__ import annotations

import os
import sys
from typing import TextIO

import click

from headframe.cli import printing
from headframe.cli.options import Session, command, common

SHELLS = ("bash", "zsh", "fish")


@command("headframe login", "headframe login --url https://gpu.example.org --key-file key.txt")
@click.option("--key-file", type=click.File(), help="Read the key from a file; - is standard input.")
@click.option("--key", help="The key itself; others on this machine may see it in the list of running programs.")
@common
def login(session: Session, key_file: TextIO | None, key: str | None) -> None:
    """Check a key and keep it, with the server's address, for later calls."""
    from headframe.client import Client
    from headframe.client.wire import DEFAULT_URL, save_profile

    url = session.url or os.environ.get("HEADFRAME_URL")
    if not url:
        url = click.prompt("Server", default=DEFAULT_URL, err=True) if sys.stdin.isatty() else DEFAULT_URL
    if key is not None and key_file is not None:
        raise click.UsageError("Give --key or --key-file.")
    if key_file is not None:
        key = key_file.read().strip()
    elif key is not None:
        key = key.strip()
    elif os.environ.get("HEADFRAME_KEY"):
        key = os.environ["HEADFRAME_KEY"]
    elif sys.stdin.isatty():
        key = click.prompt("Key", hide_input=True, err=True).strip()
    else:
        key = sys.stdin.readline().strip()
    if not key:
        raise click.UsageError("There is no key. Pipe it in, or name a --key-file.")
    with Client(url, key) as client:
        found = client.whoami()
        path = save_profile(session.profile or "default", client.where.url, key)
    who = f"{printing.safe(found['member']['name'])} of {printing.safe(found['organization']['name'])}"
    session.done(found["member"], f"Logged in to {client.where.url} as {who}. Saved in {path}.")


@command("headframe whoami")
@common
def whoami(session: Session) -> None:
    """Print who the key speaks for, and what it may do."""
    found = session.client.whoami()
    if session.json:
        printing.as_json(found)
        return
    if session.quiet:
        printing.say(found["member"]["id"])
        return
    project = found["project"]
    printing.facts(
        [
            ("server", f"{session.client.where.url} (from {session.client.where.source})"),
            ("organization", f"{found['organization']['name']} ({found['organization']['id']})"),
            ("member", f"{found['member']['name']} ({found['member']['id']})"),
            ("role", found["member"]["role"]),
            ("key", f"{found['key']['name']} ({found['key']['id']})"),
            ("expires", printing.moment(found["key"]["expires_us"])),
            ("project", project["name"] if project else "all"),
            ("rights", ", ".join(found["rights"])),
        ]
    )


@command('eval "$(headframe completion bash)"', "headframe completion fish > ~/.config/fish/completions/headframe.fish")
@click.argument("shell", type=click.Choice(SHELLS), required=False)
def completion(shell: str | None) -> None:
    """Print the script that completes commands and options in bash, zsh or fish."""
    from click.shell_completion import get_completion_class

    from headframe.cli.main import root

    name = shell or os.path.basename(os.environ.get("SHELL", ""))
    kind = get_completion_class(name) if name in SHELLS else None
    if kind is None:
        raise click.UsageError(f"Name a shell: {', '.join(SHELLS)}.")
    printing.say(kind(root, {}, "headframe", "_HEADFRAME_COMPLETE").source())
