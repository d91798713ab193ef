"""The command line: what is printed, on which stream, with which exit code."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import httpx
import pytest

from headframe.base import errors
from headframe.cli import exits, printing
from headframe.cli.main import main, root
from headframe.client import Client, Unreachable
from headframe.workloads import jobfile

US = 1_700_000_000_000_000


def _job(**fields: Any) -> dict[str, Any]:
    gpus = [{"kind": "H100", "count": 8, "milli": 1000, "memory_min_gib": None, "memory_max_gib": None}]
    resources = {"gpus": gpus, "cpu_milli": 1000, "memory_mib": 1024}
    spec = {"resources": resources, "nodes_min": 2, "nodes_max": 2, "run": "python train.py"}
    return {
        "id": "job_0cz3k5x8v1m2n4pq", "name": "train-7b", "state": "running", "reason": "", "project_id": "prj_1",
        "spec": spec, "submitted_us": US, "started_us": US, "ended_us": None, "attempt": 1, "exit_code": None,
        "parent_id": None, "array_index": None, "stop_reason": "", **fields,
    }  # fmt: skip


class Cloud:
    """A pretended server: answers by (method, path), and what was asked of it."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], Any] = {}
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        found = self.answers.get((request.method, request.url.path))
        if found is None:
            return httpx.Response(404, json={"code": "not_found", "detail": "No such job.", "next_step": "Look it up."})
        if isinstance(found, httpx.Response):
            return found
        if callable(found):
            return found(request)
        return httpx.Response(200, json=found)

    def page(self, path: str, *rows: dict[str, Any]) -> None:
        self.answers["GET", path] = {"items": list(rows), "next": None}


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cloud:
    made = Cloud()
    for name in ("HEADFRAME_URL", "HEADFRAME_KEY", "HEADFRAME_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)

    def make(url: str | None = None, key: str | None = None, *, profile_name: str | None = None) -> Client:
        return Client(url or "http://cloud.test", key or "hf_k_s", transport=httpx.MockTransport(made))

    monkeypatch.setattr("headframe.client.Client", make)
    return made


LOCAL = {"serve", "demo", "migrate", "sim", "bench", "completion", "audit", "example"}  # they ask no server


SLURMS = {f"headframe shim {name}" for name in ("squeue", "sinfo", "scancel")}  # their options are those of Slurm


def _commands(group: click.Group, path: str = "headframe") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        yield f"{path} {name}", found
        if isinstance(found, click.Group):
            yield from _commands(found, f"{path} {name}")


@pytest.mark.parametrize(
    ("path", "command"), list(_commands(root)), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_command_has_help_with_an_example(path: str, command: click.Command) -> None:
    assert command.help
    assert command.epilog
    examples = [line.strip() for line in command.epilog.splitlines() if line.strip().startswith("headframe")]
    assert examples, path
    if path.split()[1] not in LOCAL and path not in SLURMS and not isinstance(command, click.Group):
        names = {option for item in command.params for option in item.opts}
        assert {"--json", "--quiet", "--url"} <= names


def test_jobs_are_a_table_json_or_ids(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    cloud.page("/v1/jobs", _job())
    assert main(["jobs"]) == 0
    head, line, *_ = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["JOB", "NAME", "STATE", "GPU"]
    assert line.split()[:5] == ["job_0cz3k5x8v1m2n4pq", "train-7b", "running", "2x", "H100:8"]
    assert main(["jobs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "train-7b"
    assert main(["jobs", "-q", "--state", "running"]) == 0
    assert capsys.readouterr().out == "job_0cz3k5x8v1m2n4pq\n"
    assert cloud.asked[-1].url.params["state"] == "running"


def test_an_empty_list_says_so_beside_the_result(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    cloud.page("/v1/jobs")
    assert main(["jobs"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "headframe submit" in captured.err


def test_a_table_fits_the_terminal_and_keeps_ids_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("NO_COLOR", "1")
    columns = (
        printing.Column("JOB", lambda row: row["id"], whole=True),
        printing.Column("REASON", lambda row: row["reason"]),
    )
    printing.table(columns, [{"id": "job_0cz3k5x8v1m2n4pq", "reason": "long " * 40}])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) == 60
    assert lines[1].startswith("job_0cz3k5x8v1m2n4pq  long")
    assert lines[1].endswith("…")


def test_a_narrow_table_leaves_out_what_is_empty_or_spare_and_wraps_reasons(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    columns = (
        printing.Column("JOB", lambda row: row["id"], whole=True),
        printing.Column("GPU", lambda row: "-"),
        printing.Column("TRY", lambda row: 1, right=True, spare=True),
        printing.Column("REASON", lambda row: row["reason"], wrap=True),
    )
    rows = [{"id": "job_0cz3k5x8v1m2n4pq", "reason": "nobody has a GPU that is free just now"}]
    monkeypatch.setenv("COLUMNS", "36")
    printing.table(columns, rows)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["JOB", "REASON"]
    assert max(map(len, lines)) <= 36
    assert " ".join(line[22:].strip() for line in lines[1:]) == rows[0]["reason"]
    monkeypatch.setenv("COLUMNS", "120")
    printing.table(columns, rows)
    assert capsys.readouterr().out.splitlines()[0].split() == ["JOB", "TRY", "REASON"]


def test_the_jobs_of_a_parent_are_found_by_its_name(cloud: Cloud) -> None:
    cloud.answers["GET", "/v1/jobs/sweep"] = _job(name="sweep")
    cloud.page("/v1/jobs", _job())
    assert main(["jobs", "--parent", "sweep"]) == 0
    assert cloud.asked[-1].url.params["parent"] == "job_0cz3k5x8v1m2n4pq"


def test_a_key_is_made_for_a_member_by_name(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    cloud.page("/v1/members", {"id": "mem_7", "name": "ada@acme.example"})
    cloud.answers["POST", "/v1/keys"] = {"id": "key_1", "name": "laptop", "key": "hf_1_2"}
    assert main(["keys", "create", "laptop", "--org", "acme", "--member", "ada@acme.example"]) == 0
    assert capsys.readouterr().out == "hf_1_2\n"
    assert cloud.asked[-2].url.params["organization"] == "acme"
    assert json.loads(cloud.asked[-1].content)["member"] == "mem_7"


def test_a_limit_is_put_on_a_member_of_another_organization(cloud: Cloud) -> None:
    cloud.page("/v1/members", {"id": "mem_7", "name": "ada@acme.example"})
    cloud.answers["PUT", "/v1/budgets"] = {
        "id": "bud_1", "scope": "member", "scope_id": "mem_7", "amount_nano": 5 * 10**9, "currency": "USD"
    }  # fmt: skip
    assert main(["budget", "set", "5 USD", "--org", "acme", "--member", "ada@acme.example"]) == 0
    assert cloud.asked[-2].url.params["organization"] == "acme"
    assert json.loads(cloud.asked[-1].content)["scope_id"] == "mem_7"
    assert main(["quotas", "set", "--project", "a", "--member", "b"]) == 2


def test_without_a_key_the_next_step_is_to_sign_in(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    problem = {"code": "unauthenticated", "detail": "The request carries no API key.", "next_step": "Send a header."}
    cloud.answers["GET", "/v1/jobs"] = httpx.Response(401, json=problem)
    assert main(["jobs"]) == 4
    assert "headframe login" in capsys.readouterr().err


def test_what_others_wrote_cannot_steer_the_terminal(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    cloud.page("/v1/jobs", _job(name="evil\x1b]0;title\x07\x9b31m\nx", reason="\u202etxt"))
    assert main(["jobs"]) == 0
    out = capsys.readouterr().out
    assert not set(out) & {"\x1b", "\x07", "\x9b", "\u202e"}
    assert len(out.splitlines()) == 2


def test_errors_are_a_line_of_cause_and_one_of_what_to_do(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "nope"]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "Error: No such job.\nNext:  Look it up.\n"


@pytest.mark.parametrize(
    ("code", "number"),
    [("not_found", 3), ("forbidden", 4), ("unauthenticated", 4), ("quota_exceeded", 5), ("impossible_request", 5),
     ("invalid_value", 2), ("invalid_spec", 2), ("conflict", 1), ("internal", 1), ("too_busy", 6)],
)  # fmt: skip
def test_exit_codes_follow_the_table(code: str, number: int) -> None:
    assert exits.code_of_text(code) == number
    assert f"  {number}  " in exits.described()


def test_a_server_that_is_gone_has_an_exit_code_of_its_own() -> None:
    assert exits.code_of(Unreachable("gone")) == 6


@pytest.mark.parametrize(
    ("arguments", "number"),
    [(["jobs", "--nope"], 2), (["jbos"], 2), (["submit"], 2), (["stop"], 2), (["submit", "-f", "a.yaml", "b.yaml"], 2),
     (["submit", "no.yaml"], 2), (["--help"], 0), (["jobs", "-h"], 0), (["--version"], 0), ([], 2)],
)  # fmt: skip
def test_wrong_use(cloud: Cloud, arguments: list[str], number: int) -> None:
    assert main(arguments) == number
    assert cloud.asked == []


def test_submit_a_command(cloud: Cloud, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "from-here")
    cloud.answers["POST", "/v1/jobs"] = _job()
    words = ["submit", "-q", "--gpu", "H100:0.5", "--cpu", "2", "--package", "torch", "-e", "A=1", "-e", "TOKEN", "--"]
    assert main([*words, "echo", "a b", "--json"]) == 0
    assert capsys.readouterr().out == "job_0cz3k5x8v1m2n4pq\n"
    body = json.loads(cloud.asked[-1].content)
    assert body["spec"] == {
        "resources": {"gpu": "H100:0.5", "cpu": "2"}, "packages": ["torch"], "run": "echo 'a b' --json",
    }  # fmt: skip
    assert body["env"] == {"A": "1", "TOKEN": "from-here"}
    assert main([*words, "echo $A | cat"]) == 0
    assert json.loads(cloud.asked[-1].content)["spec"]["run"] == "echo $A | cat"


def test_options_go_before_the_job_file(cloud: Cloud, tmp_path: Path) -> None:
    cloud.answers["POST", "/v1/jobs"] = _job()
    (tmp_path / "job.yaml").write_text("name: a\nresources: {gpu: A100:8, cpu: 4}\nrun: python train.py\n")
    assert main(["submit", "job.yaml", "--gpu", "H100:1", "--name", "b"]) == 0
    spec = json.loads(cloud.asked[-1].content)["spec"]
    assert spec == {"name": "b", "resources": {"gpu": "H100:1", "cpu": 4}, "run": "python train.py"}
    assert jobfile.parse(spec).name == "b"


def test_a_wrong_job_file_is_told_with_file_and_line(
    cloud: Cloud, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "job.yaml").write_text("name: a\nrun: x\nresources:\n  memory: 256\n")
    assert main(["submit", "job.yaml"]) == 2
    assert capsys.readouterr().err == (
        "Error: job.yaml:4: resources.memory is 256, which is not a size.\n"
        "Next:  Allowed: a number with a unit, such as 512MB, 16GB or 2TB.\n"
    )
    (tmp_path / "job.yaml").write_text("run: x\nenv:\n  TOKEN: null\n")
    assert main(["submit", "job.yaml"]) == 2
    assert "job.yaml:3: env.TOKEN must be given at submit." in capsys.readouterr().err
    assert cloud.asked == []


@pytest.mark.parametrize(
    ("details", "told"),
    [({"field": "resources.gpu", "detail": "No node here could."}, "job.yaml:4: resources.gpu: No node here could."),
     ({"field": "after", "detail": "There is no job 'x'."}, "job.yaml:1: after: There is no job 'x'."),
     ({"field": "secrets", "detail": "The secrets are not there."}, "job.yaml: The secrets are not there."),
     ({"detail": "A quota stands in the way."}, "A quota stands in the way.")],
)  # fmt: skip
def test_what_the_server_refuses_is_told_with_file_and_line(
    cloud: Cloud, tmp_path: Path, capsys: pytest.CaptureFixture[str], details: dict[str, str], told: str
) -> None:
    (tmp_path / "job.yaml").write_text("after: [x]\nrun: x\nresources:\n  gpu: H100:9\n")
    cloud.answers["POST", "/v1/jobs"] = lambda _request: httpx.Response(
        422, json={"code": "impossible_request", "next_step": "Ask for less.", **details}
    )
    assert main(["submit", "job.yaml"]) == 5
    assert capsys.readouterr().err == f"Error: {told}\nNext:  Ask for less.\n"


@pytest.mark.parametrize(
    ("fields", "number"),
    [({"state": "succeeded", "exit_code": 0}, 0), ({"state": "failed", "exit_code": 42}, 42),
     ({"state": "failed", "exit_code": None}, 1), ({"state": "stopped", "exit_code": 143}, 143)],
)  # fmt: skip
def test_wait_ends_with_the_exit_code_of_the_job(cloud: Cloud, fields: dict[str, Any], number: int) -> None:
    cloud.answers["GET", "/v1/jobs/train-7b"] = _job(**fields)
    assert main(["wait", "train-7b"]) == number


def test_many_jobs_are_only_stopped_when_it_is_said(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    cloud.page("/v1/jobs", _job(id="job_a"), _job(id="job_b"))
    for name in ("job_a", "job_b"):
        cloud.answers["POST", f"/v1/jobs/{name}/stop"] = _job(id=name, state="stopping")
    assert main(["stop", "--state", "running"]) == 2
    assert "Stop 2 jobs? Add --yes" in capsys.readouterr().err
    assert all(request.method == "GET" for request in cloud.asked)
    assert main(["stop", "--state", "running", "--yes", "-q"]) == 0
    assert capsys.readouterr().out == "job_a\njob_b\n"


def test_logs_keep_the_streams_apart(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    pieces = [
        {"offset": 0, "next": 4, "at_us": US, "attempt": 1, "rank": 0, "stream": "stdout", "text": "out\n"},
        {"offset": 4, "next": 8, "at_us": US, "attempt": 1, "rank": 1, "stream": "stderr", "text": "err\n"},
    ]

    def log(request: httpx.Request) -> httpx.Response:
        first = request.url.params["offset"] == "0"
        return httpx.Response(200, json={"pieces": pieces if first else [], "next": 8, "ended": True})

    one = _job()
    one["spec"]["nodes_max"] = 1
    cloud.answers["GET", "/v1/jobs/a"] = one
    cloud.answers["GET", f"/v1/jobs/{one['id']}/log"] = log
    assert main(["logs", "a"]) == 0
    assert capsys.readouterr() == ("out\n", "err\n")
    cloud.answers["GET", "/v1/jobs/a"] = _job()
    assert main(["logs", "a"]) == 0
    assert capsys.readouterr() == ("[0] out\n", "[1] err\n")
    assert main(["logs", "a", "--rank", "1"]) == 0
    assert capsys.readouterr() == ("", "err\n")


def test_show_tells_why_a_job_waits_with_numbers(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    waiting = {"reason": "no_capacity", "text": "No room: 3 of 8 GPUs are free.", "ahead": 2}
    waiting["free"] = {"gpus_free": 3, "most_memory_mib_on_a_node": 2048}
    attempt = {
        "number": 1, "outcome": "node_failure", "started_us": US, "running_us": US, "ended_us": US + 5_000_000,
        "exit_code": None, "pid": 77, "cpu_us": 3_000_000, "memory_peak_mib": 512,
        "resumed_from": "/data/jobs/job_1/checkpoints/epoch-5",
        "detail": "",
    }  # fmt: skip
    cost = {"total_nano": 1_500_000_001, "currency": "USD", "unpriced": []}
    event = {"seq": 1, "at_us": US, "kind": "job_queued", "subject": "job_1", "reason": "Submitted."}
    story = {
        "job": _job(state="queued"), "attempts": [attempt], "allocations": [], "events": [event], "waiting": waiting,
        "cost": cost,
    }  # fmt: skip
    cloud.answers["GET", "/v1/jobs/a/story"] = story
    assert main(["show", "a"]) == 0
    out = capsys.readouterr().out
    for text in (
        "No room: 3 of 8 GPUs are free.",
        "free: gpus free",
        "free: most memory on a node  2 GiB",
        "node_failure",
        " epoch-5",
        "1.500000001 USD",
        "job_queued",
    ):
        assert text in out
    assert main(["show", "a", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == story


def test_plan_tells_before_submit(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    cloud.answers["POST", "/v1/plan"] = {
        "would": "start", "currency": "USD", "per_hour_nano": 2_000_000_000, "most_nano": None, "text": "At once.",
        "starts_us": US, "slices": [],
    }  # fmt: skip
    assert main(["plan", "--", "true"]) == 0
    assert "2.00 USD" in capsys.readouterr().out
    cloud.answers["POST", "/v1/plan"] = {
        "would": "be_refused",
        "code": "impossible_request",
        "text": "No.",
        "next_step": "Less.",
    }
    assert main(["plan", "--", "true"]) == 5


def test_a_command_with_commands_lists_when_alone(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    cloud.page("/v1/projects", {"id": "prj_1", "name": "research", "archived": False, "created_us": US})
    assert main(["projects", "-q"]) == 0
    assert capsys.readouterr().out == "prj_1\n"
    assert main(["projects", "crate"]) == 2


def test_invoices_are_exact(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    line = {
        "project_id": "prj_1", "meter": "gpu:H100", "kind": "usage", "unit_nano": 2_500_000_000,
        "quantity": 3_600_000, "amount_nano": 2_500_000_001,
    }  # fmt: skip
    cloud.answers["GET", "/v1/invoices/draft"] = {
        "organization_id": "org_1", "month": "2026-11", "currency": "USD", "lines": [line], "accrued": [],
        "total_nano": 2_500_000_001, "accrued_nano": 0, "from_wallet_nano": 0, "payable_nano": 2_500_000_000,
        "at_us": US,
    }  # fmt: skip
    assert main(["invoices", "--draft"]) == 0
    out = capsys.readouterr().out
    for text in ("1 GPU hours", "2.500000001 USD", "to pay  2.50 USD"):
        assert text in out


def test_charges_are_exact(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    cloud.answers["GET", "/v1/jobs/a"] = _job()
    charge = {
        "id": "use_1.cpu.0", "job_id": "job_1", "meter": "cpu", "kind": "usage", "quantity": 874_180_000,
        "unit_nano": 21_800_000, "amount_nano": 5_294, "currency": "USD",
    }  # fmt: skip
    cloud.page("/v1/charges", charge)
    assert main(["charges", "a"]) == 0
    cells = capsys.readouterr().out.splitlines()[1].split()
    assert cells == ["cpu", "usage", "874180000", "0.0218", "USD", "0.000005294", "USD"]
    assert cloud.asked[-1].url.params["job"] == "job_0cz3k5x8v1m2n4pq"


def test_a_secret_is_read_and_never_printed(
    cloud: Cloud, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    cloud.answers["PUT", "/v1/secrets/hf-token"] = {}
    monkeypatch.setattr("sys.stdin", io.StringIO("s3cret\n"))
    assert main(["secrets", "set", "hf-token"]) == 0
    assert json.loads(cloud.asked[-1].content) == {"value": "s3cret"}
    assert "s3cret" not in "".join(capsys.readouterr())


def test_login_keeps_a_key_that_works(cloud: Cloud, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "key").write_text("hf_new\n")
    arguments = ["login", "--url", "http://cloud.test", "--key-file", str(tmp_path / "key")]
    cloud.answers["GET", "/v1/whoami"] = httpx.Response(401, json={"code": "unauthenticated", "detail": "No such key."})
    assert main(arguments) == 4
    assert not (tmp_path / "config").exists()
    who = {"organization": {"id": "org_1", "name": "acme"}, "member": {"id": "mem_1", "name": "ada", "role": "owner"}}
    cloud.answers["GET", "/v1/whoami"] = who
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "as ada of acme" in out
    assert "hf_new" not in out
    assert 'key = "hf_new"' in (tmp_path / "config/headframe/config.toml").read_text()


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_scripts(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "_HEADFRAME_COMPLETE" in capsys.readouterr().out


def test_doctor_says_how_to_mend(cloud: Cloud, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cloud.answers["GET", "/healthz"] = cloud.answers["GET", "/readyz"] = {"ok": True}
    cloud.answers["GET", "/v1/whoami"] = httpx.Response(401, json={"code": "unauthenticated", "detail": "No such key."})
    code = main(["doctor", "--json", "--data", str(tmp_path / "data")])
    found = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert {"python", "sandbox", "cgroups", "uv", "gpus", "disk", "server", "key"} <= set(found)
    assert found["key"]["mend"] == "headframe login"
    assert found["server"]["state"] == "ok"
    assert code == (1 if any(each["state"] == "broken" for each in found.values()) else 0)


def test_doctor_finds_a_server_that_can_do_nothing(
    cloud: Cloud, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headframe.cli.doctor.PATIENCE_S", 0.01)
    cloud.answers["GET", "/healthz"] = {"ok": True}
    cloud.answers["GET", "/readyz"] = httpx.Response(503, json={"code": "too_busy", "detail": "Not ready."})
    assert main(["doctor", "--json"]) == 1
    found = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert found["server"]["state"] == "broken"
    assert "disk" in found["server"]["mend"]


def test_interruption_is_quiet(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(_: httpx.Request) -> httpx.Response:
        raise KeyboardInterrupt

    cloud.answers["GET", "/v1/jobs"] = interrupt
    assert main(["jobs"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_every_error_class_has_an_exit_code() -> None:
    waiting: list[Callable[..., errors.HeadframeError]] = [errors.HeadframeError]
    while waiting:
        kind: Any = waiting.pop()
        waiting += kind.__subclasses__()
        assert 1 <= exits.code_of(kind("x")) <= 6


def test_all_faults_of_a_job_file_are_told_with_their_lines(cloud: Cloud, tmp_path: Path, capsys) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("run: x\nbudget: 5\nresorces: {gpu: 1}\n")
    assert main(["submit", "job.yaml"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "Error: job.yaml:2: budget has no currency: 5. Allowed: an amount with its currency, such as 5 USD.",
        "Error: job.yaml:3: 'resorces' is not a field of a job file. Did you mean resources?",
    ]
    assert cloud.asked == []


def test_a_schedule_says_when_it_starts_next(cloud: Cloud, capsys) -> None:
    job = _job(state="pending", parent=True, not_before_us=US, reason="scheduled", attempt=0)
    cloud.page("/v1/jobs", {**job, "spec": {**job["spec"], "cron": "0 3 * * *", "array": None}})
    assert main(["jobs", "--org", "acme"]) == 0
    out = capsys.readouterr().out
    assert "pending" not in out
    assert f"next at {printing.moment(US)[11:16]}" in out
    assert cloud.asked[0].url.params["organization"] == "acme"


def test_a_wait_with_a_timeout_gives_up_with_a_code_of_its_own(cloud: Cloud, capsys) -> None:
    never = threading.Event()
    cloud.answers["GET", "/v1/jobs/a"] = _job()
    cloud.answers["GET", f"/v1/jobs/{_job()['id']}"] = _job()
    cloud.page("/v1/events")
    cloud.answers["GET", "/v1/events/follow"] = lambda _: never.wait(60) and httpx.Response(200)
    assert main(["wait", "a", "--timeout", "50ms"]) == exits.TIMED_OUT
    assert "Not ended after 50ms" in capsys.readouterr().err
    never.set()
    assert main(["wait", "a", "--timeout", "soon"]) == 2


def test_a_rank_that_a_job_does_not_have_is_refused(cloud: Cloud, capsys) -> None:
    cloud.answers["GET", "/v1/jobs/a"] = _job()
    assert main(["logs", "a", "--rank", "7"]) == 2
    assert "There is no rank 7: train-7b has 2 tasks, ranks 0 to 1." in capsys.readouterr().err


def test_quiet_prints_ids_only_of_credits_and_names_only_of_what_is_not_in_order(cloud: Cloud, capsys) -> None:
    cloud.answers["GET", "/v1/balance"] = {"organization_id": "org_1", "currency": "USD"}
    assert main(["credits", "-q"]) == 0
    assert capsys.readouterr().out == "org_1\n"
    main(["doctor", "-q"])
    assert all(" " not in line for line in capsys.readouterr().out.splitlines())


def test_what_lies_on_the_disk_is_told_by_kind_and_goes_only_when_it_is_said(cloud: Cloud, capsys) -> None:
    due = {"kind": "files", "subject": "job_1", "organization_id": "org_1", "used_us": US, "bytes": 3 << 20, "count": 1}
    cloud.answers["GET", "/v1/storage"] = {
        "piles": [
            {"kind": "outputs", "count": 7, "bytes": 5 << 30, "keep_us": 30 * 86_400_000_000},
            {"kind": "store", "count": 1, "bytes": 1 << 20, "keep_us": None},
        ],
        "due": [due],
        "more": False,
    }
    cloud.answers["POST", "/v1/storage/prune"] = {"begun": True}
    assert main(["storage"]) == 0
    told = capsys.readouterr()
    assert ["outputs", "7", "5", "GiB", "30", "days", "1"] in [line.split() for line in told.out.splitlines()]
    assert "for good" in told.out
    assert "3 MiB" in told.err
    assert main(["storage", "--prune", "--dry-run"]) == 0
    told = capsys.readouterr()
    assert "job_1" in told.out
    assert "Nothing was removed" in told.err
    assert main(["storage", "--dry-run"]) == 2
    assert all(one.method == "GET" for one in cloud.asked)
    assert main(["storage", "--prune"]) == 0
    assert cloud.asked[-1].method == "POST"


def test_a_key_of_another_organization_is_revoked_by_name(cloud: Cloud, capsys) -> None:
    cloud.page("/v1/keys", {"id": "key_9", "name": "ci"})
    cloud.answers["DELETE", "/v1/keys/key_9"] = {}
    assert main(["keys", "revoke", "ci", "--org", "acme", "--yes"]) == 0
    assert cloud.asked[0].url.params["organization"] == "acme"
    assert cloud.asked[1].url.path == "/v1/keys/key_9"


def test_a_price_that_was_set_is_told_with_the_time_for_which_it_holds(cloud: Cloud, capsys) -> None:
    row = {
        "id": "prc_1", "meter": "cpu", "unit": "hour", "unit_nano": 5 * 10**9, "currency": "USD", "paid_of_list": "",
        "from_us": US, "to_us": None,
    }  # fmt: skip
    cloud.answers["POST", "/v1/prices"] = row
    assert main(["prices", "set", "cpu", "5 USD", "--from", "2023-11-14"]) == 0
    assert f"per hour from {printing.moment(US)} (prc_1)" in capsys.readouterr().out
    cloud.answers["POST", "/v1/prices"] = {**row, "to_us": US + 10**12}
    assert main(["prices", "set", "cpu", "5 USD"]) == 0
    assert f"from {printing.moment(US)} to {printing.moment(US + 10**12)} (prc_1)" in capsys.readouterr().out
