"""Files, datasets, outputs, metrics and logs."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from pathlib import Path
from urllib.parse import quote

import pytest
from house import House, open_house, wait_for

from headframe.api.wire import Limits


@pytest.fixture(scope="module")
def owner(house: House) -> str:
    return house.member(house.organization("mill")["id"], "owner")


def _put(house: House, key: str, content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()
    house.ok("PUT", f"/v1/files/{digest}", key, content=content)
    return digest


def test_files_are_kept_by_content(house: House, owner: str):
    content = b"weights" * 100_000
    digest = hashlib.sha256(content).hexdigest()
    ask = {"hashes": [digest, f"sha256:{'0' * 64}"]}
    assert house.ok("POST", "/v1/files/missing", owner, json=ask)["missing"] == [digest, "0" * 64]
    pieces = (content[start : start + 65536] for start in range(0, len(content), 65536))
    kept = house.ok("PUT", f"/v1/files/{digest}", owner, content=pieces)
    assert kept == {"sha256": digest, "size": len(content)}
    assert house.ok("POST", "/v1/files/missing", owner, json=ask)["missing"] == ["0" * 64]
    assert _put(house, owner, b"")
    assert house.call("PUT", f"/v1/files/{digest}", owner, content=b"other").status_code == 422
    assert house.call("PUT", "/v1/files/..%2f..%2fetc", owner, content=b"x").status_code in (404, 422)
    assert house.call("PUT", "/v1/files/short", owner, content=b"x").status_code == 422


def test_nobody_learns_what_others_have(house: House, owner: str):
    digest = _put(house, owner, b"secret plan")
    other = house.member(house.organization("other")["id"], "owner")
    assert house.ok("POST", "/v1/files/missing", other, json={"hashes": [digest]})["missing"] == [digest]


def test_datasets_count_their_versions(house: House, owner: str):
    one = _put(house, owner, b"one")
    entries = [{"path": "a", "sha256": one, "size": 3, "mode": 420}, {"path": "b", "link": "a"}]
    manifest = _put(house, owner, json.dumps({"files": entries}).encode())
    made = house.ok("POST", "/v1/datasets", owner, json={"name": "wiki", "manifest": f"sha256:{manifest}"})
    assert (made["number"], made["files"], made["size_bytes"], made["manifest"]) == (1, 2, 3, manifest)
    assert house.ok("POST", "/v1/datasets", owner, json={"name": "wiki", "manifest": manifest})["number"] == 2
    listed = house.ok("GET", "/v1/datasets", owner, params={"name": "wiki"})["items"]
    assert [each["number"] for each in listed] == [1, 2]
    lacking = _put(house, owner, json.dumps({"files": [{**entries[0], "sha256": "0" * 64}]}).encode())
    bad = _put(house, owner, json.dumps({"files": [{"path": "../x", "link": "a"}]}).encode())
    for wrong in (lacking, bad, "1" * 64, "x"):
        answer = house.call("POST", "/v1/datasets", owner, json={"name": "wiki", "manifest": wrong})
        assert (answer.status_code, answer.json()["field"]) == (422, "manifest")


def test_a_narrowed_key_reads_no_dataset_of_another_project(house: House, owner: str):
    one = _put(house, owner, b"own eyes only")
    manifest = _put(
        house, owner, json.dumps({"files": [{"path": "a", "sha256": one, "size": 13, "mode": 420}]}).encode()
    )
    house.ok("POST", "/v1/datasets", owner, json={"name": "private", "manifest": manifest})
    house.ok("POST", "/v1/projects", owner, json={"name": "guests"})
    guest = house.ok("POST", "/v1/keys", owner, json={"name": "guest", "project": "guests"})["key"]
    spec = {"run": "run 1s", "datasets": ["private@1"]}
    assert house.submit(owner, spec={"datasets": ["private@1"]})
    for path in ("/v1/jobs", "/v1/plan"):
        answer = house.call("POST", path, guest, json={"spec": spec})
        assert "There is no dataset private@1." in answer.text
    house.ok("POST", "/v1/datasets", guest, json={"name": "private", "manifest": manifest})
    assert house.submit(guest, spec={"datasets": ["private@2"]})


def test_a_job_whose_files_cannot_be_laid_out_is_refused_and_nothing_is_stored(house: House, owner: str):
    one = _put(house, owner, b"content")
    fine = {"path": "a/b", "sha256": one, "size": 7, "mode": 420}
    before = [job["id"] for job in house.ok("GET", "/v1/jobs", owner)["items"]]
    for entry in (
        {**fine, "path": "../x"}, {**fine, "path": "/etc/x"}, {**fine, "path": "a//b"}, {**fine, "sha256": "0" * 64},
        {**fine, "mode": 0o4755}, {"path": "a", "link": "/etc/shadow"}, {"path": "a", "link": "../.."},
    ):  # fmt: skip
        manifest = _put(house, owner, json.dumps({"files": [entry]}).encode())
        answer = house.call("POST", "/v1/jobs", owner, json={"spec": {"run": "true", "files": f"sha256:{manifest}"}})
        assert (answer.status_code, answer.json()["field"]) == (422, "files"), entry
    assert [job["id"] for job in house.ok("GET", "/v1/jobs", owner)["items"]] == before
    manifest = _put(house, owner, json.dumps({"files": [fine]}).encode())
    for _ in range(2):
        house.submit(owner, run="run 1ms", spec={"files": f"sha256:{manifest}"})


def test_outputs_are_downloads(house: House, owner: str):
    job = house.submit(owner)["id"]
    house.outputs.put(job, "pages/résumé.html", b"<script>")
    items = house.ok("GET", f"/v1/jobs/{job}/outputs", owner)["items"]
    assert [(each["path"], each["size_bytes"]) for each in items] == [("pages/résumé.html", 8)]
    answer = house.call("GET", f"/v1/jobs/{job}/outputs/pages/résumé.html", owner)
    assert answer.content == b"<script>"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment")
    for path in ("../../headframe.db", "..%2f..%2fheadframe.db", "none", "%2fetc%2fpasswd"):
        assert house.call("GET", f"/v1/jobs/{job}/outputs/{path}", owner).status_code == 404


def test_outputs_of_any_name_can_be_had(house: House, owner: str):
    job = house.submit(owner)["id"]
    for name in ("two\nlines", "\n", "\x1b[31m;?#%41", "a/<script>"):
        house.outputs.put(job, name, name.encode())
        assert house.call("GET", f"/v1/jobs/{job}/outputs/{quote(name)}", owner).content == name.encode()


def test_metrics_are_read_whatever_a_job_wrote(house: House, owner: str):
    job = house.submit(owner)["id"]
    assert house.ok("GET", f"/v1/jobs/{job}/metrics/lines", owner) == {"items": [], "next": None}
    lines = [
        b'{"step": 1, "loss": 0.5}', b"not json", b'{"step": 2, "loss": NaN}', b"[1]", b"\xff\xfe",
        b'{"step": 12345678901234567890123}', b"[" * 50_000, b'{"a": "\\ud800", "\\udfff": {"b": 1}}',
        b'{"x": "' + b"y" * 70_000 + b'"}', b"1" * 5000, b'{"step": 3}',
    ]  # fmt: skip
    house.outputs.put(job, "metrics.jsonl", b"\n".join(lines) + b"\n" + b'{"cut": ')
    found = house.ok("GET", f"/v1/jobs/{job}/metrics/lines", owner)["items"]
    assert found[0] == {"step": 1, "loss": 0.5}
    assert found[1] == {"step": 2, "loss": None}
    assert found[-1] == {"step": 3}
    assert len(found) == 5
    page = house.ok("GET", f"/v1/jobs/{job}/metrics/lines", owner, params={"limit": 1})
    assert page["items"] == found[:1]
    rest = house.ok("GET", f"/v1/jobs/{job}/metrics/lines", owner, params={"cursor": page["next"]})
    assert rest["items"] == found[1:]


def test_metrics_of_a_file_with_a_hole_hold_no_thread(house: House, owner: str):
    job = house.submit(owner)["id"]
    house.outputs.put(job, "metrics.jsonl", b'{"step": 1}\n')
    os.truncate(house.outputs.data / "jobs" / job / "outputs" / "metrics.jsonl", 1 << 42)
    assert house.ok("GET", f"/v1/jobs/{job}/metrics/lines", owner) == {"items": [{"step": 1}], "next": None}


def test_logs_are_read_by_place(house: House, owner: str):
    job = house.submit(owner)["id"]
    assert house.ok("GET", f"/v1/jobs/{job}/log", owner) == {"pieces": [], "next": 0, "ended": False}
    house.logs.write(job, "one\ntwo\nthree\n")
    first = house.ok("GET", f"/v1/jobs/{job}/log", owner, params={"limit": 4})
    assert first["pieces"][0]["text"] == "one\n"
    rest = house.ok("GET", f"/v1/jobs/{job}/log", owner, params={"offset": first["next"]})
    assert "".join(piece["text"] for piece in rest["pieces"]) == "two\nthree\n"
    tail = house.ok("GET", f"/v1/jobs/{job}/log", owner, params={"tail": 1})
    assert tail["pieces"][0]["text"] == "three\n"
    assert not tail["ended"]


def test_slow_uploads_of_one_organization_keep_no_other_waiting(tmp_path: Path):
    with open_house(tmp_path, Limits(uploads=2)) as house:
        slow = house.member(house.organization("slow")["id"], "owner")
        other = house.member(house.organization("other")["id"], "owner")
        url, lines = house.http.base_url, []
        for number in range(4):
            line = socket.create_connection((url.host, url.port), 10)
            head = f"PUT /v1/files/{number:064} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {slow}\r\n"
            line.sendall(f"{head}Content-Length: 1000\r\n\r\nx".encode())
            lines.append(line)
        serving = house.app.state.serving
        wait_for(lambda: any(each.statistics().tasks_waiting == 3 for each in list(serving.uploading_of.values())))
        assert _put(house, other, b"quick")
        for line in lines:
            line.close()
        wait_for(lambda: not serving.uploading_of)
