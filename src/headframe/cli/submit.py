"""Commands that ask for a job: submit and plan."""

from __future__ import annotations

import shlex
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

from headframe.base.quantities import format_mib
from headframe.cli import exits, printing
from headframe.cli.jobs import compare
from headframe.cli.options import Session, command, common, pairs
from headframe.cli.printing import Column

F = TypeVar("F", bound=Callable[..., Any])
_WORDS_KEY = "headframe.command"
SLICES = (
    Column("TASK", lambda row: row["rank"], right=True),
    Column("NODE", lambda row: row["node_id"], whole=True),
    Column("GPU", lambda row: _shares(row["shares"])),
    Column("CPU", lambda row: printing.milli(row["cpu_milli"]), right=True),
    Column("MEMORY", lambda row: format_mib(row["memory_mib"]), right=True),
)
_PLACES = {
    "gpu": "resources.gpu", "cpu": "resources.cpu", "memory": "resources.memory", "nodes": "nodes", "name": "name",
    "image": "image", "python": "python", "package": "packages", "max_duration": "max_duration", "budget": "budget",
    "purchase": "purchase", "reservation": "reservation",
}  # fmt: skip


class WithCommand(click.Command):
    """A command that keeps apart what stands behind `--`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            place = args.index("--")
            ctx.meta[_WORDS_KEY] = args[place + 1 :]
            args = args[:place]
        return super().parse_args(ctx, args)


def of_the_job(function: F) -> F:
    """The options that say what a job is; each goes before the same field of the job file."""
    options = (
        click.argument("job_file", required=False, metavar="[FILE] [-- COMMAND]"),
        click.option("-f", "--file", "file_option", metavar="FILE", help="The job file; - reads standard input."),
        click.option("--name", help="What the job is called."),
        click.option("--project", help="The project it belongs to."),
        click.option("--gpu", metavar="GPUS", help="GPUs for each node, such as H100:8 or 0.5."),
        click.option("--cpu", metavar="CORES", help="CPU cores for each node, such as 4 or 4..8."),
        click.option("--memory", metavar="SIZE", help="Memory for each node, such as 16GB."),
        click.option("--nodes", metavar="COUNT", help="Tasks that start together, such as 2."),
        click.option("--image", help="The container image."),
        click.option("--python", metavar="VERSION", help="The version of Python of its environment."),
        click.option("--package", multiple=True, metavar="PACKAGE", help="A Python package (may be repeated)."),
        click.option("--max-duration", metavar="TIME", help="The longest that it may run, such as 2h."),
        click.option("--purchase", metavar="CLASS", help="on-demand, reserved, spot or filler."),
        click.option("--reservation", metavar="NAME", help="The reservation that it runs in."),
        click.option("--budget", metavar="AMOUNT", help="The most it may cost, such as '50 USD'."),
        click.option("-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="A variable (may be repeated)."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@command(
    "headframe submit job.yaml --env HF_TOKEN",
    "headframe submit --gpu H100:1 --files . -- python train.py",
    cls=WithCommand,
)
@of_the_job
@click.option("--files", metavar="FOLDER", help="Upload this folder as the working folder (without .gitignore's).")
@click.option("--follow", is_flag=True, help="Print the log until the job ends; the exit code is the job's.")
@common
def submit(session: Session, files: str | None, follow: bool, **options: Any) -> int:
    """Submit a job: a job file, or a command after --."""
    source, env, project = _asked(options)
    with printing.progress() as tell:
        job = session.client.submit(source, files=files, project=project, env=env, progress=tell)
    if session.json:
        printing.as_json(job)
    elif session.quiet:
        printing.say(job["id"])
    elif follow:
        printing.note(f"Submitted {job['id']} ({job['name']}).")
    else:
        printing.say(f"Submitted {job['id']} ({job['name']}), {job['state']}.")
        if sys.stdout.isatty():
            printing.note(f"Follow it: headframe logs -f {job['id']}")
    return _follow(session, job["id"]) if follow else 0


@command("headframe plan job.yaml", "headframe plan --gpu A100:8 -- true", cls=WithCommand)
@of_the_job
@common
def plan(session: Session, **options: Any) -> int:
    """Would it run, where, when, what would it cost, and why not? Nothing is submitted."""
    source, env, project = _asked(options)
    found = session.client.plan(source, project=project, env=env)
    if session.json:
        printing.as_json(found)
    else:
        _print_plan(found)
    return exits.code_of_text(found["code"]) if found["would"] == "be_refused" else 0


def _shares(shares: Sequence[Mapping[str, Any]]) -> str:
    """`H100:2`, with fractions added up, for each kind."""
    held: dict[str, int] = {}
    for one in shares:
        held[one["kind"]] = held.get(one["kind"], 0) + one["milli"]
    return ", ".join(f"{kind}:{printing.milli(milli)}" for kind, milli in held.items())


def _print_plan(found: Mapping[str, Any]) -> None:
    """The sentence first, then when, where and what it costs."""
    printing.paragraph(found["text"])
    if found.get("next_step"):
        printing.paragraph(found["next_step"])
    currency = found.get("currency", "USD")
    printing.facts(
        [
            ("would", found["would"].replace("_", " ")),
            ("starts", printing.moment(found.get("starts_us"))),
            ("costs per hour", printing.money(found.get("per_hour_nano"), currency)),
            ("costs at most", printing.money(found.get("most_nano"), currency)),
        ]
    )
    if found.get("slices"):
        printing.heading("Where")
        printing.table(SLICES, found["slices"])
    if found.get("waiting"):
        printing.heading("Why it would wait")
        printing.document(found["waiting"], leave_out=("text", "clusters"))
    places = found.get("clusters") or (found.get("waiting") or {}).get("clusters")
    if places:
        compare(places, currency)


def _asked(options: Mapping[str, Any]) -> tuple[Any, dict[str, str], str | None]:
    """(the job file, or a document of it with the options laid over, variables, project)."""
    env = pairs(options["env"])
    words: list[str] = click.get_current_context().meta.get(_WORDS_KEY, [])
    file = options["file_option"] or options["job_file"]
    if options["file_option"] and options["job_file"]:
        raise click.UsageError(f"Two job files are named: {options['file_option']} and {options['job_file']}.")
    if not file and not words:
        raise click.UsageError("Name a job file, or put a command after --, such as: headframe submit -- echo hello")
    over = {name: options[name] for name in _PLACES if options[name] not in (None, ())}
    if words:
        # One word is shell text as it stands; several are the words of a command.
        over["run"] = words[0] if len(words) == 1 else shlex.join(words)
    return _laid(file, over), env, options["project"]


def _laid(file: str | None, over: Mapping[str, Any]) -> Any:
    """The document of the file (or an empty one) with the options in the place of its fields."""
    from headframe.client import Source

    found = Source.of(file if file else {})
    document = dict(found.document)
    for name, value in over.items():
        table, dot, last = _PLACES.get(name, name).rpartition(".")
        plain: Any = list(value) if isinstance(value, tuple) else value
        inner = document.get(table)
        if dot and (inner is None or isinstance(inner, dict)):
            document[table] = {**(inner or {}), last: plain}
        elif not dot:
            document[last] = plain
    return Source(document, found.lines, found.base, found.name)


def _follow(session: Session, job: str) -> int:
    """The log until the end, with what happens to the job beside it on a terminal."""
    from headframe.cli.jobs import why
    from headframe.cli.logs import Lines, said_by

    found = session.client.job(job)
    bar = printing.Bar()
    if sys.stderr.isatty() and not session.json:
        threading.Thread(target=_tell_events, args=(session, job, bar), daemon=True).start()
    lines = Lines(ranks=found["spec"]["nodes_max"] > 1, bar=bar)
    for piece in said_by(session.client, found, follow=True):
        lines.add(piece)
    lines.end()
    # A parent ends right after the last of its jobs.
    ended = session.client.wait(job)
    printing.note(f"{ended['id']} ({ended['name']}) {ended['state']}{why(ended)}.")
    return exits.of_job(ended)


def _tell_events(session: Session, job: str, bar: printing.Bar) -> None:
    """What the server does meanwhile (such as building an environment), a dim line each, until the job runs."""
    from headframe.base.errors import HeadframeError

    try:
        for event in session.client.follow_events(after=0, subject=job):
            if event["reason"] and not event["kind"].startswith("allocation_"):
                bar.clear()
                printing.note(printing.style(f"· {printing.safe(event['reason'])}", "dim", sys.stderr))
            if event["kind"] == "job_running":
                return
    except (HeadframeError, RuntimeError):
        return  # the log says what matters; this was only beside it
