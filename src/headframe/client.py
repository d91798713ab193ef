"""The Python SDK: `Client` calls a Headframe server as the command line does.

    from headframe.client import Client

    with Client() as cloud:
        job = cloud.submit({"run": "python train.py", "files": ".", "resources": {"gpu": "H100:8"}})
        for piece in cloud.logs(job["id"], follow=True):
            print(piece["text"], end="")
        print(cloud.wait(job["id"])["state"])

Answers are plain dicts with the fields of the HTTP API; errors are the classes of `headframe.base.errors`. Whatever is
called again after a lost connection is carried out once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from headframe.base.errors import CallerError, Invalid, InvalidSpec
from headframe.client_wire import PATIENCE_S, Profile, Unreachable, Wire, profile

if TYPE_CHECKING:
    import httpx

    from headframe.client_files import Progress

__all__ = ["ENDED", "Client", "Document", "Unreachable"]

ENDED = frozenset({"succeeded", "failed", "stopped"})
PAGE = 500
_LOG_BYTES = 1 << 20
_PLACEHOLDER = "sha256:" + "0" * 64
Document = Mapping[str, Any]
Row = dict[str, Any]


class Client:
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

    def budgets(self, **query: Any) -> list[Row]:
        return self.all("/v1/budgets", **query)

    def set_budget(self, **fields: Any) -> Row:
        return _row(self.wire.call("PUT", "/v1/budgets", body=_present(fields)))

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
        job: Document | str | Path,
        *,
        files: str | Path | None = None,
        project: str | None = None,
        env: Mapping[str, str] | None = None,
        progress: Progress | None = None,
        idempotency_key: str | None = None,
    ) -> Row:
        """Submit a document, or the job file at a path. A folder in `files` is uploaded first."""
        body = self._prepared(job, files, project, env or {}, progress)
        return _row(self.wire.call("POST", "/v1/jobs", body=body, idempotency_key=idempotency_key))

    def plan(
        self,
        job: Document | str | Path,
        *,
        project: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Row:
        """Would it run, where, when, what would it cost, and why not. Nothing is uploaded."""
        document, lines, _ = _document(job)
        return self._post("/v1/plan", _body(_checked(document, lines, env or {}), project, env or {}))

    def jobs(self, *, limit: int | None = 100, **query: Any) -> list[Row]:
        """Newest first. Filters: state, project, name, parent."""
        return self.all("/v1/jobs", limit=limit, **query)

    def job(self, job: str) -> Row:
        """By id, by the beginning of an id, or the newest of a name."""
        return _row(self.get(f"/v1/jobs/{_part(job)}"))

    def story(self, job: str) -> Row:
        return _row(self.get(f"/v1/jobs/{_part(job)}/story"))

    def stop(self, job: str, grace: str | None = None) -> Row:
        return self._post(f"/v1/jobs/{_part(job)}/stop", {"grace": grace})

    def wait(self, job: str) -> Row:
        """The job once it has ended. Told by the server, not asked for again and again."""
        found = self.job(job)
        if found["state"] in ENDED:
            return found
        seen = max((int(event["seq"]) for event in self.events(subject=found["id"])), default=0)
        found = self.job(found["id"])
        if found["state"] in ENDED:
            return found
        for event in self.follow_events(after=seen):
            if event["subject"] == found["id"]:
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
    ) -> Iterator[Row]:
        """Pieces of the log; with `follow` until the job has ended, across restarts of the server."""
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

    def metrics(self, job: str) -> list[Row]:
        answer = self.get(f"/v1/jobs/{_part(job)}/metrics")
        return list(answer["items"]) if isinstance(answer, dict) and "items" in answer else list(answer)

    def events(self, *, after: int = 0, subject: str | None = None) -> list[Row]:
        """What has happened, oldest first."""
        found: list[Row] = []
        while True:
            items = self.get("/v1/events", after=after, subject=subject, limit=PAGE)["items"]
            found += items
            if len(items) < PAGE:
                return found
            after = items[-1]["seq"]

    def follow_events(self, *, after: int) -> Iterator[Row]:
        """Everything that happens after the event number `after`, without end."""
        for _, text in self.wire.follow("/v1/events/follow", "after", after):
            if text:
                yield json.loads(text)

    def outputs(self, job: str) -> list[Row]:
        answer = self.get(f"/v1/jobs/{_part(job)}/outputs")
        return list(answer["items"]) if isinstance(answer, dict) else list(answer)

    def download(
        self, job: str, folder: str | Path, paths: list[str] | None = None, progress: Progress | None = None
    ) -> list[Path]:
        """Outputs (all, or those named) into a folder; never outside of it."""
        from headframe.client_files import safe_place, save

        root = Path(folder)
        wanted = paths if paths is not None else [item["path"] for item in self.outputs(job)]
        places = [(path, safe_place(root, path)) for path in wanted]
        for path, place in places:
            save(self.wire, f"/v1/jobs/{_part(job)}/outputs/{quote(path)}", place, progress)
        return [place for _, place in places]

    # Files and datasets

    def upload(self, folder: str | Path, progress: Progress | None = None) -> str:
        """Upload a folder, only what the server does not have; returns the hash for a job's `files`: sha256:<hex>."""
        from headframe.client_files import upload

        return f"sha256:{upload(self.wire, Path(folder), progress)[0]}"

    def datasets(self, **query: Any) -> list[Row]:
        return self.all("/v1/datasets", **query)

    def push_dataset(
        self, name: str, folder: str | Path, project: str | None = None, progress: Progress | None = None
    ) -> Row:
        """A new version of a dataset from a folder."""
        manifest = self.upload(folder, progress).removeprefix("sha256:")
        return self._post("/v1/datasets", {"name": name, "manifest": manifest, "project": project})

    # Fleet

    def regions(self) -> list[Row]:
        return self.all("/v1/regions")

    def clusters(self) -> list[Row]:
        return self.all("/v1/clusters")

    def nodes(self, **query: Any) -> list[Row]:
        return self.all("/v1/nodes", **query)

    def accelerators(self, **query: Any) -> list[Row]:
        return self.all("/v1/accelerators", **query)

    def drain(self, node: str, reason: str = "") -> Row:
        """Let the node run what it has, and take nothing new."""
        return self._post(f"/v1/nodes/{_part(node)}/drain", {"reason": reason})

    def resume(self, node: str) -> Row:
        return self._post(f"/v1/nodes/{_part(node)}/resume", {})

    # Money

    def prices(self, **query: Any) -> list[Row]:
        return self.all("/v1/prices", **query)

    def set_price(self, **fields: Any) -> Row:
        return self._post("/v1/prices", fields)

    def usage(self, *, start: str | None = None, end: str | None = None, by: str | None = None, **query: Any) -> Any:
        return self.get("/v1/usage", **{"from": start, "to": end, "by": by}, **query)

    def charges(self, job: str | None = None, **query: Any) -> list[Row]:
        return self.all("/v1/charges", job=job, **query)

    def balance(self, **query: Any) -> Any:
        return self.get("/v1/balance", **query)

    def add_credit(self, organization: str, amount: str, note: str = "") -> Row:
        return self._post("/v1/credits", {"organization": organization, "amount": amount, "note": note})

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

    def _prepared(
        self,
        job: Document | str | Path,
        files: str | Path | None,
        project: str | None,
        env: Mapping[str, str],
        progress: Progress | None,
    ) -> Row:
        """The body of a submission: checked before anything is uploaded, with files in place of the folder."""
        document, lines, base = _document(job)
        if files is not None:
            document["files"] = str(files)
            base = Path.cwd()
        folder = document.get("files")
        body = _body(_checked(document, lines, env), project, env)
        if isinstance(folder, str) and not folder.startswith("sha256:"):
            body["spec"]["files"] = self.upload(_inside(folder, base, lines.get("files"), bool(files)), progress)
        return body


def _document(job: Document | str | Path) -> tuple[dict[str, Any], dict[str, int], Path]:
    """(document, lines, the folder that its paths are relative to)."""
    if isinstance(job, Mapping):
        return dict(job), {}, Path.cwd()
    from headframe.workloads import jobfile

    path = Path(job)
    try:
        text = path.read_text("utf-8")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError, UnicodeDecodeError) as error:
        missing, barred = isinstance(error, FileNotFoundError), isinstance(error, PermissionError)
        why = "does not exist" if missing else "may not be read" if barred else "is not a text file"
        raise CallerError(f"The job file {path} {why}.", next_step="Name a job file such as job.yaml.") from None
    try:
        document, lines = jobfile.read(text)
    except InvalidSpec as error:
        error.details["file"] = str(path)
        raise
    return document, lines, path.resolve().parent


def _checked(document: dict[str, Any], lines: Mapping[str, int], env: Mapping[str, str]) -> dict[str, Any]:
    """The document, found valid in itself; a folder in `files` is stood in for."""
    from headframe.workloads import jobfile

    folder = document.get("files")
    shown = dict(document)
    if isinstance(folder, str) and folder.strip() and "\0" not in folder and not folder.startswith("sha256:"):
        shown["files"] = _PLACEHOLDER
    jobfile.parse(shown, env=env, lines=lines)
    return document


def _body(document: Mapping[str, Any], project: str | None, env: Mapping[str, str]) -> Row:
    """The body of a submission or plan. A folder not uploaded is left out."""
    spec = {name: value for name, value in document.items() if name != "project"}
    if isinstance(spec.get("files"), str) and not spec["files"].startswith("sha256:"):
        del spec["files"]
    return {"spec": spec, "project": project or document.get("project"), "env": dict(env)}


def _inside(folder: str, base: Path, line: int | None, chosen: bool) -> Path:
    """The folder to upload. One that a job file names must lie in the file's folder or in the current one."""
    place = (base / folder).resolve()
    roots = (base.resolve(), Path.cwd())
    if chosen or any(place.is_relative_to(root) for root in roots):
        return place
    raise InvalidSpec(
        f"files is {folder!r}, which leads out of the job file's folder.",
        field="files", value=folder, allowed="a folder inside it or inside the current folder, or --files", line=line,
        next_step="Allowed: a folder inside it or inside the current folder; --files uploads any other.",
    )  # fmt: skip


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
