# python scripts/reference.py [--check]
"""Write docs/reference from the code: job file, commands, HTTP API, settings, states, errors, variables of a job.

`--check` writes nothing and exits 1 when a page differs from what the code says.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "docs" / "reference"
NOTE = "<!-- Made by scripts/reference.py: change the code, not this page. -->"


def table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table; bars inside cells are escaped."""
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines
    )


def job_file() -> str:
    from headframe.workloads.registry import fields as job_fields

    rows = [
        (f"`{one.name}`", one.form, "required" if one.required else one.default, one.meaning, f"`{one.example}`")
        for one in job_fields()
    ]  # fmt: skip
    intro = (
        "A job file is YAML; the same shape goes to the API as JSON. Unknown fields, bare numbers where a unit is "
        "needed, and contradictions are refused with the field, the value, what is allowed and the line."
    )
    return f"# The job file\n\n{intro}\n\n" + table(("field", "form", "default", "meaning", "example"), rows)


def commands() -> str:
    import click

    from headframe.cli.main import COMMANDS, root

    parts = ["# Commands\n\nEvery command knows `--help`; those that read know `--json` and `-q`."]
    parts.append(str(root.epilog or "").replace("\b\n", "").split("\n\n")[0].replace("\n  ", "\n- "))
    for group, names in COMMANDS.items():
        parts.append(f"## {group}")
        for name in names:
            command = root.get_command(click.Context(root), name)
            assert command is not None
            parts.append(_command(command, f"headframe {name}", 3))
    return "\n\n".join(parts)


def _command(command: Any, path: str, level: int) -> str:
    import click

    context = click.Context(command, info_name=path)
    text = [f"{'#' * level} `{path}`", str(command.help or "").replace("\b\n", "").strip()]
    rows = [
        (f"`{record[0]}`", record[1])
        for parameter in command.get_params(context)
        if (record := parameter.get_help_record(context)) is not None and "--help" not in record[0]
    ]  # fmt: skip
    if rows:
        text.append(table(("option", "meaning"), rows))
    if command.epilog:
        example = command.epilog.replace("\b\n", "").replace("Example:", "").replace("Examples:", "").strip("\n")
        text.append("```\n" + "\n".join(line.strip() for line in example.splitlines() if line.strip()) + "\n```")
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            text.append(_command(below, f"{path} {name}", level + 1))
    return "\n\n".join(part for part in text if part)


def http_api() -> str:
    from headframe.api.app import create_app

    nobody: Any = None
    document = create_app(nobody, clock=nobody, ids=nobody).openapi()
    rows = []
    for path, methods in sorted(document["paths"].items()):
        for method, operation in methods.items():
            query = ", ".join(f"`{one['name']}`" for one in operation.get("parameters", []) if one["in"] == "query")
            rows.append((f"`{method.upper()} {path}`", operation.get("description", "").split("\n")[0], query))
    intro = (
        "The server describes itself at `/openapi.json`. Keys go in `Authorization: Bearer hf_...`. Lists answer "
        '`{"items": [...], "next": cursor}`; errors are RFC 9457 problem documents with a stable `code`; a POST with '
        "an `Idempotency-Key` is carried out once; edits take `If-Match`. Integers carry their unit in the name: "
        "`_us` microseconds, `_mib` MiB, `_milli` thousandths, `_nano` nano-units of the currency."
    )
    return f"# HTTP API\n\n{intro}\n\n" + table(("route", "what it does", "query"), rows)


def settings() -> str:
    from headframe.settings import Settings, meanings

    told = meanings()
    rows = [
        (f"`--{one.name.removesuffix('_mib').replace('_', '-')}`", str(one.default), told[one.name])
        for one in fields(Settings)
    ]
    return "# Settings of the server\n\nOptions of `headframe serve`.\n\n" + table(
        ("option", "default", "meaning"), rows
    )


def states() -> str:
    from headframe.jobs.states import MOVES

    lines = ["stateDiagram-v2", "    [*] --> queued", "    [*] --> pending"]
    rows = []
    for state, moves in MOVES.items():
        for to, when in moves.items():
            lines.append(f"    {state} --> {to}")
            rows.append((state.value, to.value, when))
        if not moves:
            lines.append(f"    {state} --> [*]")
    drawing = "\n".join(lines)
    return f"# States of a job\n\n```mermaid\n{drawing}\n```\n\n" + table(("from", "to", "when"), rows)


def errors() -> str:
    from headframe.base import errors as tree
    from headframe.cli.exits import code_of_text

    def below(kind: type[tree.HeadframeError]) -> Iterator[type[tree.HeadframeError]]:
        yield kind
        for child in kind.__subclasses__():
            yield from below(child)

    known = {kind.code: kind for kind in reversed(list(below(tree.HeadframeError))) if kind.__module__ == tree.__name__}
    rows = [
        (f"`{code}`", str(kind.status), str(code_of_text(code)), " ".join((kind.__doc__ or "").split()))
        for code, kind in sorted(known.items())
    ]
    return "# Error codes\n\n" + table(("code", "HTTP status", "exit code", "meaning"), rows)


def variables() -> str:
    from headframe.engines.variables import Places, hostfile, hosts_of, slurm_twins
    from headframe.engines.variables import variables as set_variables
    from headframe.fleet.engine_words import Launch
    from headframe.fleet.records import Share, Slice

    share = Share("acc_a", 0, "H100", 1000)
    slices = tuple(Slice(rank, "nod_a", 1000, 1024, 0, (share,)) for rank in range(2))
    launch = Launch(
        "alc_x.1", 1, "job_x", "train", "org_x", 1, "prj_x", slices, {}, env={"HEADFRAME_PROJECT": "default"}
    )
    places = Places("/w", "/c", "/o", "/d", "/h", "/e", "/c/step-100")
    hosts = hosts_of(launch, {})
    assert hostfile(launch, hosts)
    found = set_variables(
        launch, 1, places, hosts=hosts, port=29500, devices={"acc_a": "0"}, fake=False, path="/usr/bin"
    )
    rows = [(f"`{name}`", f"`{value}`") for name, value in sorted(found.items())]
    twins = slurm_twins(launch, 1, {**found, "HEADFRAME_ARRAY_INDEX": "7"})
    others = [(f"`{name}`", f"`{value}`") for name, value in sorted(twins.items())]
    slurm = (
        "\n\n## What Slurm calls the same\n\nSet besides, so that scripts written for Slurm go on working; a job's own "
        "`env` goes before them. They are the same on every cluster, a Slurm cluster too (but for "
        "`SLURM_JOB_GPUS`, and the hosts where Slurm chooses the nodes). `SLURM_ARRAY_TASK_ID` is for jobs of an "
        "array.\n\n"
    )
    intro = (
        "Set in every task, here as rank 1 of a gang of two with one accelerator each would see them. Jobs of an array "
        "find their index in `HEADFRAME_ARRAY_INDEX`; where accelerators are pretended, `HEADFRAME_FAKE_GPUS` is 1."
    )
    head = ("variable", "for example")
    return f"# Variables of a job\n\n{intro}\n\n{table(head, rows).rstrip()}{slurm}{table(head, others)}"


PAGES = {
    "job-file": job_file,
    "commands": commands,
    "http-api": http_api,
    "settings": settings,
    "states": states,
    "errors": errors,
    "variables": variables,
}


def main() -> int:
    check, stale = "--check" in sys.argv, []
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, make in PAGES.items():
        page, text = FOLDER / f"{name}.md", f"{NOTE}\n\n{make()}\n"
        if not page.exists() or page.read_text() != text:
            stale.append(name)
            if not check:
                page.write_text(text)
    if stale:
        print(("differs from the code: " if check else "wrote: ") + ", ".join(stale))
    return 1 if check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
