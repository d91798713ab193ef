"""What can be asked of a server, in one class."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from headframe.base.errors import CallerError, Invalid, Unreachable
from headframe.client.invoices import InvoiceCalls
from headframe.client.job import Source
from headframe.client.money import MoneyCalls
from headframe.client.spend import SpendCalls
from headframe.client.wire import PATIENCE_S, Profile, Wire, profile

if TYPE_CHECKING:
    import httpx

    from headframe.client.files import Progress

__all__ = ["ENDED", "Client", "Job", "Source", "Unreachable"]

ENDED = frozenset({"succeeded", "failed", "stopped"})
PAGE = 500
_LOG_BYTES = 1 << 20
Job = Source | Mapping[str, Any] | str | Path
Row = dict[str, Any]


class Client(InvoiceCalls, MoneyCalls, SpendCalls):
    """A server and a key. Without arguments: HEADFRAME_URL and HEADFRAME_KEY, or what `headframe login` saved.

    `patience_s` is how many seconds a connection that breaks is sought again.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        profile_name: str | None = None,
        patience_s: float = PATIENCE_S,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.where: Profile = profile(url, key, profile_name)
        self.wire = Wire(self.where, patience_s=patience_s, transport=transport)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self.wire.close()

    def get(self, path: str, **query: Any) -> Any:
        """The answer of any GET route."""
        return self.wire.call("GET", path, query=query)

    def all(self, path: str, *, limit: int | None = None, **query: Any) -> list[Row]:
        """The items of any list, over as many pages as it takes; at most `limit` of them."""
        items: list[Row] = []
        cursor: str | None = None
        while limit is None or len(items) < limit:
            size = PAGE if limit is None else min(PAGE, limit - len(items))
            page = self.get(path, limit=size, cursor=cursor, **query)
            items += page["items"]
            cursor = page.get("next")
            if cursor is None:
                break
        return items

    # Who

    def whoami(self) -> Row:
        return _row(self.get("/v1/whoami"))

    def organizations(self) -> list[Row]:
        return self.all("/v1/organizations")

    def create_organization(self, **fields: Any) -> Row:
        return self._post("/v1/organizations", fields)

    def projects(self, **query: Any) -> list[Row]:
        return self.all("/v1/projects", **query)

    def create_project(self, **fields: Any) -> Row:
        return self._post("/v1/projects", fields)

    def edit_project(self, project_id: str, version: int, **fields: Any) -> Row:
        return self._patch(f"/v1/projects/{_part(project_id)}", version, fields)

    def members(self, **query: Any) -> list[Row]:
        return self.all("/v1/members", **query)

    def create_member(self, **fields: Any) -> Row:
        return self._post("/v1/members", fields)

    def edit_member(self, member_id: str, version: int, **fields: Any) -> Row:
        return self._patch(f"/v1/members/{_part(member_id)}", version, fields)

    def keys(self, **query: Any) -> list[Row]:
        return self.all("/v1/keys", **query)

    def create_key(self, **fields: Any) -> Row:
        """The new key; its text is in this answer and never again."""
        return self._post("/v1/keys", fields)

    def revoke_key(self, key_id: str) -> None:
        self.wire.call("DELETE", f"/v1/keys/{_part(key_id)}")

    def quotas(self, **query: Any) -> list[Row]:
        return self.all("/v1/quotas", **query)

    def set_quota(self, **fields: Any) -> Row:
        return _row(self.wire.call("PUT", "/v1/quotas", body=_present(fields)))

    def storage(self) -> Row:
        """What lies on the server's disk, and what of it is due to be removed."""
        return _row(self.get("/v1/storage"))

    def prune(self) -> None:
        """Have what is due removed now."""
        self._post("/v1/storage/prune", {})

    def budgets(self, **query: Any) -> list[Row]:
        return self.all("/v1/budgets", **query)

    def set_budget(self, **fields: Any) -> Row:
        return _row(self.wire.call("PUT", "/v1/budgets", body=_present(fields)))

    def remove_budget(self, **query: Any) -> Row:
        return _row(self.wire.call("DELETE", "/v1/budgets", query=query))

    def secrets(self, project: str | None = None) -> list[Row]:
        """Names and dates; values never come back."""
        return self.all("/v1/secrets", project=project)

    def set_secret(self, name: str, value: str, project: str | None = None) -> None:
        self.wire.call("PUT", f"/v1/secrets/{_part(name)}", query={"project": project}, body={"value": value})

    def delete_secret(self, name: str, project: str | None = None) -> None:
        self.wire.call("DELETE", f"/v1/secrets/{_part(name)}", query={"project": project})

    # Jobs

    def submit(
        self,
        job: Job,
        *,
        files: str | Path | None = None,
        project: str | None = None,
        env: Mapping[str, str] | None = None,
        progress: Progress | None = None,
        idempotency_key: str | None = None,
    ) -> Row:
        """Submit a document, or the job file at a path. A folder in `files` is uploaded first."""
        source = Source.of(job).with_files(files)
        source.check(env or {})
        with source.told():
            folder = source.folder()
            body = source.body(project, env or {}, self.upload(folder, progress) if folder is not None else None)
            return _row(self.wire.call("POST", "/v1/jobs", body=body, idempotency_key=idempotency_key))

    def import_sbatch(self, script: str) -> Row:
        """The text of an sbatch script as a job file: `job`, and `left`, the lines that could not be carried over."""
        return self._post("/v1/import/sbatch", {"script": script})

    def plan(
        self,
        job: Job,
        *,
        project: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Row:
        """Would it run, where, when, what would it cost, and why not. Nothing is uploaded."""
        source = Source.of(job)
        source.check(env or {})
        with source.told():
            return self._post("/v1/plan", source.body(project, env or {}, None))

    def jobs(self, *, limit: int | None = 100, **query: Any) -> list[Row]:
        """Newest first. Filters: state, project, name, parent, owner."""
        return self.all("/v1/jobs", limit=limit, **query)

    def job(self, job: str) -> Row:
        """By id, by the beginning of an id, or the newest of a name."""
        return _row(self.get(f"/v1/jobs/{_part(job)}"))

    def story(self, job: str) -> Row:
        return _row(self.get(f"/v1/jobs/{_part(job)}/story"))

    def stop(self, job: str, grace: str | None = None) -> Row:
        return self._post(f"/v1/jobs/{_part(job)}/stop", {"grace": grace})

    def wait(self, job: str, *, timeout_s: float | None = None) -> Row:
        """The job once it has ended. Told by the server, not asked for again and again.

        Raises `TimeoutError` when it has not ended after `timeout_s` seconds.
        """
        if timeout_s is None:
            return self._wait(job)
        answers: queue.Queue[Row | Exception] = queue.Queue()

        def ask() -> None:
            try:
                answers.put(self._wait(job))
            except Exception as error:  # raised where the answer is read
                answers.put(error)

        threading.Thread(target=ask, name="wait", daemon=True).start()
        try:
            answer = answers.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError(f"{job} has not ended after {timeout_s:g} s.") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def wait_all(self, jobs: Sequence[str], *, timeout_s: float | None = None) -> list[Row]:
        """Several jobs once all of them have ended; `timeout_s` is for all of them together."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        return [self.wait(job, timeout_s=None if end is None else max(end - time.monotonic(), 0)) for job in jobs]

    def _wait(self, job: str) -> Row:
        found = self.job(job)
        if found["state"] in ENDED:
            return found
        seen = max((int(event["seq"]) for event in self.events(subject=found["id"])), default=0)
        found = self.job(found["id"])
        if found["state"] in ENDED:
            return found
        for _ in self.follow_events(after=seen, subject=found["id"]):
            found = self.job(found["id"])
            if found["state"] in ENDED:
                break
        return found

    def logs(
        self,
        job: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        offset: int = 0,
        progress: bool = False,
    ) -> Iterator[Row]:
        """Pieces of the log; with `follow` until the job has ended, across restarts of the server. `progress` adds
        those that tell how far the building of an environment has come."""
        for piece in self._pieces(job, follow, tail, offset):
            if progress or piece["stream"] != "progress":
                yield piece

    def _pieces(self, job: str, follow: bool, tail: int | None, offset: int) -> Iterator[Row]:
        path = f"/v1/jobs/{_part(job)}/log"
        position = offset
        while True:
            page = self.get(path, offset=position, limit=_LOG_BYTES, tail=tail)
            tail = None
            yield from page["pieces"]
            if page["next"] == position or (page["ended"] and not page["pieces"]):
                break
            position = page["next"]
        if follow:
            for name, text in self.wire.follow(f"{path}/follow", "offset", position):
                if name != "end" and text:
                    yield json.loads(text)

    def metrics(self, job: str, *, from_us: int = 0, points: int = 500) -> list[Row]:
        """The series of a job: what was measured of it and what it reported, each of at most so many points."""
        found = self.get(f"/v1/jobs/{_part(job)}/metrics", from_us=from_us, points=points)
        return [dict(each) for each in found["items"]]

    def metric_lines(self, job: str) -> list[Row]:
        """The lines that the job wrote to metrics.jsonl in its outputs, by `headframe.log` or by itself."""
        return self.all(f"/v1/jobs/{_part(job)}/metrics/lines")

    def events(self, *, after: int = 0, subject: str | None = None) -> list[Row]:
        """What has happened, oldest first."""
        found: list[Row] = []
        while True:
            items = self.get("/v1/events", after=after, subject=subject, limit=PAGE)["items"]
            found += items
            if len(items) < PAGE:
                return found
            after = items[-1]["seq"]

    def follow_events(self, *, after: int, subject: str | None = None) -> Iterator[Row]:
        """Everything that happens (to `subject`) after the event number `after`, without end."""
        for _, text in self.wire.follow("/v1/events/follow", "after", after, subject=subject):
            if text:
                yield json.loads(text)

    def outputs(self, job: str) -> list[Row]:
        return self.all(f"/v1/jobs/{_part(job)}/outputs")

    def removal_of(self, job: str) -> str:
        """When and why a job's files were removed; empty while they were not."""
        return str(_row(self.get(f"/v1/jobs/{_part(job)}/outputs", limit=1)).get("removed", ""))

    def download(
        self, job: str, folder: str | Path, paths: list[str] | None = None, progress: Progress | None = None
    ) -> list[Path]:
        """Outputs (all, or those named) into a folder; never outside of it."""
        from headframe.client.files import safe_place, save

        root = Path(folder)
        wanted = paths if paths is not None else [item["path"] for item in self.outputs(job)]
        places = [(path, safe_place(root, path)) for path in wanted]
        for path, place in places:
            save(self.wire, f"/v1/jobs/{_part(job)}/outputs/{quote(path)}", place, progress)
        return [place for _, place in places]

    # Files and datasets

    def upload(self, folder: str | Path, progress: Progress | None = None) -> str:
        """Upload a folder, only what the server does not have; returns the hash for a job's `files`: sha256:<hex>."""
        from headframe.client.files import upload

        return f"sha256:{upload(self.wire, Path(folder), progress)[0]}"

    def datasets(self, **query: Any) -> list[Row]:
        return self.all("/v1/datasets", **query)

    def push_dataset(
        self, name: str, folder: str | Path, project: str | None = None, progress: Progress | None = None,
        *, lives_in: Sequence[str] = (), stays: bool = False,
    ) -> Row:  # fmt: skip
        """A new version of a dataset from a folder; `lives_in` are places that have it near, with `stays` the only."""
        manifest = self.upload(folder, progress).removeprefix("sha256:")
        fields = {"name": name, "manifest": manifest, "project": project}
        return self._post("/v1/datasets", {**fields, "lives_in": [*lives_in], "stays": stays})

    # Fleet

    def regions(self) -> list[Row]:
        return self.all("/v1/regions")

    def clusters(self) -> list[Row]:
        return self.all("/v1/clusters")

    def allocations(self, *, limit: int | None = 100, **query: Any) -> list[Row]:
        """What jobs hold, newest first. Filters: state, job, project."""
        return self.all("/v1/allocations", limit=limit, **query)

    def nodes(self, **query: Any) -> list[Row]:
        return self.all("/v1/nodes", **query)

    def accelerators(self, **query: Any) -> list[Row]:
        return self.all("/v1/accelerators", **query)

    def drain(self, node: str, reason: str = "", move: bool = False) -> Row:
        """Let the node run what it has, and take nothing new."""
        return self._post(f"/v1/nodes/{_part(node)}/drain", {"reason": reason, "move": move})

    def queue(self, **query: Any) -> Row:
        """Who waits in which order and why, and what owners hold of what they may; of one `organization`, or all."""
        return _row(self.get("/v1/queue", **query))

    def node(self, node: str) -> Row:
        """One machine: its accelerators, who holds them, and what was measured of them last."""
        return _row(self.get(f"/v1/nodes/{_part(node)}"))

    def node_past(self, node: str, **query: Any) -> Row:
        """Who held a machine `from_` a moment `to` another (the last day), and what happened to it."""
        return _row(self.get(f"/v1/nodes/{_part(node)}/past", **query))

    def resume(self, node: str) -> Row:
        return self._post(f"/v1/nodes/{_part(node)}/resume", {})

    def mark(self, node: str, labels: Sequence[str] = (), taints: Sequence[str] = ()) -> Row:
        """Set labels (`key=value`) and taints (`key` or `key=value`) of a node; `key-` takes one away."""
        return self._post(f"/v1/nodes/{_part(node)}/marks", {"labels": [*labels], "taints": [*taints]})

    def mark_cluster(self, cluster: str, labels: Sequence[str] = ()) -> Row:
        """Set labels (`key=value`) of a cluster; `key-` takes one away."""
        return self._post(f"/v1/clusters/{_part(cluster)}/marks", {"labels": [*labels]})

    def drain_cluster(self, cluster: str, reason: str = "", move: bool = False) -> Row:
        """Let the cluster run what it has, and take nothing new; `move` those jobs that can go on elsewhere."""
        return self._post(f"/v1/clusters/{_part(cluster)}/drain", {"reason": reason, "move": move})

    def losses(self, cluster: str) -> Row:
        """What would end if the cluster were declared lost now."""
        return _row(self.get(f"/v1/clusters/{_part(cluster)}/losses"))

    def lose_cluster(self, cluster: str, confirm: str, reason: str) -> Row:
        """Give up a cluster that never comes back; `confirm` is its name, as this cannot be undone."""
        return self._post(f"/v1/clusters/{_part(cluster)}/lost", {"confirm": confirm, "reason": reason})

    def resume_cluster(self, cluster: str) -> Row:
        return self._post(f"/v1/clusters/{_part(cluster)}/resume", {})

    def reservations(self, **query: Any) -> list[Row]:
        return self.all("/v1/reservations", **query)

    def reservation(self, reservation: str) -> Row:
        return _row(self.get(f"/v1/reservations/{_part(reservation)}"))

    def create_reservation(self, **fields: Any) -> Row:
        """Promise `count` accelerators of a `kind`, or whole `nodes`, from `starts` (now) until `ends`."""
        return self._post("/v1/reservations", fields)

    def cancel_reservation(self, reservation: str, reason: str = "") -> Row:
        return self._post(f"/v1/reservations/{_part(reservation)}/cancel", {"reason": reason})

    # Money

    def prices(self, **query: Any) -> list[Row]:
        return self.all("/v1/prices", **query)

    def set_price(self, **fields: Any) -> Row:
        return self._post("/v1/prices", fields)

    def preview_prices(self, month: str, prices: Iterable[Mapping[str, Any]] = (), **fields: Any) -> list[Row]:
        """What all bills of a month would have been under these prices, beside what was charged."""
        items: list[Row] = self._post("/v1/prices/preview", {"month": month, "prices": [*prices], **fields})["items"]
        return items

    def charges(self, job: str | None = None, **query: Any) -> list[Row]:
        return self.all("/v1/charges", job=job, **query)

    def balance(self, **query: Any) -> Any:
        return self.get("/v1/balance", **query)

    def add_credit(self, organization: str, amount: str, note: str = "", **fields: Any) -> Row:
        """Credit that was paid in, or is a gift of the house when `given`; see `POST /v1/credits` for its bounds."""
        return self._post("/v1/credits", {"organization": organization, "amount": amount, "note": note, **fields})

    def invoices(self, **query: Any) -> list[Row]:
        return self.all("/v1/invoices", **query)

    def invoice(self, invoice_id: str) -> Row:
        return _row(self.get(f"/v1/invoices/{_part(invoice_id)}"))

    def draft_invoice(self, organization: str | None = None, month: str | None = None) -> Row:
        """The running month's invoice as it would be if it closed now."""
        return _row(self.get("/v1/invoices/draft", organization=organization, month=month))

    # How the above is put

    def _post(self, path: str, fields: Mapping[str, object]) -> Row:
        return _row(self.wire.call("POST", path, body=_present(fields)))

    def _patch(self, path: str, version: int, fields: Mapping[str, object]) -> Row:
        return _row(self.wire.call("PATCH", path, body=_present(fields), version=version))


def _part(text: str) -> str:
    """One part of an address, whatever characters a person typed."""
    if not text or text in (".", ".."):
        raise Invalid(f"{text!r} is not a name or an id.", field="id", value=text, allowed="a name or an id")
    return quote(text, safe="")


def _present(fields: Mapping[str, object]) -> Row:
    return {name: value for name, value in fields.items() if value is not None}


def _row(answer: Any) -> Row:
    if not isinstance(answer, dict):
        raise CallerError(
            "The server's answer is not what a Headframe server sends.",
            next_step="Check the address with `headframe doctor`.",
        )
    return answer
