"""Commands that run a server, the demonstration and migrations. They run here, not on a server."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import click

from headframe.cli.options import command

_DATA = click.option(
    "--data",
    metavar="FOLDER",
    envvar="HEADFRAME_DATA",
    help="The data folder (HEADFRAME_DATA) [default: ~/.headframe].",
)
_STORE = click.option(
    "--store-url", metavar="URL", envvar="HEADFRAME_STORE_URL", help="PostgreSQL instead of the embedded store."
)


@command("headframe serve", "headframe serve --fake-gpus H100:8 --port 9000")
@_DATA
@_STORE
@click.option(
    "--host", default="127.0.0.1", show_default=True, envvar="HEADFRAME_HOST", help="The address to listen on."
)
@click.option("--port", default=8470, show_default=True, type=click.IntRange(0, 65535), envvar="HEADFRAME_PORT",
              help="The port; 0 takes a free one.")  # fmt: skip
@click.option("--standby", is_flag=True, envvar="HEADFRAME_STANDBY",
              help="Where another server decides: wait to take over, and pass requests on to it.")  # fmt: skip
@click.option("--advertise", metavar="URL", envvar="HEADFRAME_ADVERTISE",
              help="Where other servers reach this one [default: the address it listens on].")  # fmt: skip
@click.option(
    "--fake-gpus",
    metavar="KIND:COUNT",
    envvar="HEADFRAME_FAKE_GPUS",
    help="Pretend that this machine has these GPUs, such as H100:8.",
)
@click.option(
    "--log-limit",
    metavar="SIZE",
    envvar="HEADFRAME_LOG_LIMIT",
    help="The most that one job's log may hold, such as 256MB.",
)
@click.option("--job-disk", metavar="SIZE", envvar="HEADFRAME_JOB_DISK",
              help="The most that one job may write to the disk [default: 100GB].")  # fmt: skip
@click.option("--uploads", metavar="SIZE", envvar="HEADFRAME_UPLOADS",
              help="The most that an organization may upload [default: 200GB].")  # fmt: skip
@click.option("--keep-logs", metavar="SPAN", envvar="HEADFRAME_KEEP_LOGS",
              help="How long logs and working folders of ended jobs are kept, or forever [default: 30d].")  # fmt: skip
@click.option("--keep-files", metavar="SPAN", envvar="HEADFRAME_KEEP_FILES",
              help="How long outputs and checkpoints of ended jobs are kept [default: forever].")  # fmt: skip
@click.option("--keep-environments", metavar="SPAN", envvar="HEADFRAME_KEEP_ENVIRONMENTS",
              help="How long environments are kept that no job uses [default: 14d].")  # fmt: skip
@click.option("--keep-replies", metavar="SPAN", envvar="HEADFRAME_KEEP_REPLIES",
              help="How long a repeated request gets its first answer [default: 1d].")  # fmt: skip
@click.option("--keep-series", metavar="SPAN", envvar="HEADFRAME_KEEP_SERIES",
              help="How long what was measured of ended jobs is kept in full [default: 30d].")  # fmt: skip
@click.option("--keep-outlines", metavar="SPAN", envvar="HEADFRAME_KEEP_OUTLINES",
              help="How long the thinned rest of it is kept [default: 365d].")  # fmt: skip
@click.option("--prune-unpaid", is_flag=True, envvar="HEADFRAME_PRUNE_UNPAID",
              help="Remove logs and files also of jobs for which a bill is open.")  # fmt: skip
@click.option(
    "--invoice-grace",
    metavar="SPAN",
    envvar="HEADFRAME_INVOICE_GRACE",
    help="How long a month stays open for late use, such as 2d [default: 1d].",
)
@click.option("--order", metavar="POLICY", envvar="HEADFRAME_ORDER", help="Who comes first [default: fair].")
@click.option("--half-life", metavar="SPAN", envvar="HEADFRAME_HALF_LIFE",
              help="After how long use is half forgotten [default: 7d].")  # fmt: skip
@click.option("--patience", metavar="SPAN", envvar="HEADFRAME_PATIENCE",
              help="After how long a waiting job counts as of the highest priority [default: 1d].")  # fmt: skip
@click.option("--quantum", metavar="SPAN", envvar="HEADFRAME_QUANTUM",
              help="The least length of a turn, where jobs take turns [default: 1h].")  # fmt: skip
@click.option("--reclaim-after", metavar="SPAN", envvar="HEADFRAME_RECLAIM_AFTER",
              help="How long an owner waits before it takes back its own [default: 30s].")  # fmt: skip
@click.option("--preempt", type=click.Choice(("class", "priority")), default="class", show_default=True,
              envvar="HEADFRAME_PREEMPT", help="Who makes way: a lower class, or a lower priority, too.")  # fmt: skip
@click.option("--prefer", type=click.Choice(("cheapest", "listed", "packed")), default="cheapest", show_default=True,
              envvar="HEADFRAME_PREFER", help="Which cluster comes first for jobs that do not say.")  # fmt: skip
@click.option("--moves", is_flag=True, envvar="HEADFRAME_MOVES",
              help="Move jobs with checkpoints where that makes room for a large one.")  # fmt: skip
@click.option("--clusters", metavar="FILE", envvar="HEADFRAME_CLUSTERS",
              help="The file of further clusters [default: clusters.yaml in the data folder].")  # fmt: skip
@click.option("--metrics", type=click.Choice(("local", "open", "key")), default="local", show_default=True,
              envvar="HEADFRAME_METRICS", help="Who may read /metrics without a key.")  # fmt: skip
@click.option("--isolation", type=click.Choice(("preferred", "required")), default="preferred", show_default=True,
              envvar="HEADFRAME_ISOLATION", help="Whether jobs may run where there is no sandbox.")  # fmt: skip
def serve(**options: Any) -> int:
    """Run a Headframe server on this machine."""
    return _code(import_module("headframe.serving").serve(options))


@command("headframe demo", "headframe demo --once", "headframe demo --slurm")
@click.option("--data", metavar="FOLDER", help="The data folder of the demonstration [default: ~/.headframe-demo].")
@click.option("--once", is_flag=True, help="End when all is checked; the exit code says whether it was right.")
@click.option("--slurm", is_flag=True, help="Show the same job here and on a throwaway Slurm, with one bill.")
def demo(slurm: bool, **options: Any) -> int:
    """Show it all: train, die, resume, restart the server, read the bill."""
    return _code(import_module("headframe.cli.demo_slurm" if slurm else "headframe.cli.demo").main(**options))


@command("headframe migrate", "headframe migrate --store-url postgresql://localhost/headframe")
@_DATA
@_STORE
def migrate(**options: Any) -> int:
    """Bring the store's tables to this version; `serve` does it by itself."""
    return _code(import_module("headframe.compose").migrate(options))


def _code(result: object) -> int:
    sys.stdout.flush()
    return result if isinstance(result, int) else 0
