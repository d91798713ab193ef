"""The worked month: a small cloud on a simulated clock, three customers, and everything that finance meets in a month.

The real loop, store, prices, contracts, credit, invoices and documents; only the machines are scripted and the time is
simulated, so two months pass in seconds and every run gives the same bytes. `docs/guides/worked-month.md` tells it word
by word.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headframe.base.changes import Changes
from headframe.base.money import Money
from headframe.base.quantities import DAY_US, HOUR_US, SECOND_US, format_second, parse_moment_us
from headframe.control.commands_contracts import agree
from headframe.control.commands_fleet import drain_node, open_cluster, resume_node
from headframe.control.commands_invoices import correct_invoice, credit_invoice, put_party, set_tax_rate
from headframe.control.commands_jobs import submit_job
from headframe.control.commands_money import grant_credit
from headframe.control.commands_prices import set_exchange, set_price
from headframe.control.commands_tenancy import create_organization, open_cloud
from headframe.control.loop import Loop
from headframe.control.queries_usage import desk
from headframe.documents.folder import month_files, write_folder
from headframe.engines.scripted import ScriptedEngine, Temper
from headframe.fleet.records import Accelerator, Allocation, Cluster, Node, Region
from headframe.jobs.records import Job
from headframe.ledger.records import Invoice, Transfer
from headframe.ledger.trial import TrialBalance, trial_balance
from headframe.metering.defaults import default_meters
from headframe.metering.intake import read_events
from headframe.sim.auditor import Audit, audit
from headframe.sim.clock import CountedIds, VirtualClock
from headframe.sim.run import NoBlobs, PlainVault
from headframe.store.migrations import migrate
from headframe.store.sql_store import SqlStore
from headframe.tenants.records import Organization, Role
from headframe.tenants.roles import Caller

MONTH, NEXT = "2026-11", "2026-12"
BEGIN = "2026-10-31T22:00:00Z"
NODES, GPUS = 3, 8
GRACE_US = DAY_US
LATENCY_US = 2_000


class NoChance:
    """No chance at all: the least that is possible happens, and no answer is lost."""

    def below(self, limit: int) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class Told:
    """What became of it: the story, the documents, and the proofs."""

    story: tuple[str, ...]
    invoices: tuple[Invoice, ...]
    files: tuple[str, ...]
    balance: TrialBalance
    transfers: int
    audit: Audit


@dataclass(slots=True)
class Example:
    """The cloud and its people. `tell` is the story, a sentence for each thing that happens."""

    store: SqlStore
    story: list[str] = field(default_factory=list)
    clock: VirtualClock = field(default_factory=lambda: VirtualClock(parse_moment_us(BEGIN, field="begin")))
    ids: CountedIds = field(default_factory=lambda: CountedIds(1))
    complaints: list[BaseException] = field(default_factory=list)
    engine: ScriptedEngine = field(init=False)
    loop: Loop = field(init=False)
    owner: Caller = field(init=False)
    _due: bool = field(default=True, init=False)

    def open(self) -> None:
        """Machines, a cloud on them, and its operator."""
        nodes = [Node(f"nod_{n}", "cls_1", f"node-{n}", 128_000, 2_097_152, 8_000_000) for n in range(NODES)]
        devices = [
            Accelerator(f"acc_{node.id}_{index}", node.id, index, "H100", "nvidia", 81_559)
            for node in nodes
            for index in range(GPUS)
        ]
        clock = self.clock
        self.engine = ScriptedEngine(
            nodes, devices, true_us=lambda: clock.true_us, stamp_us=clock.machine_us, rng=NoChance(),
            temper=Temper(delay_least_us=1000, delay_most_us=1000),
        )  # fmt: skip
        self.loop = Loop(
            self.store, {"cls_1": self.engine}, self.ids, PlainVault(), NoBlobs(), clock.true_us, grace_us=GRACE_US
        )
        self.loop.complain = self.complaints.append
        self.loop.nudge = self._nudge
        self.engine.start(lambda item: self.loop.deliver("cls_1", item))
        opening = self.run(open_cloud)
        self.owner = Caller(opening.organization.id, opening.member.id, opening.key.id, Role.OWNER, operator=True)
        self.run(lambda world, context: (Changes(default_meters(context.now_us)), None))
        self.run(open_cluster, Region("reg_1", "dortmund"), Cluster("cls_1", "reg_1", "main", "scripted"))
        self.pass_time(SECOND_US)

    def _nudge(self) -> None:
        self._due = True

    def tell(self, text: str) -> None:
        self.story.append(f"{format_second(self.clock.true_us)[:16]}  {text}")

    # Time.

    def tick(self) -> None:
        """Let the program do all that it has to do now."""
        for _ in range(100):
            self._due = False
            self.loop.tick(self.clock.true_us)
            if self.complaints:
                raise self.complaints[0]
            self.clock.advance_to(self.clock.true_us + LATENCY_US)
            self.engine.advance()
            if not self._due and not self.loop.spending.released:
                return
        raise AssertionError("the loop does not come to rest")

    def pass_time(self, span_us: int) -> None:
        """On to a moment, by way of each at which something happens and, while anything is held, of each full hour."""
        end_us = self.clock.true_us + span_us
        while self.clock.true_us < end_us:
            now_us = self.clock.true_us
            step_us = HOUR_US if self._busy() else DAY_US
            due_us = self.engine.next_due_us()
            next_us = now_us - now_us % step_us + step_us + SECOND_US
            if due_us is not None:
                next_us = min(next_us, max(due_us, now_us))
            self.clock.advance_to(min(next_us, end_us))
            self.engine.advance()
            self.tick()

    def _busy(self) -> bool:
        return bool(self.loop.world.all(Allocation)) or bool(self.loop.spending.contracts)

    def until(self, moment: str) -> None:
        self.pass_time(parse_moment_us(moment, field="moment") - self.clock.true_us)

    # People.

    def run(self, command: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        answer = self.loop.run(command, *args, **kwargs)
        self.tick()
        return answer.result(timeout=0)

    def submit(self, organization: Organization, name: str, run: str, gpus: int, purchase: str = "on-demand") -> Job:
        caller = Caller(organization.id, "mem_example", "key_example", Role.ADMIN)
        document = {
            "name": name, "run": run, "purchase": purchase, "retry": {"on": ["node_failure"], "max": 3},
            "resources": {"gpu": f"H100:{gpus}", "cpu": gpus, "memory": f"{32 * gpus}GB"},
        }  # fmt: skip
        job: Job = self.run(submit_job, caller, document, project="default", env={})
        return job

    def events(self, organization: Organization, *told: dict[str, Any]) -> int:
        """Use told from outside, as CloudEvents."""
        caller = Caller(organization.id, "mem_example", "key_example", Role.ADMIN)
        asked = self.loop.ask(desk, caller)
        self.tick()
        kept = self.loop.take_in(read_events(told, asked.result(timeout=0)))
        self.tick()
        return kept


def play(folder: Path) -> Told:
    """Live through the month in a throwaway store inside the folder, and write its documents there."""
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / ".store" / "headframe.db"
    place.parent.mkdir(exist_ok=True)
    for old in place.parent.iterdir():
        old.unlink()
    migrate(f"sqlite:///{place}")
    store = SqlStore(f"sqlite:///{place}")
    try:
        return _play(Example(store), folder)
    finally:
        store.close()
        for old in place.parent.iterdir():
            old.unlink()
        place.parent.rmdir()


def _play(cloud: Example, folder: Path) -> Told:
    cloud.open()
    rhine, eclair, deep = _customers(cloud)
    _prices(cloud, rhine, eclair, deep)
    _november(cloud, rhine, eclair, deep)
    cloud.until("2026-12-02T01:30:00Z")
    cloud.tell(
        "November is closed: its day of grace is over. Three invoices, numbered 1 to 3; Rhine's with its SLA credit."
    )
    _after(cloud, rhine)
    cloud.until("2027-01-02T01:30:00Z")
    cloud.tell("December is closed. Nothing was used in it, so it has no invoice.")
    files: list[str] = []
    for month in (MONTH, NEXT):
        made = write_folder(folder / month, month_files(cloud.store, month, cloud.clock.true_us, "csv"))
        files += [f"{month}/{name}" for name in made]
    invoices = sorted(cloud.store.find(Invoice, limit=1000), key=lambda each: each.number)
    return Told(
        tuple(cloud.story), tuple(invoices), tuple(files), trial_balance(cloud.store.balances()),
        cloud.store.count(Transfer), audit(cloud.store),
    )  # fmt: skip


def _customers(cloud: Example) -> tuple[Organization, Organization, Organization]:
    owner = cloud.owner
    cloud.run(
        put_party, owner, seller=True, name="Headframe Example Cloud GmbH", street="Zeche-Zollern-Straße 12",
        postcode="44379", city="Dortmund", country="DE", tax_id="DE123456788", registration="HRB 12345 Dortmund",
        email="billing@cloud.example", phone="+49 231 555 0100", iban="DE89 3704 0044 0532 0130 00", bic="COBADEFFXXX",
        bank="Example Bank",
    )  # fmt: skip
    cloud.run(set_tax_rate, owner, applies_to="DE", category="S", percent="19")
    cloud.run(set_tax_rate, owner, applies_to="EU", category="AE", business="yes")
    cloud.run(set_tax_rate, owner, applies_to="*", category="O")
    rhine = cloud.run(create_organization, owner, name="rhine-robotics", currency="EUR")
    eclair = cloud.run(create_organization, owner, name="eclair", currency="EUR")
    deep = cloud.run(create_organization, owner, name="deep-mine", currency="CNY", prepaid=True)
    cloud.run(
        put_party, owner, organization=rhine.id, name="Rhine Robotics AG", street="Hafenweg 3", postcode="48155",
        city="Münster", country="DE", tax_id="DE987654321", reference="PO 4711", terms_days=14,
    )  # fmt: skip
    cloud.run(
        put_party, owner, organization=eclair.id, name="Laboratoire Éclair SARL", street="5 rue des Mines",
        postcode="59000", city="Lille", country="FR", tax_id="FR40303265045", reference="Contrat 2026-11",
    )  # fmt: skip
    cloud.run(
        put_party, owner, organization=deep.id, name="北京深矿人工智能有限公司", street="海淀区中关村大街 27 号",
        postcode="100080", city="北京", country="CN", language="zh", reference="合同 2026-017",
    )  # fmt: skip
    cloud.tell("Three customers: Rhine Robotics (on-demand), Éclair (reserved), 深矿 (spot, paid in advance).")
    return rhine, eclair, deep


def _prices(cloud: Example, rhine: Organization, eclair: Organization, deep: Organization) -> None:
    owner = cloud.owner
    for meter, amount in (("gpu:H100", "2.80 EUR"), ("cpu", "0.02 EUR"), ("memory", "0.003 EUR")):
        cloud.run(set_price, owner, meter=meter, amount=amount)
    cloud.run(set_price, owner, meter="gpu:H100", amount="1.20 EUR", purchase="spot")
    cloud.run(set_price, owner, meter="gpu:H100", amount="1.45 EUR", purchase="spot", starts="2026-11-10T08:00:00Z")
    cloud.run(set_price, owner, meter="tokens:output", amount="1.80 EUR", unit="million")
    cloud.run(set_exchange, owner, base="EUR", quote="CNY", rate="8.25", source="example of a reference rate")
    cloud.run(
        agree, owner, organization=eclair.id, shape="reserved", title="Reserved 8 × H100, November",  # noqa: RUF001
        amount="1.90 EUR", meter="gpu:H100", quantity="8", starts="2026-11-01", ends="2026-12-01",
    )  # fmt: skip
    cloud.run(
        agree, owner, organization=rhine.id, shape="sla", title="Uptime", starts="2026-11-01", ends="2027-11-01",
        steps=((999_000, 10), (950_000, 25)),
    )  # fmt: skip
    cloud.run(grant_credit, owner, organization=deep.id, amount="12000 CNY", note="transfer of 30 October")
    cloud.tell("Prices: H100 2.80 EUR an hour, spot 1.20 and from 10 November 1.45; Éclair reserves 8 at 1.90.")
    cloud.tell("Rhine Robotics has an SLA: 10 % of a month back when less than 99.9 % of it was up, 25 % below 95 %.")
    cloud.tell("深矿 has paid 12,000 CNY in advance; 1 EUR is 8.25 CNY, kept on every line.")


def _november(cloud: Example, rhine: Organization, eclair: Organization, deep: Organization) -> None:
    cloud.until("2026-11-02T09:00:00Z")
    cloud.submit(rhine, "pretrain", "prepare 90s; run 20d | prepare 90s; run 16d; exit 0", 8)
    cloud.tell("Rhine Robotics starts to train on 8 H100, on-demand.")
    cloud.until("2026-11-03T08:30:00Z")
    cloud.submit(eclair, "finetune", "prepare 60s; run 21d; exit 0", 8)
    cloud.until("2026-11-05T12:15:00Z")
    cloud.submit(eclair, "sweep", "prepare 60s; run 100h; exit 0", 4)
    cloud.tell("Éclair runs 12 H100: 8 are on the reservation, 4 are charged on-demand.")
    cloud.until("2026-11-08T20:00:00Z")
    cloud.submit(deep, "batch", "prepare 45s; run 70h; exit 0", 4, purchase="spot")
    cloud.tell("深矿 starts on 4 H100 at the spot price, from its credit.")
    cloud.until("2026-11-12T08:00:00Z")
    spare = next(name for name in cloud.engine.node_ids() if not cloud.loop.world.derived.on_node.get(name))
    cloud.run(drain_node, cloud.owner, spare, reason="new fans")
    cloud.tell(f"Node {spare[-1]} is taken out of use: it gets new fans.")
    cloud.until("2026-11-12T14:20:00Z")
    node = next(
        part.node_id
        for allocation in cloud.loop.world.all(Allocation).values()
        if allocation.organization_id == rhine.id
        for part in allocation.slices
    )
    cloud.engine.kill_node(node)
    cloud.pass_time(10 * SECOND_US)
    cloud.tell(f"Node {node[-1]} loses power. No other node is free: Rhine Robotics' job waits, under our repair.")
    cloud.until("2026-11-12T20:40:00Z")
    cloud.run(resume_node, cloud.owner, spare)
    cloud.tell(f"Node {spare[-1]} is back, and the job runs again: 6 hours and 20 minutes were down.")
    cloud.until("2026-11-13T09:00:00Z")
    cloud.engine.revive_node(node)
    cloud.until("2026-11-30T23:30:00Z")
    cloud.events(rhine, _tokens("evt-1", "2026-11-30T18:00:00Z", 48_000_000))
    cloud.tell("Rhine Robotics' endpoint has answered with 48 million tokens.")


def _after(cloud: Example, rhine: Organization) -> None:
    invoice = next(each for each in cloud.store.find(Invoice, limit=100) if each.organization_id == rhine.id)
    note: Invoice = cloud.run(
        credit_invoice, cloud.owner, invoice.id, amount="250 EUR",
        reason="Goodwill: work since the last checkpoint was lost on 12 November, 14:20 UTC",
    )  # fmt: skip
    cloud.tell(f"Rhine Robotics gets {Money(note.total_nano, note.currency)} more, as goodwill: a credit note.")
    cloud.until("2026-12-05T10:00:00Z")
    kept = cloud.events(
        rhine,
        _tokens("evt-1", "2026-11-30T18:00:00Z", 48_000_000),
        _tokens("evt-2", "2026-11-30T18:20:00Z", 12_000_000),
    )
    cloud.tell(f"A gateway tells late of November: 2 events, {kept} of them new. November stays as it is.")
    cloud.tell("In the ledger what was booked for that hour is reversed, and booked anew with what is new.")
    (late,) = cloud.run(correct_invoice, cloud.owner, invoice.id)
    cloud.tell(f"Its note is made at once: debit note {late.number} over {Money(late.total_nano, late.currency)}.")


def _tokens(name: str, time: str, output: int) -> dict[str, Any]:
    return {
        "specversion": "1.0", "id": name, "source": "/gateway/example", "type": "headframe.tokens",
        "subject": "default", "time": time, "data": {"model": "example-7b", "input": 0, "cached": 0, "output": output},
    }  # fmt: skip
