"""The demonstration with Slurm: the same job on this machine and on a Slurm cluster, side by side, on one bill.

The cluster is a throwaway one of real daemons on this machine, with pretended GPUs; it ends with the demonstration.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headframe.base.errors import DemoFailed
from headframe.cli import demo_checks as checks
from headframe.cli import printing
from headframe.cli.demo_server import Card, Server, environment, program, stop_older, until
from headframe.cli.throwaway_slurm import SlurmCluster, missing

if TYPE_CHECKING:
    from rich.console import Console

    from headframe.client import Client

DATA = "~/.headframe-demo-slurm"
CREDIT = "25 USD"
STEPS = 40
RUN = """
at=$(ls "$HEADFRAME_CHECKPOINTS" | sort -n | tail -n 1); at=${at%.json}; at=${at:-0}
echo "attempt $HEADFRAME_ATTEMPT goes on from step $at with GPU $CUDA_VISIBLE_DEVICES on $HEADFRAME_HOSTS"
while [ "$at" -lt STEPS ]; do
  at=$((at + 1)); echo "$at" > "$HEADFRAME_CHECKPOINTS/$at.json"
  if [ "$at" = 23 ] && [ "$HEADFRAME_ATTEMPT" = 1 ]; then echo "failing on purpose"; exit 1; fi
  sleep 0.05
done
echo "done at step $at"
""".replace("STEPS", str(STEPS))
Row = dict[str, Any]


def main(data: str | None, once: bool) -> int:
    """Run it; everything ends with it. 0 only when all that it shows was right."""
    from rich.console import Console

    if why := missing():
        raise DemoFailed(
            f"{why[0].upper()}{why[1:]}.", next_step="Run `make setup` as root, or the demo without Slurm."
        )
    folder = Path(data or DATA).expanduser().absolute()
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    screen = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    place = Path(tempfile.mkdtemp(prefix="headframe-slurm-"))
    cluster, card, server = SlurmCluster(place), Card(folder), Server(folder)
    try:
        with screen.status("starting a Slurm of four nodes"):
            cluster.start()
        _Sides(screen, folder, cluster, card, server).run()
    finally:
        server.stop()
        cluster.end()
        shutil.rmtree(place, ignore_errors=True)
    if not once:
        screen.print("The server and the Slurm have ended; nothing goes on.")
    return 0


class _Sides:
    """The steps. Each prints what it did and raises `DemoFailed` when something is not as it must be."""

    def __init__(self, screen: Console, data: Path, cluster: SlurmCluster, card: Card, server: Server) -> None:
        self.screen, self.data, self.cluster, self.card, self.server = screen, data, cluster, card, server
        self.began = self.told = time.monotonic()
        self.client: Client

    def did(self, text: str) -> None:
        now = time.monotonic()
        self.screen.print(f"  ✓ {now - self.told:5.1f} s  ", style="green", end="")
        self.screen.print(text)
        self.told = now

    def must(self, true: bool, otherwise: str) -> None:
        if not true:
            raise DemoFailed(f"This did not come out right: {otherwise}.")

    def run(self) -> None:
        from headframe.client import Client

        self.screen.print("Headframe: this machine and a Slurm cluster become one cloud", style="bold")
        self.did(
            f"a Slurm of {len(self.cluster.nodes)} nodes with 8 pretended H100 each runs below {self.cluster.root}"
        )
        stop_older(self.data)
        (self.data / "clusters.yaml").write_text(
            f"lab: {{engine: slurm, region: north, conf: {self.cluster.conf}, ear: localhost, pretended: true}}\n"
        )
        self.server.start()
        if self.server.first_key:
            self.card.save(demo="yes", operator_key=self.server.first_key)
        with Client(self.server.url, self.card.fields["operator_key"]) as operator:
            nodes = len(self.cluster.nodes) + 1
            until(lambda: len([one for one in operator.nodes() if one["state"] == "ready"]) >= nodes, 30, "All nodes")
            key = self._member(operator)
        self.did(f"a server at {self.server.url} with two clusters: local and lab")
        self.client = Client(self.server.url, key)
        try:
            self._command("nodes")
            jobs = self._jobs()
            self._bill(jobs)
        finally:
            self.client.close()
        seconds = time.monotonic() - self.began
        self.screen.print(f"\nAll of it was checked and came out right, in {seconds:.1f} s.", style="bold green")

    def _member(self, operator: Client) -> str:
        """A new organization that pays in advance, so that its bill holds this run alone; its owner's key."""
        house = operator.create_organization(
            name=f"two-sides-{int(time.monotonic() * 1000)}", owner="ada", prepaid=True
        )
        operator.add_credit(house["id"], CREDIT, "demonstration")
        owner = operator.members(organization=house["id"])[0]
        return str(operator.create_key(name="demo", member=owner["id"])["key"])

    def _jobs(self) -> list[Row]:
        job = {
            "run": RUN, "resources": {"gpu": "H100:1", "cpu": 1, "memory": "64MB"},
            "checkpoints": {"path": "ckpt", "keep": 3}, "retry": {"on": ["error"], "max": 1},
        }  # fmt: skip
        submitted = [
            self.client.submit({**job, "name": f"steps-on-{cluster}", "clusters": [cluster]})
            for cluster in ("local", "lab")
        ]
        self.did("submitted the same job twice: to local and to lab; each fails once, on purpose")
        found = [self.client.wait(one["id"]) for one in submitted]
        for one in found:
            text = checks.text_of(self.client.logs(one["id"]))
            story = self.client.story(one["id"])
            self.must(one["state"] == "succeeded", f"{one['name']} {one['state']}: {text[-300:]}")
            outcomes = [attempt["outcome"] for attempt in story["attempts"]]
            self.must(outcomes == ["error", "succeeded"], f"the attempts of {one['name']}: {outcomes}")
            self.must(f"done at step {STEPS}" in text and "from step 23" in text, f"{one['name']} said {text[-300:]}")
            self.screen.print(f"\n{one['name']}", style="bold")
            for line in text.splitlines():
                self.screen.print(f"          │ {printing.safe(line)}", style="dim")
        self.screen.print()
        self.told = time.monotonic()
        self.did("both failed at step 23, went on from their newest checkpoint by themselves, and succeeded")
        return found

    def _bill(self, jobs: list[Row]) -> None:
        ours = [one["id"] for one in jobs]

        def settled() -> bool:
            return all(held["settled"] for one in ours for held in self.client.story(one)["allocations"])

        until(settled, 30, "The metering of both jobs")
        self._command("jobs")
        self._command("invoices", "--draft")
        draft, prices = self.client.draft_invoice(), self.client.prices()
        stories = [self.client.story(one) for one in ours]
        again = sum(one.amount_nano for one in checks.bill(stories, prices) if one.month == draft["month"])
        self.must(again == draft["total_nano"], f"the invoice says {draft['total_nano']}, worked out is {again}")
        self.screen.print()
        self.told = time.monotonic()
        self.did(f"one bill for both clusters: {printing.money(again, draft['currency'])}, worked out twice, the same")

    def _command(self, *words: str) -> None:
        """Run a command as a person would and show what it prints."""
        self.screen.print(f"\n$ headframe {' '.join(words)}", style="bold")
        sys.stdout.flush()
        where = self.client.where
        shown = subprocess.run(
            program(*words), env=environment(HEADFRAME_URL=where.url, HEADFRAME_KEY=where.key),
            stdin=subprocess.DEVNULL, check=False, timeout=60,
        )  # fmt: skip
        self.must(shown.returncode == 0, f"`headframe {' '.join(words)}` ended with exit code {shown.returncode}")
        self.told = time.monotonic()
