# python benchmarks/console.py --json
"""The console on this machine: how soon a page can be used, how soon it shows what happened, what many readers cost.

Measured in a real Chromium with a fresh cache against `headframe example cloud` (1,536 accelerators): from the start of
the navigation to the first paint and to the end of loading of each page; from a job's change on record to the text on
the page; the server's use of a core with 500 open streams, each of which gets every frame of the fleet. The browser and
the server share the machine's cores.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[1]
for folder in ("tests/e2e", "scripts"):
    sys.path.insert(0, str(ROOT / folder))
import httpx
import screenshots
from browser import open_browser, open_tab

PAGES = ("home", "fleet", "nodes", "jobs", "job-new", "job", "job-log", "queue", "usage", "admin-prices")
TIMES = """() => ({
  paint: performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null,
  usable: performance.getEntriesByType('navigation')[0].loadEventEnd,
})"""


FOLLOW = """async () => {
  window.seen = [];
  const shell = document.querySelector('script[src*="shell.js"]').src;
  const live = await import(shell.replace('shell.js', 'live.js'));
  live.follow('jobs', (frame) => requestAnimationFrame(() => {
    document.getElementById('said').textContent = frame.state;
    window.seen.push([frame.id, frame.state, Date.now()]);
  }));
}"""


def loads(browser: Any, url: str, key: str, known: dict[str, str], rounds: int) -> dict[str, Any]:
    """First paint and end of loading of each page, each time in a context without a cache; milliseconds, medians."""
    with open_tab(browser, url, None) as tab:
        tab.sign_in(key)
        session = tab.page.context.storage_state()
    found: dict[str, Any] = {}
    for name in PAGES:
        times: list[dict[str, float]] = []
        code = 0
        for _ in range(rounds):
            with open_tab(browser, url, session) as tab:
                tab.go(screenshots.PAGES[name].format(**known))
                tab.page.wait_for_timeout(150)
                times.append(tab.page.evaluate(TIMES))
                code = sum(tab.sent.values())
        paints = [one["paint"] for one in times if one["paint"] is not None]
        found[name] = {
            "first_paint_ms": round(statistics.median(paints)) if paints else None,
            "usable_ms": round(statistics.median(one["usable"] for one in times)),
            "code_bytes": code,
        }
    return found


def tick_to_page(browser: Any, url: str, key: str, rounds: int) -> dict[str, float]:
    """From the moment of an event on record to the change of the page's text, by the same machine's clock; ms."""
    headers = {"Authorization": f"Bearer {key}"}
    spans: list[float] = []
    with (
        httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False) as http,
        open_tab(browser, url, None) as tab,
    ):
        caught_up(http)
        tab.sign_in(key)
        tab.page.wait_for_timeout(1500)
        tab.page.evaluate(FOLLOW)
        tab.page.wait_for_timeout(1000)
        for number in range(rounds):
            spec = {"name": f"tick-{number}", "run": "run 2m", "resources": {"cpu": 0.1, "memory": "64MB"}}
            job = http.post("/v1/jobs", json={"spec": spec}).json()
            time.sleep(0.4)
            events = http.get("/v1/events", params={"subject": job["id"]}).json()["items"]
            told = {event["kind"].removeprefix("job_"): event["at_us"] / 1000 for event in events}
            seen = {state: at for name, state, at in tab.page.evaluate("window.seen") if name == job["id"]}
            if "starting" in told and "starting" in seen:  # decided by the tick itself, not heard from a machine
                spans.append(seen["starting"] - told["starting"])
            http.post(f"/v1/jobs/{job['id']}/stop")
    return {"tick_to_page_ms_p50": round(statistics.median(spans), 1), "tick_to_page_ms_max": round(max(spans), 1)}


def caught_up(http: httpx.Client) -> None:
    """Wait until the example's clock is the machine's: it begins up to a minute ahead, and stands still until then."""
    while True:
        before_us = time.time_ns() // 1000
        spec = {"name": "clock", "run": "run 1s", "resources": {"cpu": 0.1, "memory": "64MB"}}
        if http.post("/v1/jobs", json={"spec": spec}).json()["submitted_us"] - before_us < 100_000:
            return
        time.sleep(1)


def many_streams(url: str, key: str, pid: int, count: int, seconds: float) -> dict[str, float]:
    """The server's use of a core while so many streams follow the fleet and the jobs, beside that without them."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    where = urlsplit(url)
    ask = f"GET /v1/live?topics=fleet,jobs HTTP/1.1\r\nHost: {where.netloc}\r\nAuthorization: Bearer {key}\r\n\r\n"
    before = busy(pid, seconds)
    sockets = []
    for _ in range(count):
        one = socket.create_connection((where.hostname or "", where.port or 0), timeout=30)
        one.sendall(ask.encode())
        sockets.append(one)
    counted = [0]
    over = threading.Event()

    def read() -> None:
        import selectors

        ready = selectors.DefaultSelector()
        for one in sockets:
            one.setblocking(False)
            ready.register(one, selectors.EVENT_READ)
        while not over.is_set():
            for found, _ in ready.select(0.2):
                try:
                    counted[0] += len(found.fileobj.recv(1 << 18))  # type: ignore[union-attr]
                except BlockingIOError:
                    continue

    thread = threading.Thread(target=read)
    thread.start()
    time.sleep(3)
    begun = counted[0]
    during = busy(pid, seconds)
    received = counted[0] - begun
    over.set()
    thread.join()
    for one in sockets:
        one.close()
    return {
        "streams": count,
        "core_percent_without": round(before, 1),
        "core_percent_with": round(during, 1),
        "core_percent_of_streams": round(during - before, 1),
        "bytes_per_stream_per_s": round(received / count / seconds),
    }


CLUSTERS = """north: {engine: scripted, region: north, nodes: 6250, gpus: "H100:8", cpu: 128, memory: 2TB}
south: {engine: scripted, region: south, nodes: 6250, gpus: "H200:8", cpu: 128, memory: 2TB}
"""
WATCH = """
window.tasks = [];
new PerformanceObserver(found => found.getEntries().forEach(one => window.tasks.push(one.duration)))
  .observe({type: 'longtask', buffered: true});
new MutationObserver(() => {
  if (document.querySelector('hf-heat[data-painted]')) window.painted ??= performance.now();
}).observe(document, {subtree: true, attributes: true, childList: true});
"""
FRAMES = """() => {
  window.tasks.length = 0;
  window.frames_at = [];
  const next = at => { window.frames_at.push(at); requestAnimationFrame(next); };
  requestAnimationFrame(next);
}"""


def hundred_thousand(browser: Any, rounds: int) -> dict[str, float]:
    """The map of 100,000 accelerators, most of them held: from the start of the navigation to the first picture, the
    longest task of the page while it is enlarged, dragged and walked by keys with frames coming in, and the longest
    time between two pictures; milliseconds."""
    with TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        clusters = Path(folder, "clusters.yaml")
        clusters.write_text(CLUSTERS)
        words = ["serve", "--data", f"{folder}/data", "--port", "0", "--clusters", str(clusters)]
        server = subprocess.Popen(
            [sys.executable, "-m", "headframe.cli.main", *words], stdout=subprocess.PIPE, text=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("HEADFRAME_")},
        )  # fmt: skip
        try:
            assert server.stdout is not None
            key = next(line.strip() for line in server.stdout if line.strip().startswith("hf_"))
            url = json.loads(Path(folder, "data", "server.json").read_text())["url"]
            fill(url, key)
            return walk(browser, url, key, rounds)
        finally:
            server.terminate()
            server.wait()


def fill(url: str, key: str) -> None:
    """Wait until all nodes are known, and let jobs hold most of them."""
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False) as http:
        while len(http.get("/v1/fleet/map").json()["node_ids"]) < 12_500:
            time.sleep(0.5)
        for number in range(40):
            resources = {"gpu": f"{('H100', 'H200')[number % 2]}:8", "cpu": 64, "memory": "1TB"}
            spec = {"name": f"gang-{number}", "run": "run 10h", "nodes": 256, "resources": resources}
            http.post("/v1/jobs", json={"spec": spec}).raise_for_status()
        while http.get("/v1/fleet/frame", params={"by": "held"}).json()["counts"]["held"] < 80_000:
            time.sleep(0.5)


def walk(browser: Any, url: str, key: str, rounds: int) -> dict[str, float]:
    with open_tab(browser, url, None) as tab:
        tab.sign_in(key)
        session = tab.page.context.storage_state()
    painted: list[float] = []
    for _ in range(rounds):
        with open_tab(browser, url, session) as tab:
            tab.page.add_init_script(WATCH)
            page = tab.go("/fleet?by=held")
            page.wait_for_selector("hf-heat[data-painted]")
            painted.append(page.evaluate("window.painted"))
    with open_tab(browser, url, session) as tab:
        tab.page.add_init_script(WATCH)
        page = tab.go("/fleet?by=held")
        page.wait_for_selector("hf-heat[data-painted]")
        page.evaluate(FRAMES)
        box = page.locator(".heat-box")
        place = box.bounding_box()
        box.focus()
        for key_name in ("+",) * 6 + ("ArrowRight",) * 40 + ("ArrowDown",) * 20:
            page.keyboard.press(key_name)
        page.mouse.move(place["x"] + 700, place["y"] + 300)
        page.mouse.down()
        for step in range(200):
            page.mouse.move(place["x"] + 700 - 3 * step, place["y"] + 300 - step)
        page.mouse.up()
        page.wait_for_timeout(3000)
        longest = page.evaluate("Math.max(0, ...window.tasks)")
        gaps = page.evaluate("window.frames_at.slice(1).map((at, place) => at - window.frames_at[place])")
    tables: list[dict[str, float]] = []
    for _ in range(rounds):
        with open_tab(browser, url, session) as tab:
            tab.go("/fleet/nodes?sort=-held").wait_for_timeout(150)
            tables.append(tab.page.evaluate(TIMES))
    return {
        "table_of_12500_nodes_first_paint_ms": round(statistics.median(one["paint"] for one in tables)),
        "table_of_12500_nodes_usable_ms": round(statistics.median(one["usable"] for one in tables)),
        "map_of_100000_painted_ms": round(statistics.median(painted)),
        "map_of_100000_painted_ms_first": round(painted[0]),
        "map_of_100000_longest_task_ms": round(longest),
        "map_of_100000_frame_ms_p99": round(sorted(gaps)[len(gaps) * 99 // 100], 1),
    }


def busy(pid: int, seconds: float) -> float:
    """Percent of one core that a process uses."""

    def ticks() -> int:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    begun, before = time.monotonic(), ticks()
    time.sleep(seconds)
    return 100 * (ticks() - before) / os.sysconf("SC_CLK_TCK") / (time.monotonic() - begun)


def server_of(url: str) -> int:
    """The process that listens at the address."""
    port = urlsplit(url).port or 0
    inode = ""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
            inode = fields[9]
    for folder in Path("/proc").glob("[0-9]*/fd"):
        try:
            if any(os.readlink(one) == f"socket:[{inode}]" for one in folder.iterdir()):
                return int(folder.parts[2])
        except OSError:
            continue
    raise SystemExit("the server was not found")


def main() -> int:
    read = argparse.ArgumentParser(description=__doc__)
    read.add_argument("--json", action="store_true")
    read.add_argument("--rounds", type=int, default=5)
    read.add_argument("--streams", type=int, default=500)
    wanted = read.parse_args()
    with screenshots.example() as (url, key):
        known, pid = screenshots.places(url, key), server_of(url)
        with open_browser() as browser:
            pages = loads(browser, url, key, known, wanted.rounds)
            live = tick_to_page(browser, url, key, 20)
        # Half of all streams may be of one organization; the operator's are counted as its own.
        streams = many_streams(url, key, pid, min(wanted.streams, 500), 15)
    with open_browser() as browser:
        large = hundred_thousand(browser, wanted.rounds)
    found = {"pages": pages, **live, **streams, **large}
    print(json.dumps(found, indent=None if wanted.json else 2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
