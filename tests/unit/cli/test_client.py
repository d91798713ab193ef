"""The SDK: errors by code, tries after a lost connection, streams that resume, uploads, profiles."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from headframe.base import errors
from headframe.client import Client, Unreachable
from headframe.client.files import safe_place, walk
from headframe.client.wire import error_of, events_of, profile, save_profile

Answer = Callable[[httpx.Request], httpx.Response]
JOB = {"id": "job_1", "name": "a", "state": "running", "reason": "", "exit_code": None}


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of the person who runs the tests, and no pauses."""
    for name in ("HEADFRAME_URL", "HEADFRAME_KEY", "HEADFRAME_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr("headframe.client.wire.time.sleep", lambda _: None)


def client(answer: Answer, patience_s: float = 5.0) -> Client:
    return Client("http://cloud.test", "hf_k_s", transport=httpx.MockTransport(answer), patience_s=patience_s)


def test_the_key_is_sent_and_pages_are_put_together() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        first = "cursor" not in request.url.params
        return httpx.Response(200, json={"items": [{"id": "a" if first else "b"}], "next": "c" if first else None})

    assert [row["id"] for row in client(answer).projects(organization=None)] == ["a", "b"]
    assert seen[0].headers["authorization"] == "Bearer hf_k_s"
    assert "organization" not in seen[0].url.params
    assert client(answer).jobs(limit=1, state=["queued", "running"]) == [{"id": "a"}]
    assert seen[-1].url.params.get_list("state") == ["queued", "running"]


@pytest.mark.parametrize(
    "kind",
    [errors.NotFound, errors.Forbidden, errors.Unauthenticated, errors.QuotaExceeded, errors.Impossible,
     errors.InvalidSpec, errors.VersionConflict, errors.TooLarge, errors.IdempotencyConflict, errors.StoreFailed],
)  # fmt: skip
def test_a_problem_is_raised_as_the_class_that_the_server_raised(kind: type[errors.HeadframeError]) -> None:
    problem = {"code": kind.code, "detail": "So it is.", "next_step": "Do this.", "field": "name", "line": 3}
    found = error_of(problem, kind.status)
    assert type(found) is kind
    assert (found.message, found.next_step, found.details["field"]) == ("So it is.", "Do this.", "name")
    assert str(found) == "So it is. Do this."


def test_answers_that_are_no_problem_documents_are_still_errors() -> None:
    with pytest.raises(errors.OurError):
        client(lambda _: httpx.Response(500, text="<html>")).whoami()
    with pytest.raises(errors.CallerError):
        client(lambda _: httpx.Response(200, text="<html>")).whoami()


def test_a_post_is_sent_again_under_the_same_key_after_a_lost_connection() -> None:
    keys: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["idempotency-key"])
        if len(keys) < 3:
            raise httpx.ReadError("gone")
        return httpx.Response(201, json=JOB)

    assert client(answer).submit({"run": "true"})["id"] == "job_1"
    assert len(keys) == 3
    assert len(set(keys)) == 1


def test_a_busy_server_is_asked_again() -> None:
    calls: list[int] = []

    def answer(_: httpx.Request) -> httpx.Response:
        calls.append(1)
        if len(calls) < 3:
            return httpx.Response(503, json={"code": "too_busy", "detail": "busy"}, headers={"Retry-After": "1"})
        return httpx.Response(200, json=JOB)

    assert client(answer).job("a")["id"] == "job_1"


def test_who_waits_for_a_busy_server_is_told_why_once() -> None:
    calls: list[int] = []

    def answer(_: httpx.Request) -> httpx.Response:
        calls.append(1)
        busy = httpx.Response(503, json={"code": "store_failed", "detail": "The disk is full."})
        return busy if len(calls) < 6 else httpx.Response(200, json=JOB)

    told: list[str] = []
    sdk = client(answer)
    sdk.wire.tell_wait = told.append
    sdk.job("a")
    assert told == ["The disk is full."]


def test_a_server_that_is_not_there_is_given_up_with_what_to_do() -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(Unreachable) as caught:
        client(answer, patience_s=0.01).whoami()
    assert "http://cloud.test" in caught.value.message
    assert "headframe serve" in caught.value.next_step


class Broken(httpx.SyncByteStream):
    """A stream that breaks off behind what it holds."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __iter__(self) -> Iterator[bytes]:
        yield self.content
        raise httpx.ReadError("gone")


def _piece(offset: int, text: str) -> dict[str, Any]:
    following = offset + len(text)
    return {"offset": offset, "next": following, "at_us": 1, "attempt": 1, "rank": 0, "stream": "stdout", "text": text}


def _event(piece: dict[str, Any]) -> bytes:
    return f"id: {piece['next']}\ndata: {json.dumps(piece)}\n\n".encode()


def test_a_followed_log_has_no_gap_and_no_repeat_when_the_server_is_restarted() -> None:
    log = [_piece(0, "one\n"), _piece(4, "two\n"), _piece(8, "three\n"), _piece(14, "four\n")]
    asked: list[int] = []

    def answer(request: httpx.Request) -> httpx.Response:
        offset = int(request.url.params.get("offset", "0"))
        if not request.url.path.endswith("follow"):
            pieces = [log[0]] if offset == 0 else []
            return httpx.Response(200, json={"pieces": pieces, "next": max(offset, 4), "ended": False})
        asked.append(offset)
        if len(asked) == 1:
            return httpx.Response(200, stream=Broken(b"retry: 1000\n\n" + _event(log[1]) + b"id: 14\ndata: {"))
        if len(asked) == 2:
            raise httpx.ConnectError("refused")
        if len(asked) == 3:
            return httpx.Response(200, content=b": still here\n\n" + _event(log[2]))  # it stops, without an end
        return httpx.Response(200, content=_event(log[3]) + b"id: 19\nevent: end\ndata: {}\n\n")

    text = "".join(piece["text"] for piece in client(answer).logs("a", follow=True))
    assert text == "one\ntwo\nthree\nfour\n"
    assert asked == [4, 8, 8, 14]


def test_a_log_is_what_was_said_not_how_far_a_build_has_come() -> None:
    pieces = [{**_piece(0, "build"), "stream": "progress"}, _piece(5, "one")]

    def answer(request: httpx.Request) -> httpx.Response:
        first = request.url.params["offset"] == "0"
        return httpx.Response(200, json={"pieces": pieces if first else [], "next": 8, "ended": True})

    assert [piece["text"] for piece in client(answer).logs("a")] == ["one"]
    assert [piece["text"] for piece in client(answer).logs("a", progress=True)] == ["build", "one"]


def test_wait_is_told_and_does_not_ask_again_and_again() -> None:
    states = iter(["running", "running", "running", "succeeded"])
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if request.url.path == "/v1/events":
            return httpx.Response(200, json={"items": [{"seq": 7, "subject": "job_1"}], "next": None})
        if request.url.path == "/v1/events/follow":
            assert request.url.params["after"] == "7"
            assert request.url.params["subject"] == "job_1"
            event = {"seq": 8, "subject": "job_1"}
            return httpx.Response(
                200, content=b"".join(b"id: %d\ndata: %b\n\n" % (n, json.dumps(event).encode()) for n in (8, 9))
            )
        return httpx.Response(200, json={**JOB, "state": next(states)})

    assert client(answer).wait("a")["state"] == "succeeded"
    assert asked.count("/v1/events/follow") == 1


def test_server_sent_events_are_read_as_the_standard_says() -> None:
    text = ": comment\nid: 5\nevent: log\ndata: a\ndata: b\n\ndata:c\n\nevent: end\n\nretry: 1\n\n"
    assert list(events_of(iter(text.split("\n")))) == [("log", "5", "a\nb"), ("message", "5", "c"), ("end", "5", "")]


def _folder(root: Path, **files: str) -> Path:
    for name, text in files.items():
        place = root / name.replace("__", "/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return root


def test_gitignore_is_respected_at_every_depth(tmp_path: Path) -> None:
    _folder(tmp_path, **{
        ".gitignore": "*.log\n/data/\n!keep.log\n", "train.py": "x", "a.log": "x", "keep.log": "x", "data/big": "x",
        "src/data/small": "x", "src/.gitignore": "!b.log\nsecret\n", "src/b.log": "x", "src/secret": "x",
        ".git/HEAD": "x", "other/secret": "x",
    })  # fmt: skip
    assert [item.path for item in walk(tmp_path)] == [
        ".gitignore", "keep.log", "other/secret", "src/.gitignore", "src/b.log", "src/data/small", "train.py",
    ]  # fmt: skip


def test_links_within_the_folder_are_kept_and_others_refused(tmp_path: Path) -> None:
    inside = _folder(tmp_path / "job", **{"a.txt": "x", "sub/b.txt": "x"})
    (inside / "sub/link").symlink_to("../a.txt")
    found = {item.path: item.link for item in walk(inside)}
    assert found == {"a.txt": None, "sub/b.txt": None, "sub/link": "../a.txt"}
    for target in ("/etc/passwd", "../outside", "sub/../../x"):
        (inside / "bad").unlink(missing_ok=True)
        (inside / "bad").symlink_to(target)
        with pytest.raises(errors.InvalidSpec, match="leads out"):
            walk(inside)


def test_an_upload_sends_only_what_is_missing_and_its_manifest_is_canonical(tmp_path: Path) -> None:
    _folder(tmp_path, **{"b.txt": "two", "a.sh": "one", "copy.sh": "one"})
    (tmp_path / "a.sh").chmod(0o700)
    (tmp_path / "copy.sh").chmod(0o600)
    (tmp_path / "zlink").symlink_to("b.txt")
    kept: dict[str, bytes] = {hashlib.sha256(b"two").hexdigest(): b"two"}
    puts: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/files/missing":
            return httpx.Response(
                200, json={"missing": [name for name in json.loads(request.content)["hashes"] if name not in kept]}
            )
        name = request.url.path.rpartition("/")[2]
        puts.append(name)
        kept[name] = request.read()
        assert hashlib.sha256(kept[name]).hexdigest() == name
        return httpx.Response(201, json={})

    told: list[tuple[str, int, int]] = []
    cloud = client(answer)
    digest = cloud.upload(tmp_path, lambda *step: told.append(step)).removeprefix("sha256:")
    assert sorted(puts) == sorted([digest, hashlib.sha256(b"one").hexdigest()])
    one, two = hashlib.sha256(b"one").hexdigest(), hashlib.sha256(b"two").hexdigest()
    assert kept[digest].decode() == (
        f'{{"files":[{{"path":"a.sh","sha256":"{one}","size":3,"mode":493}},{{"path":"b.txt","sha256":"{two}","size":3,"mode":420}},'
        f'{{"path":"copy.sh","sha256":"{one}","size":3,"mode":420}},{{"path":"zlink","link":"b.txt"}}]}}'
    )
    assert ("hashing", 9, 9) in told
    assert told[-1] == ("uploading", 3, 3)
    puts.clear()
    assert cloud.upload(tmp_path) == f"sha256:{digest}"
    assert puts == []


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "", "a//b", "./a", "a\0b", "out/x"])
def test_downloads_never_leave_their_folder(tmp_path: Path, path: str) -> None:
    root = tmp_path / "results"
    root.mkdir()
    (root / "out").symlink_to(tmp_path)
    with pytest.raises(errors.Invalid):
        safe_place(root, path)


def test_outputs_are_downloaded_whole(tmp_path: Path) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/outputs"):
            return httpx.Response(200, json={"items": [{"path": "m/model.pt", "size": 3}], "next": None})
        return httpx.Response(200, content=b"abc")

    assert client(answer).download("a", tmp_path) == [tmp_path / "m/model.pt"]
    assert (tmp_path / "m/model.pt").read_bytes() == b"abc"
    assert sorted(os.listdir(tmp_path / "m")) == ["model.pt"]


def test_a_wrong_job_file_names_file_and_line_and_nothing_is_sent(tmp_path: Path) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        raise AssertionError("nothing may be sent")

    file = tmp_path / "job.yaml"
    file.write_text("run: x\nresources:\n  gpus: 1\n")
    with pytest.raises(errors.InvalidSpec) as caught:
        client(answer).submit(file)
    assert (caught.value.line, caught.value.details["file"]) == (3, str(file))
    file.write_text("run: x\nfiles: ../..\n")
    with pytest.raises(errors.InvalidSpec, match="leads out"):
        client(answer).submit(file)
    with pytest.raises(errors.CallerError, match="does not exist"):
        client(answer).submit(tmp_path / "no.yaml")


def test_project_and_env_leave_the_document_as_the_api_wants_them() -> None:
    bodies: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        return httpx.Response(201, json=JOB)

    client(answer).submit({"run": "x", "project": "research", "env": {"T": None}}, env={"T": "1"})
    assert bodies == [{"spec": {"run": "x", "env": {"T": None}}, "project": "research", "env": {"T": "1"}}]


def test_a_profile_is_kept_for_its_owner_only_and_its_key_for_its_server_only(monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_profile("default", "http://one.test", 'hf_"odd\\')
    save_profile("work", "https://two.test", "hf_two")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (profile().url, profile().key) == ("http://one.test", 'hf_"odd\\')
    assert profile(name="work").key == "hf_two"
    assert profile("http://evil.test").key == ""
    monkeypatch.setenv("HEADFRAME_URL", "http://env.test")
    monkeypatch.setenv("HEADFRAME_KEY", "hf_env")
    assert (profile().url, profile().key) == ("http://env.test", "hf_env")
    with pytest.raises(errors.Invalid):
        profile("ftp://x")


def test_a_damaged_profile_is_an_error_that_names_it() -> None:
    path = save_profile("default", "http://one.test", "k")
    path.write_text("[profiles\n")
    with pytest.raises(errors.CallerError, match=r"config\.toml"):
        profile()
