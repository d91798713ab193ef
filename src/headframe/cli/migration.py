"""Commands for those who come from Slurm: their scripts as job files, and the commands that they know."""

from __future__ import annotations

import os
import shlex
import stat
import sys
from pathlib import Path
from typing import Any

import click

from headframe.base.errors import Invalid
from headframe.cli import printing
from headframe.cli.options import SETTINGS, Session, common, group, part
from headframe.cli.printing import Column

SHIMS = ("squeue", "sinfo", "scancel")
LEFT = (
    Column("LINE", lambda row: row["line"] or "", right=True),
    Column("WHAT", lambda row: row["text"]),
    Column("WHY", lambda row: row["why"], wrap=True),
)


@group("headframe import sbatch train.sbatch -o train.yaml")
def imports() -> None:
    """Bring scripts of other schedulers over as job files."""


globals()["import"] = imports  # the name of the command, which Python does not allow as a name


@part(imports, "sbatch", "headframe import sbatch train.sbatch -o train.yaml", "headframe import sbatch - --json")
@click.argument("script", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("-o", "--output", metavar="FILE", type=click.Path(dir_okay=False), help="Write the job file here.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@common
def import_sbatch(session: Session, script: str, output: str | None, force: bool) -> None:
    """Make a job file of an sbatch script, and say what it could not carry over, line by line.

    Needs no server. The job file goes to standard output unless -o names a file; what was left goes to standard error.
    """
    from headframe.console.job_document import yaml_of
    from headframe.workloads.sbatch import as_mapping, carry

    found = as_mapping(carry(_text(script)))
    text = yaml_of(found["job"])
    if output is not None:
        if os.path.exists(output) and not force:
            raise click.UsageError(f"{output} is there already. Name another file, or add --force.")
        Path(output).write_text(text, encoding="utf-8")
    if session.json:
        printing.as_json({**found, "yaml": text})
        return
    if output is None:
        printing.say(text.rstrip("\n"))
    else:
        printing.note(f"{output} is written. Next: headframe plan {shlex.quote(output)}")
    if found["left"] and not session.quiet:
        printing.note("Not carried over, or otherwise here:")
        for row in found["left"]:
            place = f"{script}:{row['line']}: " if row["line"] else ""
            printing.note(printing.safe(f"  {place}{row['text']}\n      {row['why']}"))


def _text(script: str) -> str:
    try:
        raw = sys.stdin.buffer.read() if script == "-" else Path(script).read_bytes()
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Invalid(f"{script} is not text.", field="script", allowed="an sbatch script in UTF-8") from None


@click.group(context_settings=SETTINGS, epilog="\b\nExample:\n  headframe shim install ~/.local/bin")
def shim() -> None:
    """Answer as Slurm's squeue, sinfo and scancel do, so that scripts go on working."""


@shim.command("install", epilog="\b\nExample:\n  headframe shim install ~/.local/bin", context_settings=SETTINGS)
@click.argument("folder", type=click.Path(file_okay=False))
@click.option("--force", is_flag=True, help="Write over what is there.")
@common
def install(session: Session, folder: str, force: bool) -> None:
    """Put squeue, sinfo and scancel into a folder of your PATH."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    there = [name for name in SHIMS if (place / name).exists() or (place / name).is_symlink()]
    if there and not force:
        raise click.UsageError(f"{', '.join(there)} is in {folder} already. Add --force to write over it.")
    ours = shlex.join([sys.executable, "-m", "headframe.cli.main"])
    for name in SHIMS:
        (place / name).unlink(missing_ok=True)
        (place / name).write_text(f'#!/bin/sh\nexec {ours} shim {name} "$@"\n')
        (place / name).chmod(stat.S_IRWXU | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH)
    rows = [str(place / name) for name in SHIMS]
    if session.json:
        printing.as_json(rows)
        return
    for row in rows:
        printing.say(row)
    if str(place.absolute()) not in os.environ.get("PATH", "").split(os.pathsep):
        printing.note(f'{place} is not in your PATH: export PATH="{place.absolute()}:$PATH"')


def _of_slurm(name: str, text: str) -> None:
    """A command whose options are Slurm's, not click's."""

    def run(words: tuple[str, ...]) -> Any:
        from headframe.cli import shims

        return getattr(shims, name)(list(words))

    run.__doc__ = text
    settings = {
        **SETTINGS,
        "ignore_unknown_options": True,
        "allow_interspersed_args": False,
        "help_option_names": ["--help"],
    }
    words = click.Argument(["words"], nargs=-1, type=click.UNPROCESSED, metavar="[OPTIONS]")
    example = {"squeue": "squeue --me -h -o '%i %T'", "sinfo": "sinfo -N", "scancel": "scancel --name train-7b"}[name]
    shim.add_command(
        click.Command(
            name,
            callback=run,
            params=[words],
            help=text,
            context_settings=settings,
            epilog=f"\b\nExample:\n  headframe shim {example}",
        )
    )


_of_slurm(
    "squeue",
    "List jobs that wait and run, as Slurm's squeue prints them: -u -j -h -o -t -p -n -A -w -l --me --json. "
    "SQUEUE_FORMAT is heeded.",
)
_of_slurm(
    "sinfo",
    "List clusters as partitions with the states of their nodes, as Slurm's sinfo prints them: -h -o -p -n -t -N -s -R "
    "--json. SINFO_FORMAT is heeded.",
)
_of_slurm(
    "scancel", "End jobs by id, name or user, as Slurm's scancel does: -n -u -t -p -A -w -s (TERM or KILL) -q -v --me."
)
