"""A real server with real jobs, for tests of the console: some run, wait or failed, and one tells hostile things."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from running import Running, until

HOSTILE = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"


@dataclass
class ConsoleCloud:
    """The server, and what is on it. `keys` are those of an owner, a member and a viewer of the organization `mine`."""

    running: Running
    keys: dict[str, str]
    jobs: dict[str, dict[str, Any]]
    api: Api

    @property
    def url(self) -> str:
        return self.running.url

    @property
    def key(self) -> str:
        """The operator's owner."""
        return self.running.key


class Api:
    """Requests of the operator's owner."""

    def __init__(self, url: str, key: str) -> None:
        self.http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=30, trust_env=False)

    def __call__(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        answer = self.http.request(method, path, json=body, params=params)
        assert answer.is_success, (method, path, answer.status_code, answer.text)
        return answer.json()

    def submit(self, name: str, run: str, **resources: Any) -> dict[str, Any]:
        spec = {"name": name, "run": run, "resources": {"cpu": 0.1, "memory": "64MB", **resources}}
        return dict(self("POST", "/v1/jobs", {"spec": spec}))


@contextmanager
def open_cloud(root: Path) -> Iterator[ConsoleCloud]:
    """Start it, and wait until its jobs are as they are to be."""
    running = Running(root, fake_gpus="H100:8,A100:4")
    with ExitStack() as stack:
        stack.callback(running.clear)
        running.start()
        api = Api(running.url, running.key)
        stack.callback(api.http.close)
        made = api("POST", "/v1/organizations", {"name": "mine", "owner": "olga"})
        members = {one["name"]: one["id"] for one in api("GET", "/v1/members", organization=made["id"])["items"]}
        keys = {"owner": api("POST", "/v1/keys", {"name": "laptop", "member": members["olga"]})["key"]}
        for role in ("member", "viewer"):
            someone = api("POST", "/v1/members", {"name": role, "role": role, "organization": made["id"]})
            keys[role] = api("POST", "/v1/keys", {"name": HOSTILE[:150], "member": someone["id"]})["key"]
        loud = f"cat <<'END'\n{HOSTILE}\nEND\nprintf '\\033[31mred\\033[0m plain\\n'; sleep 600"
        jobs = {
            "running": api.submit("train", "i=0; while :; do echo step $i; i=$((i+1)); sleep 0.2; done", gpu="H100:2"),
            "hostile": api.submit("hostile", loud),
            "failed": api.submit("broken", "echo 'Traceback: out of memory' >&2; exit 3"),
            "done": api.submit("report", "seq 1 500"),
            "waiting": api.submit("big", "sleep 60", gpu="H100:8"),
        }
        states = {"running": "running", "hostile": "running", "failed": "failed", "done": "succeeded"}
        until(lambda: all(api("GET", f"/v1/jobs/{jobs[name]['id']}")["state"] == now for name, now in states.items()))
        yield ConsoleCloud(running, keys, jobs, api)
