"""Commands about files: what jobs left, and datasets."""

from __future__ import annotations

import click

from headframe.base.quantities import counted
from headframe.cli import printing
from headframe.cli.options import Session, command, common, group, part
from headframe.cli.printing import Column

OUTPUTS = (
    Column("FILE", lambda row: row["path"], whole=True),
    Column("SIZE", lambda row: printing.size(row.get("size", row.get("size_bytes"))), right=True),
    Column("WRITTEN", lambda row: printing.moment(row.get("modified_us"))),
)
DATASETS = (
    Column("DATASET", lambda row: f"{row['name']}@{row['number']}", whole=True),
    Column("SIZE", lambda row: printing.size(row["size_bytes"]), right=True),
    Column("FILES", lambda row: row["files"], right=True),
    Column("CREATED", lambda row: printing.age(row["created_us"])),
    Column("LIVES IN", lambda row: f"{', '.join(row['lives_in'])}{' (stays)' if row['stays'] else ''}", spare=True),
    Column("ID", lambda row: row["id"], whole=True),
)


@command("headframe outputs train-7b", "headframe outputs train-7b --download results model.pt")
@click.argument("job")
@click.argument("path", nargs=-1)
@click.option("--download", metavar="FOLDER", type=click.Path(file_okay=False), help="Bring them into this folder.")
@common
def outputs(session: Session, job: str, path: tuple[str, ...], download: str | None) -> None:
    """List or download what a job left in $HEADFRAME_OUTPUTS and its checkpoints."""
    found = session.client.job(job)["id"]
    if download is None:
        rows = [row for row in session.client.outputs(found) if not path or row["path"] in path]
        session.rows(rows, OUTPUTS, "" if rows else _none(session, found), key="path")
        return
    with printing.progress() as tell:
        places = session.client.download(found, download, list(path) or None, tell)
    if session.json:
        printing.as_json([str(place) for place in places])
        return
    for place in places:
        printing.say(printing.safe(place))
    if not places:
        printing.note(_none(session, found))


def _none(session: Session, job_id: str) -> str:
    """Why there is nothing."""
    return session.client.removal_of(job_id) or "The job left no files."


@group("headframe datasets", "headframe datasets push wiki-en ./wiki")
def datasets() -> None:
    """Datasets: named folders of files in numbered versions."""


@part(datasets, "list", "headframe datasets list --name wiki-en")
@click.option("--name", help="Only this one's versions.")
@click.option("--project", help="Only this project's.")
@common
def list_datasets(session: Session, name: str | None, project: str | None) -> None:
    """List datasets and their versions."""
    rows = session.client.datasets(name=name, project=project)
    session.rows(rows, DATASETS, "No datasets. Make one: headframe datasets push NAME FOLDER")


@part(datasets, "push", "headframe datasets push wiki-en ./wiki",
      "headframe datasets push scans ./scans --in north --stays")  # fmt: skip
@click.argument("name")
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@click.option("--project", help="The project it belongs to.")
@click.option("--in", "lives_in", metavar="PLACE", multiple=True,
              help="A cluster, region or label where it is near: jobs that read it go there first.")  # fmt: skip
@click.option("--stays", is_flag=True, help="Jobs that read it run nowhere else.")
@common
def push_dataset(
    session: Session, name: str, folder: str, project: str | None, lives_in: tuple[str, ...], stays: bool
) -> None:
    """Upload a folder as the next version of a dataset."""
    with printing.progress() as tell:
        row = session.client.push_dataset(name, folder, project, tell, lives_in=lives_in, stays=stays)
    many = counted(row["files"], "file")
    session.done(row, f"{row['name']}@{row['number']}: {many}, {printing.size(row['size_bytes'])}.")
