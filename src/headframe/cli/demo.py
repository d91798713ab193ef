"""The demonstration: a cloud on this machine, a model trained through a failure, a server killed under running jobs,
and a bill that is checked. It uses the SDK and the command line only, as a member of the cloud would."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headframe.base.errors import DemoFailed, HeadframeError
from headframe.base.quantities import format_mib, format_span
from headframe.cli import demo_checks as checks
from headframe.cli import printing
from headframe.cli.demo_life import leave_running
from headframe.cli.demo_server import (
    PRETENDED,
    Card,
    Server,
    agents,
    environment,
    program,
    started_ticks,
    stop_older,
    until,
)

if TYPE_CHECKING:
    from rich.console import Console

    from headframe.client import Client

DATA = "~/.headframe-demo"
ORGANIZATION = "digits-lab"
CREDIT = "25 USD"
ENOUGH_NANO = 2_000_000_000  # credit below which the demonstration pays in once more
EPOCHS, FAIL_AFTER, CHECKPOINT_EVERY = 40, 23, 5
LEAST_ACCURACY = 0.95
LINES = 600
LEAVER_S = 4.0  # how long the job runs that ends while no Headframe is there
PATIENCE_S = 170.0
MOMENT_US = 500_000  # a job's own word on its end and the record of it differ by less: the time of its last step
Row = dict[str, Any]


def main(data: str | None, once: bool) -> int:
    """Run the demonstration; with `once` end its server afterwards. 0 only when all that it shows was right."""
    from rich.console import Console

    folder = Path(data or DATA).expanduser().absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    card = Card(folder)
    server = Server(folder)
    done = False
    try:
        Demo(Console(highlight=False, markup=False, emoji=False, soft_wrap=True), folder, card, server).run(once)
        done = True
    finally:
        if once or not done:
            server.stop()
    return 0


class Demo:
    """The steps, in order. Each prints what it did and raises `DemoFailed` when something is not as it must be."""

    def __init__(self, screen: Console, data: Path, card: Card, server: Server) -> None:
        self.screen, self.data, self.card, self.server = screen, data, card, server
        self.began = self.told = time.monotonic()
        self.jobs: list[Row] = []
        self.client: Client

    def run(self, once: bool) -> None:
        self.screen.print("Headframe: this machine becomes a small GPU cloud", style="bold")
        self.screen.print(f"data in {self.data}", style="dim")
        self.part("A server, and somebody who pays")
        self.open_cloud()
        credit_nano = self.client.balance()["credit_nano"]
        self.part("Training that dies half-way")
        self.train()
        self.part("kill -9 of every Headframe process while jobs run")
        self.survive()
        self.part("What is on record")
        self.record()
        self.part("The bill")
        self.bill(credit_nano)
        self.close(once)
        self.client.close()

    # How it is told

    def part(self, title: str) -> None:
        self.screen.print(f"\n{title}", style="bold")

    def did(self, text: str) -> None:
        """A step that came out right, with the time it took."""
        now = time.monotonic()
        self.screen.print(f"  ✓ {now - self.told:5.1f} s  ", style="green", end="")
        self.screen.print(text)
        self.told = now

    def say(self, text: str) -> None:
        self.screen.print(f"             {text}")

    def quote(self, text: str) -> None:
        """What a job or a command said."""
        for line in text.splitlines():
            self.screen.print(f"          │ {printing.safe(line)}", style="dim")

    def run_command(self, *words: str) -> None:
        """Run a command as a person would and show what it prints."""
        self.screen.print(f"\n$ headframe {' '.join(words)}", style="bold")
        sys.stdout.flush()
        where = self.client.where
        shown = subprocess.run(
            program(*words), env=environment(HEADFRAME_URL=where.url, HEADFRAME_KEY=where.key),
            stdin=subprocess.DEVNULL, check=False, timeout=PATIENCE_S,
        )  # fmt: skip
        if shown.returncode:
            raise DemoFailed(f"`headframe {' '.join(words)}` ended with exit code {shown.returncode}.")

    # The steps

    def open_cloud(self) -> None:
        """Start the server; make an organization that pays in advance, unless an earlier run did."""
        from headframe.client import Client

        older = stop_older(self.data)
        if older is not None:
            self.did(f"stopped the server that an earlier demonstration left running (process {older})")
        self.card.save(demo="yes")
        with self.screen.status("starting a server"):
            self.server.start()
        assert self.server.process is not None
        self.did(f"a server at {self.server.url} (process {self.server.process.pid}), with {PRETENDED} pretended")
        if self.server.first_key:
            self.card.save(operator_key=self.server.first_key)
        if "operator_key" not in self.card.fields:
            raise DemoFailed(
                "An earlier demonstration was cut off before it had its key.",
                next_step=f"Remove its folder: rm -r {self.data}",
            )
        with Client(self.server.url, self.card.fields["operator_key"]) as operator:
            until(lambda: bool(operator.nodes()), 30, "The report of this machine")
            if "key" not in self.card.fields:
                self.card.save(**_first_member(operator))
            house = self.card.fields["organization"]
            if operator.balance(organization=house)["credit_nano"] < ENOUGH_NANO:
                operator.add_credit(house, CREDIT, "demonstration")
            left = operator.balance(organization=house)
        self.client = Client(self.server.url, self.card.fields["key"])
        credit = printing.money(left["credit_nano"], left["currency"])
        self.did(f"the organization {ORGANIZATION} has {credit} of prepaid credit")
        for job in self.client.jobs(limit=None, state=["pending", "queued", "starting", "running", "stopping"]):
            self.client.stop(job["id"], "1s")
            self.client.wait(job["id"])
            until(partial(self._is_settled, job["id"]), 30, f"The metering of {job['name']}")
            self.did(f"stopped {job['name']}, which an earlier demonstration left running")

    def train(self) -> None:
        """Train with checkpoints; the first attempt fails, the second must go on where the newest checkpoint stands."""
        job = self.client.submit(
            examples() / "digits" / "job.yaml",
            env={"EPOCHS": str(EPOCHS), "FAIL_AFTER_EPOCH": str(FAIL_AFTER)},
        )
        self.jobs.append(job)
        self.did(f"submitted examples/digits: {job['id']}, which will fail after epoch {FAIL_AFTER} of {EPOCHS}")
        with _deadline(self.client, job["id"], PATIENCE_S):
            for piece in self.client.logs(job["id"], follow=True):
                self.quote(_thinned(piece["text"]))
            job = self.client.wait(job["id"])
        story = self.client.story(job["id"])
        if job["state"] != "succeeded":
            raise _broken_job(story)
        first, second = story["attempts"]
        resumed = Path(second["resumed_from"]).name
        at = FAIL_AFTER - FAIL_AFTER % CHECKPOINT_EVERY
        self.must(first["outcome"] == "error" and first["exit_code"] == 1, f"attempt 1 ended: {first['outcome']}")
        self.must(resumed == f"epoch-{at:03}.pkl.gz", f"attempt 2 resumed from {resumed or 'nothing'}")
        steps = [row["step"] for row in self.client.metric_lines(job["id"])]
        self.must(
            steps == [*range(1, FAIL_AFTER + 1), *range(at + 1, EPOCHS + 1)], f"the epochs that were trained: {steps}"
        )
        self.did(f"attempt 1 failed after epoch {FAIL_AFTER}; attempt 2 went on from {resumed}, by itself")
        accuracy = self.client.metric_lines(job["id"])[-1]["test_accuracy"]
        self.must(accuracy > LEAST_ACCURACY, f"the test accuracy is {accuracy}")
        self.did(f"test accuracy {accuracy:.3f} after epoch {steps[-1]}")

    def survive(self) -> None:
        """Kill server and agent under two jobs. One must go on untouched, the end of the other must not be missed."""
        counter = self.client.submit(examples() / "counter" / "job.yaml", env={"LINES": str(LINES)})
        leaver = self.client.submit(
            {"name": "leaver", "run": f'sleep {LEAVER_S:g}; echo "ended $(date +%s%N)"; exit 42',
             "resources": {"cpu": 0.1, "memory": "64MB"}}
        )  # fmt: skip
        self.jobs += [counter, leaver]
        follower = _Follower(self.client, counter["id"])
        until(lambda: len(follower.numbers()) > 20, 60, "The start of the job counter")
        until(lambda: bool(self.client.job(leaver["id"])["started_us"]), 60, "The start of the job leaver")
        leaver = self.client.job(leaver["id"])
        attempt = self.client.story(counter["id"])["attempts"][0]
        pid, ticks = attempt["pid"], started_ticks(attempt["pid"])
        self.must(ticks is not None, f"the counter's process {pid} is not there")
        self.did(f"the job counter runs as process {pid}; it prints a line every 20 ms; leaver runs beside it")
        killed_us = printing.now_us()
        killed = self.server.kill_all()
        self.did("killed with -9: " + ", ".join(f"{what} (process {pid})" for pid, what in killed))
        self.must(started_ticks(pid) == ticks, f"process {pid} has died with Headframe")
        over_us = leaver["started_us"] + int(LEAVER_S * 1e6)
        with self.screen.status("no Headframe is running"):
            time.sleep(max(2.0, (over_us - killed_us) / 1e6 + 0.7))
        back_us = printing.now_us()
        self.did(f"for {format_span(back_us - killed_us)} no Headframe was there; process {pid} went on")
        self.server.start()
        self.did(f"started the server again, at {self.server.url}")
        until(lambda: bool(self.client.job(leaver["id"])["ended_us"]), 30, "The record of the end of leaver")
        again = self.client.story(counter["id"])
        self.must(
            again["job"]["state"] == "running" and len(again["attempts"]) == 1 and again["attempts"][0]["pid"] == pid
            and started_ticks(pid) == ticks, f"counter is {again['job']['state']}, {again['attempts']}",
        )  # fmt: skip
        self.did(f"counter is the same job, the same attempt, the same process {pid}, still running")
        self._check_leaver(leaver, killed_us, back_us)
        self._check_counter(counter, follower)

    def _check_leaver(self, leaver: Row, killed_us: int, back_us: int) -> None:
        """It ended while nobody looked: with its exit code, at its very moment, before the server was back."""
        ended = self.client.job(leaver["id"])
        said_us = checks.said_end_us(checks.text_of(self.client.logs(leaver["id"])))
        self.must(ended["exit_code"] == 42, f"leaver ended with exit code {ended['exit_code']}")
        self.must(
            said_us is not None and killed_us < said_us < back_us and abs(ended["ended_us"] - said_us) < MOMENT_US,
            f"leaver says that it ended at {said_us}, on record is {ended['ended_us']}",
        )
        late_us = abs(ended["ended_us"] - (said_us or 0))
        self.did(f"leaver ended while no Headframe was there: exit code 42, its end on record, right to {_ms(late_us)}")

    def _check_counter(self, counter: Row, follower: _Follower) -> None:
        """Every line once, in the log as it is kept and in what the follower was told across the restart."""
        with self.screen.status("the counter goes on"), _deadline(self.client, counter["id"], 60):
            ended = self.client.wait(counter["id"])
        follower.join(30)
        kept = checks.text_of(self.client.logs(counter["id"]))
        said_us = checks.said_end_us(kept)
        self.must(ended["state"] == "succeeded" and ended["exit_code"] == 0, f"counter {ended['state']}")
        self.must(checks.numbers(kept) == list(range(1, LINES + 1)), "the log of counter has gaps or doubles")
        self.must(follower.text() == kept, "what was followed live is not what is in the log")
        self.must(
            said_us is not None and abs(ended["ended_us"] - said_us) < MOMENT_US,
            f"counter says that it ended at {said_us}, on record is {ended['ended_us']}",
        )
        late_us = abs(ended["ended_us"] - (said_us or 0))
        self.did(f"counter ended with exit code 0, its end on record, right to {_ms(late_us)}")
        self.did(f"its log holds lines 1 to {LINES}, none missing, none twice; what was followed live is the same")

    def record(self) -> None:
        """The story of the training, its use, and its metrics, by the command line."""
        self.run_command("show", self.jobs[0]["name"])
        self.run_command("metrics", self.jobs[0]["name"])
        story = self.client.story(self.jobs[0]["id"])
        gpu_us = sum(
            share["milli"] * (held["released_us"] - held["running_us"]) // 1000
            for held in story["allocations"]
            for part in held["slices"]
            for share in part["shares"]
        )
        cpu_us = sum(attempt["cpu_us"] for attempt in story["attempts"])
        peak = max(attempt["memory_peak_mib"] for attempt in story["attempts"])
        self.screen.print()
        self.told = time.monotonic()
        self.did(
            f"digits held a GPU for {format_span(gpu_us)}, used {format_span(cpu_us)} of CPU "
            f"and {format_mib(peak)} of memory at most"
        )

    def bill(self, credit_nano: int) -> None:
        """The draft of the invoice, and the same worked out once more from stories and prices."""
        ours = [job["id"] for job in self.jobs]
        until(lambda: all(self._is_settled(job_id) for job_id in ours), 30, "The metering of the jobs that ended")
        self.run_command("usage")
        self.run_command("invoices", "--draft")
        draft = self.client.draft_invoice()
        stories = [self.client.story(job["id"]) for job in self.client.jobs(limit=None)]
        owed = list(checks.bill(stories, self.client.prices()))
        again = sum(one.amount_nano for one in owed if one.month == draft["month"])
        self.screen.print()
        self.told = time.monotonic()
        self.must(draft["accrued_nano"] == 0, f"{draft['accrued_nano']} nano-units are not charged yet")
        self.must(again == draft["total_nano"], f"the invoice says {draft['total_nano']}, worked out is {again}")
        for story in stories:
            total = sum(one.amount_nano for one in owed if one.job_id == story["job"]["id"])
            told = story["cost"]["total_nano"]
            self.must(total == told, f"{story['job']['name']} costs {told} by its story, worked out is {total}")
        self.did(
            f"worked out once more from the moments in {len(stories)} stories and the price list: {again:,} "
            f"nano-{draft['currency']}, the same to the last one"
        )
        spent = sum(one.amount_nano for one in owed if one.job_id in ours)
        left = self.client.balance()["credit_nano"]
        self.must(credit_nano - left == spent, f"the credit went from {credit_nano} to {left} by {spent}")
        self.did(
            f"this run cost {printing.money(spent, draft['currency'])} (at least a minute for each attempt), "
            "taken from the credit"
        )

    def _is_settled(self, job_id: str) -> bool:
        return all(held["settled"] for held in self.client.story(job_id)["allocations"])

    def close(self, once: bool) -> None:
        """Say how to go on, or that all is over."""
        seconds = time.monotonic() - self.began
        self.screen.print(f"\nAll of it was checked and came out right, in {seconds:.1f} s.", style="bold green")
        if once:
            return
        assert self.server.process is not None
        count = leave_running(self.client, self.card.fields["organization"])
        self.screen.print(f"The server goes on, with {count} jobs to look at for an hour. Open\n")
        self.screen.print(f"  {self.server.url}/\n", style="bold")
        self.screen.print(f"and sign in as ada of {ORGANIZATION} with\n")
        self.screen.print(f"  {self.card.fields['key']}\n")
        self.screen.print("or as the operator, who sees the whole cloud, with\n")
        self.screen.print(f"  {self.card.fields['operator_key']}\n")
        self.screen.print("In a shell:\n")
        self.screen.print(f"  export HEADFRAME_URL={self.server.url} HEADFRAME_KEY={self.card.fields['key']}")
        self.screen.print("  headframe submit --gpu 0.5 --follow -- 'echo hello from GPU $CUDA_VISIBLE_DEVICES'")
        self.screen.print("  headframe jobs")
        self.screen.print("  headframe example cloud    # 1,536 pretended GPUs with two months of work behind them")
        pids = " ".join(map(str, [self.server.process.pid, *agents(self.data)]))
        self.screen.print(f"\nEnd it: kill {pids} (jobs outlive their server: those end by themselves within the hour)")

    def must(self, true: bool, otherwise: str) -> None:
        """Go on only when it is so."""
        if not true:
            raise DemoFailed(
                f"This did not come out right: {otherwise}.",
                next_step=f"The data folder {self.data} holds all there is to see; please report it.",
            )


class _Follower:
    """Follows a log in a thread of its own, as `headframe logs -f` does, also across a restart of the server."""

    def __init__(self, client: Client, job_id: str) -> None:
        self._pieces: list[Row] = []
        self._thread = threading.Thread(target=self._follow, args=(client, job_id), daemon=True)
        self._thread.start()

    def _follow(self, client: Client, job_id: str) -> None:
        for piece in client.logs(job_id, follow=True):
            self._pieces.append(piece)

    def text(self) -> str:
        return checks.text_of(list(self._pieces))

    def numbers(self) -> list[int]:
        return checks.numbers(self.text())

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)
        if self._thread.is_alive():
            raise DemoFailed("Following the log did not end with the job.")


@contextmanager
def _deadline(client: Client, job_id: str, seconds: float) -> Iterator[None]:
    """Stop a job that takes too long, so that whatever waits for its end does not wait for ever."""

    def stop() -> None:
        client.stop(job_id, "1s")

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def examples() -> Path:
    """The folder of examples: in an installed package inside of it, in a checkout beside `src`."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "examples", package.parents[1] / "examples"):
        if (folder / "digits" / "job.yaml").is_file():
            return folder
    raise DemoFailed("The examples did not come with this installation.", next_step="Install Headframe again.")


def _first_member(operator: Client) -> dict[str, str]:
    """An organization that pays in advance, and the key of its owner."""
    house = operator.create_organization(name=ORGANIZATION, owner="ada", prepaid=True)
    owner = operator.members(organization=house["id"])[0]
    key = operator.create_key(name="demo", member=owner["id"])
    return {"organization": house["id"], "key": key["key"]}


def _thinned(text: str) -> str:
    """A log without most of its epochs."""
    lines = text.splitlines()
    return "\n".join(line for line in lines if not line.startswith("epoch ") or int(line[5:9]) % 10 in (0, 3))


def _ms(us: int) -> str:
    return f"{us / 1000:.1f} ms"


def _broken_job(story: Row) -> HeadframeError:
    """The training failed for a reason of its own: most likely that packages cannot be had here."""
    detail = next((one["detail"] for one in reversed(story["attempts"]) if one["detail"]), story["job"]["reason"])
    first = detail.splitlines()[0] if detail else ""
    return DemoFailed(
        f"The training {story['job']['state']}; its log stands above: {first}",
        next_step="It needs scikit-learn from a package index; PIP_INDEX_URL names one that is in reach.",
    )
