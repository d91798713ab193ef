"""What somebody would try who means no good, or has bad luck with the disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from running import Running, born, end_of, until


def test_a_task_whose_record_is_damaged_does_not_run_beside_its_successor(serve: Callable[..., Running]) -> None:
    running = serve()
    client = running.client()
    job = client.submit({"run": "echo $HEADFRAME_ATTEMPT >> $HEADFRAME_OUTPUTS/attempts; sleep 1000"})["id"]
    begun = running.outputs(job) / "attempts"
    until(lambda: begun.exists() and begun.read_text() == "1\n")
    leader = until(lambda: client.story(job)["attempts"][0]["pid"])
    assert born(leader)
    running.kill_all()
    for record in (running.data / "agent" / "state").glob("*.json"):
        record.write_text('{"cut of')
    running.start()
    until(lambda: begun.read_text() == "1\n2\n")
    assert born(leader) is None
    client = running.client()
    client.stop(job, grace="0s")
    assert end_of(client, job)["state"] == "stopped"


def test_nobody_else_reads_the_database_in_a_folder_that_is_open(serve: Callable[..., Running], tmp_path: Path) -> None:
    data = tmp_path / "open"
    data.mkdir()
    data.chmod(0o755)
    (data / "headframe.db").touch(0o644)
    serve(data=data)
    kept = {path.name: path.stat().st_mode & 0o777 for path in data.iterdir() if path.is_file()}
    assert {name for name, mode in kept.items() if mode & 0o077} <= {"server.json"}
    assert {"headframe.db", "headframe.db-wal", "vault.key"} <= set(kept)
