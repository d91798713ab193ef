"""Pictures of every page of the console, in both themes and three widths, to be looked at: into screenshots/.

    .venv/bin/python scripts/screenshots.py [--pages jobs,fleet] [--widths phone,desk] [--themes dark]
        [--url URL --key KEY]

Without a URL a lively example is served for it (half a minute). Nothing is compared: they are for eyes.
"""

from __future__ import annotations

import argparse
import fcntl
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
from browser import THEMES, WIDTHS, Tab, open_browser, open_tab  # noqa: E402

# Name of the picture: address. {running}, {failed}, {waiting} and {node} are found on the cloud.
PAGES = {
    "home": "/home",
    "fleet": "/fleet",
    "fleet-by-job": "/fleet?by=job",
    "nodes": "/fleet/nodes",
    "node": "/nodes/{node}",
    "rack": "/fleet/racks/fjord/rack-02",
    "jobs": "/jobs",
    "jobs-ordered": "/jobs?order=-ran",
    "jobs-none": "/jobs?name=no-such-name",
    "jobs-grouped": "/jobs?group=project",
    "job-new": "/jobs/new",
    "job": "/jobs/{running}",
    "job-log": "/jobs/{running}/log",
    "job-metrics": "/jobs/{running}/metrics",
    "job-config": "/jobs/{running}/config",
    "job-failed": "/jobs/{failed}",
    "job-waiting": "/jobs/{waiting}",
    "queue": "/queue",
    "usage": "/usage",
    "usage-waste": "/usage/waste",
    "usage-budgets": "/usage/budgets",
    "usage-invoices": "/usage/invoices",
    "usage-draft": "/usage/invoices?organization=kite-robotics",
    "invoice": "/usage/invoices/{invoice}",
    "admin-organizations": "/admin/organizations",
    "admin-projects": "/admin/projects?organization=atlas-research",
    "admin-members": "/admin/members?organization=atlas-research",
    "admin-keys": "/admin/keys?organization=atlas-research",
    "admin-quotas": "/admin/quotas?organization=atlas-research",
    "admin-prices": "/admin/prices",
    "admin-clusters": "/admin/clusters",
    "admin-sessions": "/admin/sessions",
    "admin-audit": "/admin/audit",
    "account": "/account",
    "not-found": "/jobs/job_0000000000000000",
}
# What shows a state of its own while nothing has happened yet.
EMPTY = ("home", "fleet", "nodes", "jobs", "queue", "usage", "usage-waste", "usage-budgets", "usage-invoices",
         "admin-prices", "admin-quotas", "admin-clusters")  # fmt: skip


@contextmanager
def served(*words: str) -> Iterator[tuple[str, str]]:
    """(address, key) of a server that runs while the block does."""
    program = [sys.executable, "-m", "headframe.cli.main", *words, "--port", "0"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            url = key = ""
            while not (url and key):
                line = server.stdout.readline()
                assert line, "the server ended"
                url = url or (found[0].rstrip(".") if (found := re.search(r"http://[\d.:]+", line)) else "")
                key = found[0] if (found := re.search(r"hf_\S+", line)) else key
            yield url, key
        finally:
            server.terminate()
            server.wait(30)


def example() -> AbstractContextManager[tuple[str, str]]:
    """A lively example."""
    return served("example", "cloud")


def places(url: str, key: str) -> dict[str, str]:
    """Things to look at."""
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60, trust_env=False) as http:
        found = {}
        events = http.get("/v1/events", params={"limit": 500}).json()
        while events["next"]:
            for event in events["items"]:
                for kind, name in (("job_running", "running"), ("job_failed", "failed"), ("job_submitted", "waiting")):
                    if event["kind"] == kind:
                        found[name] = event["subject"]
            events = http.get("/v1/events", params={"limit": 500, "cursor": events["next"]}).json()
        for name, state in (("running", "running"), ("waiting", "queued")):
            jobs = http.get("/v1/find", params={"text": "pretrain"}).json()["items"]
            jobs += http.get("/v1/find", params={"text": "sft"}).json()["items"]
            jobs += http.get("/v1/find", params={"text": "a"}).json()["items"]
            found[name] = next((one["id"] for one in jobs if one["state"] == state), found.get(name, ""))
        nodes = http.get("/v1/nodes", params={"limit": 50}).json()["items"]
        busy = max(nodes, key=lambda node: (node["state"] == "ready", node["held"]["gpu_milli"], node["id"]))
        invoice = http.get("/v1/invoices", params={"organization": "all", "limit": 1}).json()["items"][0]
        return {**found, "node": busy["id"], "invoice": invoice["id"]}


def picture(tab: Tab, folder: Path, name: str, wait_ms: int = 900) -> None:
    tab.page.wait_for_timeout(wait_ms)
    tab.page.screenshot(path=folder / f"{name}.png", full_page=True)


def special(browser: Any, url: str, session: Any, folder: Path, widths: list[str], themes: list[str]) -> None:
    """What is no page of its own: the way in, a wrong key, the palette, the list of shortcuts, menus, forms."""
    for width in widths:
        for theme in themes:
            end = f"{width}-{theme}"
            with open_tab(browser, url, None, width) as tab:
                tab.theme(theme)
                tab.go("/sign-in")
                picture(tab, folder, f"sign-in-{end}", 100)
                tab.page.get_by_label("API key").fill("hf_wrong")
                tab.page.get_by_role("button", name="Sign in").click()
                picture(tab, folder, f"sign-in-refused-{end}", 200)
            with open_tab(browser, url, session, width) as tab:
                tab.theme(theme)
                tab.go("/home")
                tab.page.keyboard.press("Control+k")
                tab.page.get_by_role("combobox").fill("pre")
                picture(tab, folder, f"palette-{end}")
                tab.go("/home")
                tab.page.keyboard.press("?")
                picture(tab, folder, f"shortcuts-{end}", 300)
                tab.go("/jobs")
                tab.page.get_by_text("Copy as").click()
                picture(tab, folder, f"copy-as-{end}", 300)
                tab.go("/admin/prices")
                tab.page.get_by_text("New price").click()
                picture(tab, folder, f"new-price-{end}", 300)


def refused(browser: Any, url: str, key: str, folder: Path, widths: list[str], themes: list[str]) -> None:
    """A viewer where only others may look, one whose role was taken while looking, and a session that was ended."""
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60, trust_env=False) as http:
        house = http.get("/v1/organizations").json()["items"][1]["id"]
        for width in widths:
            for theme in themes:
                end = f"{width}-{theme}"
                someone = http.post(
                    "/v1/members",
                    json={"name": f"mara-{time.time_ns()}", "role": "admin", "organization": house},
                ).json()
                made = http.post("/v1/keys", json={"name": "laptop", "member": someone["id"]}).json()
                with open_tab(browser, url, None, width) as tab:
                    tab.theme(theme)
                    tab.sign_in(made["key"])
                    tab.go("/jobs")
                    http.patch(f"/v1/members/{someone['id']}", json={"role": "viewer"}).raise_for_status()
                    tab.page.reload()
                    picture(tab, folder, f"role-taken-{end}", 600)
                    tab.go("/admin/quotas")
                    picture(tab, folder, f"viewer-quotas-{end}", 300)
                    tab.go("/jobs")
                    http.delete(f"/v1/keys/{made['id']}").raise_for_status()
                    tab.page.wait_for_url(re.compile("/sign-in"), timeout=20_000)
                    picture(tab, folder, f"session-ended-{end}", 300)
                narrow = {"name": "jobs only", "member": someone["id"], "scopes": ["jobs:read"]}
                with open_tab(browser, url, None, width) as tab:
                    tab.theme(theme)
                    tab.sign_in(http.post("/v1/keys", json=narrow).json()["key"])
                    tab.go("/usage")
                    picture(tab, folder, f"forbidden-{end}", 300)


def lost(browser: Any, url: str, session: Any, folder: Path, widths: list[str], themes: list[str]) -> None:
    """A page whose server cannot be reached."""
    for width in widths:
        for theme in themes:
            with open_tab(browser, url, session, width) as tab:
                tab.theme(theme)
                tab.go("/fleet")
                tab.page.wait_for_timeout(500)
                tab.page.context.set_offline(True)
                tab.page.evaluate("dispatchEvent(new Event('offline'))")
                tab.page.route("**/v1/live**", lambda route: route.abort())
                picture(tab, folder, f"lost-server-{width}-{theme}", 2500)
                tab.page.context.set_offline(False)
                tab.page.evaluate("dispatchEvent(new Event('online'))")
                picture(tab, folder, f"reconnecting-{width}-{theme}", 4000)


def empty(browser: Any, folder: Path, widths: list[str], themes: list[str]) -> None:
    """A cloud in which nothing has happened yet."""
    with (
        tempfile.TemporaryDirectory() as data,
        served("serve", "--data", data) as (url, key),
        open_tab(browser, url, None) as first,
    ):
        first.sign_in(key)
        session = first.page.context.storage_state()
        for width in widths:
            with open_tab(browser, url, session, width) as tab:
                for theme in themes:
                    tab.theme(theme)
                    for name in EMPTY:
                        tab.go(PAGES[name].partition("?")[0])
                        picture(tab, folder, f"empty-{name}-{width}-{theme}", 400)
        crowded(first.page.context.browser, url, key, session, folder, widths, themes)


def crowded(browser: Any, url: str, key: str, session: Any, folder: Path, widths: list[str], themes: list[str]) -> None:
    """Ten thousand jobs, and a job whose log has a million lines."""
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60, trust_env=False) as http:
        small = {"cpu": 0.1, "memory": "64MB"}
        spec = {"name": "a-million-lines", "run": "seq -f 'line %.0f of a million' 1000000", "resources": small}
        long = http.post("/v1/jobs", json={"spec": spec}).json()["id"]
        first = http.post("/v1/jobs", json={"spec": {"name": "first", "run": "sleep 600", "resources": small}}).json()
        waits = {"name": "sweep", "run": "true", "array": {"index": "1..10000"}, "after": [first["id"]]}
        http.post("/v1/jobs", json={"spec": {**waits, "resources": small}}).raise_for_status()
        for _ in range(600):
            if http.get(f"/v1/jobs/{long}").json()["state"] in ("succeeded", "failed"):
                break
            time.sleep(0.2)
    for width in widths:
        with open_tab(browser, url, session, width) as tab:
            for theme in themes:
                tab.theme(theme)
                tab.go("/jobs")
                tab.page.wait_for_timeout(800)
                tab.page.screenshot(path=folder / f"many-jobs-{width}-{theme}.png")
                tab.go(f"/jobs/{long}/log")
                picture(tab, folder, f"long-log-{width}-{theme}", 1500)


def changing_over(browser: Any, folder: Path, widths: list[str], themes: list[str]) -> None:
    """A server that stands by while no other one decides: a lock that nobody lets go keeps it from taking over."""
    with tempfile.TemporaryDirectory() as data, (Path(data) / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        program = [sys.executable, "-m", "headframe.cli.main", "serve", "--standby", "--data", data, "--port", "0"]
        with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            found = re.search(r"http://[\d.:]+\d", server.stdout.readline())
            assert found
            for width in widths:
                with open_tab(browser, found[0], None, width) as tab:
                    for theme in themes:
                        tab.theme(theme)
                        tab.go("/jobs")
                        picture(tab, folder, f"changing-over-{width}-{theme}", 300)
            server.terminate()
            server.wait(30)


def main() -> int:
    read = argparse.ArgumentParser(description=__doc__)
    read.add_argument("--pages", default="")
    read.add_argument("--widths", default=",".join(WIDTHS))
    read.add_argument("--themes", default=",".join(THEMES))
    read.add_argument("--url", default="")
    read.add_argument("--key", default="")
    read.add_argument("--to", default=str(ROOT / "screenshots"))
    wanted = read.parse_args()
    folder, widths, themes = Path(wanted.to), wanted.widths.split(","), wanted.themes.split(",")
    folder.mkdir(parents=True, exist_ok=True)
    if wanted.url:
        return shoot(wanted.url, wanted.key, folder, wanted.pages, widths, themes)
    with example() as (url, key):
        return shoot(url, key, folder, wanted.pages, widths, themes)


def shoot(url: str, key: str, folder: Path, pages: str, widths: list[str], themes: list[str]) -> int:
    chosen = {name: path for name, path in PAGES.items() if not pages or name in pages.split(",")}
    known, began, count, wrong = places(url, key), time.monotonic(), 0, []
    with open_browser() as browser:
        with open_tab(browser, url, None) as tab:
            tab.sign_in(key)
            session = tab.page.context.storage_state()
        for width in widths:
            with open_tab(browser, url, session, width) as tab:
                tab.expected = ("404",)
                for theme in themes:
                    tab.theme(theme)
                    for name, path in chosen.items():
                        tab.go(path.format(**known))
                        picture(tab, folder, f"{name}-{width}-{theme}")
                        count += 1
                wrong += [one for one in tab.wrong if "404" not in one]
        if not pages:
            special(browser, url, session, folder, widths, themes)
            refused(browser, url, key, folder, widths, themes)
            lost(browser, url, session, folder, widths, themes)
            changing_over(browser, folder, widths, themes)
            empty(browser, folder, widths, themes)
    print(f"{count} pictures of {len(chosen)} pages in {folder}, in {time.monotonic() - began:.0f} s.")
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
