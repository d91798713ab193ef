"""Job files: what is understood, and what is refused with field, value, what is allowed and the line."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headframe.base.errors import InvalidSpec
from headframe.workloads import jobfile, registry
from headframe.workloads.spec import Array, Checkpoints, Gpus, Retry, Spec

FULL = """\
name: pretrain-7b
type: batch
project: research
resources:
  gpu: [H100:8, A100:80GB:4]
  cpu: 32..
  memory: 256GB..512GB
  disk: 500GB
  shm_size: 16GB
nodes: 2..8
topology: block
python: 3.10
packages: [torch, "transformers>=4,<5", "flash-attn @ https://example.org/f.whl"]
env: {WANDB_MODE: offline, HF_TOKEN: null, LEVEL: 1.10, ON: true}
secrets: [hf-token]
datasets: {wiki: wiki-en@3}
checkpoints: {path: ./ckpt/, keep: 5}
setup:
  - make build
run: torchrun --nnodes $NNODES train.py
retry: {on: [node_failure, error], max: 5}
max_duration: 3d
warn_before_stop: 60s
warn_signal: SIGTERM
priority: 70
purchase: spot
max_price: 1.50 USD
budget: 500 USD
array: {index: 0..99, parallel: 10}
after: [prepare-data]
clusters: [west, gpu=h100]
isolation: required
"""


def spec(text: str, **env: str) -> Spec:
    document, lines = jobfile.read(text)
    return jobfile.parse(document, lines=lines, env=env)


def refused(text: str, **env: str) -> InvalidSpec:
    with pytest.raises(InvalidSpec) as caught:
        spec(text, **env)
    return caught.value


def test_every_field_is_understood() -> None:
    found = spec(FULL, HF_TOKEN="secret")
    assert found.name == "pretrain-7b"
    assert found.resources.gpus == (Gpus("H100", 8), Gpus("A100", 4, 1000, 80, 80))
    assert (found.resources.cpu_milli, found.resources.cpu_max_milli) == (32_000, None)
    assert (found.resources.memory_mib, found.resources.memory_max_mib) == (256 * 1024, 512 * 1024)
    assert (found.resources.disk_mib, found.resources.shm_mib) == (500 * 1024, 16 * 1024)
    assert (found.nodes_min, found.nodes_max, found.topology) == (2, 8, "block")
    assert found.python == "3.10"
    assert found.packages == ("torch", "transformers>=4,<5", "flash-attn @ https://example.org/f.whl")
    assert found.env == {"WANDB_MODE": "offline", "HF_TOKEN": "secret", "LEVEL": "1.10", "ON": "true"}
    assert found.secrets == ("hf-token",)
    assert found.datasets == (("wiki", "wiki-en", "3"),)
    assert found.checkpoints == Checkpoints("ckpt", 5)
    assert found.setup == ("make build",)
    assert found.retry == Retry(("node_failure", "error"), 5)
    assert (found.max_duration_us, found.warn_before_stop_us) == (3 * 86_400_000_000, 60_000_000)
    assert (found.warn_signal, found.priority, found.purchase) == ("SIGTERM", 70, "spot")
    assert (found.max_price_nano, found.budget_nano, found.currency) == (1_500_000_000, 500_000_000_000, "USD")
    assert found.array == Array(0, 99, 10)
    assert found.after == ("prepare-data",)
    assert found.clusters == ("west", "gpu=h100")
    assert found.isolation == "required"


def test_a_command_alone_is_a_job() -> None:
    found = jobfile.parse({"run": "true"}, name="quick-fox")
    assert found == Spec(name="quick-fox", run="true")
    assert found.clusters == ("any",)


def test_json_documents_give_the_same_request() -> None:
    document, _ = jobfile.read(FULL)
    again = json.loads(json.dumps(document))
    assert jobfile.parse(again, env={"HF_TOKEN": "x"}) == jobfile.parse(document, env={"HF_TOKEN": "x"})


@pytest.mark.parametrize(
    ("written", "gpus"),
    [
        ("H100:8", (Gpus("H100", 8),)),
        ("H100", (Gpus("H100", 1),)),
        ("A100:80GB:4", (Gpus("A100", 4, 1000, 80, 80),)),
        ("A100:80GB", (Gpus("A100", 1, 1000, 80, 80),)),
        ("24GB..80GB:2", (Gpus(None, 2, 1000, 24, 80),)),
        ("24GB..", (Gpus(None, 1, 1000, 24, None),)),
        ("..24GB:2", (Gpus(None, 2, 1000, None, 24),)),
        ("0.5", (Gpus(None, 1, 500),)),
        (0.25, (Gpus(None, 1, 250),)),
        ("H100:0.5", (Gpus("H100", 1, 500),)),
        ("H100:1.0", (Gpus("H100", 1),)),
        (2, (Gpus(None, 2),)),
        (2.0, (Gpus(None, 2),)),
        ([8, "A100:8"], (Gpus(None, 8), Gpus("A100", 8))),
        (0, ()),
        (None, ()),
    ],
)
def test_gpus(written: object, gpus: tuple[Gpus, ...]) -> None:
    assert jobfile.parse({"run": "x", "resources": {"gpu": written}}).resources.gpus == gpus


@pytest.mark.parametrize(
    "written",
    ["", ":", "H100:", "H100:8:80GB", "H100:0", "H100:65", 65, "1.5", "H100:1.5", 0.0001, -1, "-1", float("nan"),
     float("inf"), 1e300, 10**400, True, {}, [], [[]], [0], ["H100:8", 0], "80GB..24GB:1", "0GB:1", "9999GB", "H100:x",
     "80",     "a b:1", "H100:8:8", ["H100:8"] * 17, "H" * 50],
)  # fmt: skip
def test_gpus_that_cannot_be(written: object) -> None:
    with pytest.raises(InvalidSpec) as caught:
        jobfile.parse({"run": "x", "resources": {"gpu": written}})
    assert caught.value.field.startswith("resources.gpu")
    assert caught.value.allowed


@pytest.mark.parametrize(
    ("cpu", "bounds"),
    [(4, (4000, None)), ("4", (4000, None)), ("32..", (32000, None)), ("4..8", (4000, 8000)), (0.1, (100, None))],
)
def test_cores(cpu: object, bounds: tuple[int, int | None]) -> None:
    found = jobfile.parse({"run": "x", "resources": {"cpu": cpu}}).resources
    assert (found.cpu_milli, found.cpu_max_milli) == bounds


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "Bad Name"),
        ("name", "-x"),
        ("name", "a" * 64),
        ("name", 7),
        ("type", "notebook9"),
        ("type", ["batch"]),
        ("project", "../x"),
        ("resources", "H100:8"),
        ("resources.cpu", 0),
        ("resources.cpu", "8..4"),
        ("resources.cpu", float("nan")),
        ("resources.cpu", True),
        ("resources.cpu", "..4"),
        ("resources.memory", 256),
        ("resources.memory", "64GB..16GB"),
        ("resources.memory", "1MB"),
        ("resources.memory", "99999999999PB"),
        ("resources.disk", -5),
        ("resources.disk", "-5GB"),
        ("nodes", 0),
        ("nodes", -3),
        ("nodes", "8..2"),
        ("nodes", "2.."),
        ("nodes", 10_001),
        ("nodes", 1.5),
        ("topology", "near"),
        ("image", "-v /:/host"),
        ("python", "2.7"),
        ("python", 3.1),
        ("packages", ["--index-url=http://evil"]),
        ("packages", ["torch 2.0"]),
        ("packages", ["x @ file:///etc/passwd"]),
        ("packages", ["x\ny"]),
        ("packages", [["x"]]),
        ("packages", {"a": 1}),
        ("files", "."),
        ("files", "sha256:xyz"),
        ("env", ["A=1"]),
        ("env.1A", "x"),
        ("env.A B", "x"),
        ("env.MASTER_ADDR", "x"),
        ("env.HEADFRAME_JOB_ID", "x"),
        ("env.A", None),
        ("env.A", ["x"]),
        ("env.A", "x" * 200_000),
        ("env.A", "nul\0byte"),
        ("env.A", "\ud800"),
        ("secrets", ["a", "a"]),
        ("secrets", ["A B"]),
        ("datasets.wiki", "wiki-en"),
        ("datasets.wiki", 3),
        ("datasets", "wiki@1"),
        ("checkpoints.path", "/etc"),
        ("checkpoints.path", "../up"),
        ("checkpoints.path", "a/../../b"),
        ("checkpoints.path", "."),
        ("checkpoints", "ckpt"),
        ("setup", 5),
        ("setup", ["x" * 100_000] * 4),
        ("run", ""),
        ("run", ["a"]),
        ("run", "x" * 300_000),
        ("retry.on", ["luck"]),
        ("retry.max", -1),
        ("max_duration", 60),
        ("max_duration", "0s"),
        ("max_duration", "-3d"),
        ("max_duration", "9" * 500 + "d"),
        ("warn_signal", "SIGKILL"),
        ("priority", 101),
        ("priority", "high"),
        ("priority", float("inf")),
        ("purchase", "steal"),
        ("max_price", "1 USD"),
        ("budget", "-5 USD"),
        ("budget", "5 XXX"),
        ("budget", float("nan")),
        ("budget", 10**30),
        ("budget", 5),
        ("budget", "5"),
        ("schedule.cron", "every day"),
        ("schedule.cron", "0 0 30 2 *"),
        ("schedule.cron", "* * * * * *"),
        ("array.index", "9..0"),
        ("array.index", "0..100000"),
        ("array.index", 5),
        ("array.parallel", -1),
        ("after", ["a b"]),
        ("after", "../x"),
        ("clusters", ["a/../; b"]),
        ("isolation", "none"),
    ],
)  # fmt: skip
def test_a_wrong_value_names_its_field_and_what_is_allowed(field: str, value: object) -> None:
    document: dict[str, object] = {"run": "x"}
    table, dot, last = field.partition(".")
    document[table] = {last: value} if dot else value
    if table == "array" and last == "parallel":
        document["array"] = {"index": "0..9", "parallel": value}
    with pytest.raises(InvalidSpec) as caught:
        jobfile.parse(document)
    assert caught.value.field.startswith(field.rpartition("[")[0] or field)
    assert caught.value.allowed
    assert len(caught.value.message) < 1000
    json.dumps(caught.value.details, allow_nan=False).encode()


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"image": "a", "packages": ["b"]}, "packages"),
        ({"image": "a", "python": "3.12"}, "python"),
        ({"array": {"index": "0..1"}, "schedule": {"cron": "* * * * *"}}, "array"),
        ({"purchase": "spot", "max_price": "1 EUR", "budget": "5 USD"}, "max_price"),
        ({"max_duration": "10s", "warn_before_stop": "60s"}, "warn_before_stop"),
        ({"name": "a", "after": ["a"]}, "after"),
        ({"resources": {"shm_size": "2GB"}}, "resources.shm_size"),
        ({"resources": {"memory": "1GB..8GB", "shm_size": "1025MB"}}, "resources.shm_size"),
        ({"checkpoints": {"keep": 3}}, "checkpoints.path"),
        ({"run": None}, "run"),
    ],
)
def test_fields_that_contradict_each_other(document: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        jobfile.parse({"run": "x", **document})
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("resources: {gpus: 1}", "resources.gpu"),
        ("gpu: 1", "resources.gpu"),
        ("resorces: {gpu: 1}", "did you mean resources?"),
        ("ressources: {gpu: 1}", "did you mean resources?"),
        ("retry: {zzz: 3}", "on, max"),
        ("pyhton: '3.12'", "python"),
        ("max_time: 3d", "max_"),
        ("comand: x", ""),
    ],
)
def test_an_unknown_field_is_refused_with_its_line_and_the_nearest_name(written: str, meant: str) -> None:
    error = refused(f"name: a\nrun: x\n{written}\n")
    assert error.line == 3
    assert meant in error.allowed
    assert written.partition(":")[0] in error.message


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("max_duration: 10s\nwarn_before_stop: 60s", "warn_before_stop is not shorter than max_duration: '60s'."),
        ("image: a\npackages: [numpy, idna]", "packages stands beside image: [numpy, idna]."),
        ("array: {index: 0..3}\nschedule: {cron: '* * * * *'}", "array stands beside schedule"),
        ("env: {A: [1, 2]}", "env.A is not text: [1, 2]."),
        ("array: {index: 5..1}", "array.index runs backwards: '5..1'."),
        ("resources: {memory: 1GB, shm_size: 2GB}", "resources.shm_size is more than resources.memory"),
    ],
)
def test_values_are_told_as_they_are_written(written: str, told: str) -> None:
    assert refused(f"run: x\n{written}\n").message.startswith(told)


def test_an_amount_without_currency_is_refused_with_what_to_write() -> None:
    error = refused("run: x\nbudget: 5\n")
    assert error.message == "budget has no currency: 5."
    assert error.next_step == "Allowed: an amount with its currency, such as 5 USD."


def test_all_faults_are_told_at_once_in_the_order_of_the_file() -> None:
    error = refused("nodes: many\nbudget: 5\nresources:\n  cpu: lots\n  gpus: 1\nprority: 3\n")
    told = [(fault["field"], fault.get("line"), fault.get("value")) for fault in error.details["errors"]]  # type: ignore[attr-defined]
    assert told == [
        ("run", None, None), ("nodes", 1, "many"), ("budget", 2, 5), ("resources.cpu", 4, "lots"),
        ("resources.gpus", 5, None), ("prority", 6, None),
    ]  # fmt: skip
    assert all(fault["allowed"] and fault["message"] for fault in error.details["errors"])  # type: ignore[attr-defined]
    assert error.field == "run"
    assert len(refused("run: x\n" + "".join(f"x{n}: 1\n" for n in range(99))).details["errors"]) == 20  # type: ignore[arg-type]


def test_all_values_that_must_be_given_are_named_at_once() -> None:
    error = refused("run: x\nenv: {A: null, B: 1, C: null}\n")
    assert "env.A, env.C must be given" in error.message
    assert "--env A=VALUE --env C=VALUE" in error.next_step


def test_an_error_says_the_line_of_its_field() -> None:
    error = refused(FULL.replace("256GB..512GB", "lots"), HF_TOKEN="x")
    assert error.line == 7
    assert error.details["field"] == "resources.memory"
    error = refused(FULL)
    assert (error.field, error.line) == ("env.HF_TOKEN", 14)
    assert "--env HF_TOKEN=" in error.next_step


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("run: a\nname: b\nrun: c\n", 3),
        ("env: {A: 1,\n A: 2}\nrun: x", 2),
        ("- run: x", 1),
        ("", 1),
        ("just words", 1),
        ("run: x\nname: !!python/object:os.system y", 2),
        ("run: x\n? [a, b]\n: y", 2),
        ("run: [x\n", 2),
        ("run: x\n---\nrun: y\n", 2),
    ],
)
def test_yaml_that_is_no_job_file(text: str, line: int) -> None:
    error = refused(text)
    assert error.line == line
    assert error.next_step


@pytest.mark.parametrize(
    "text",
    [
        "[" * 50_000,
        "run: " + "x" * (1024 * 1024),
        "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
            f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 10)}]\n" for n in range(8)
        ),
        "a: &a\n  b: *a\n",
        "run: \x07",
        "priority: " + "9" * 5000,
    ],
    ids=["depth", "size", "aliases", "itself", "control", "digits"],
)  # fmt: skip
def test_yaml_bombs_are_refused(text: str) -> None:
    assert refused(text).next_step


def test_secrets_may_have_the_names_that_variables_have() -> None:
    assert jobfile.parse({"run": "x", "secrets": ["HF_TOKEN", "wandb-key"]}).secrets == ("HF_TOKEN", "wandb-key")


def test_values_given_at_submit_go_before_the_file() -> None:
    found = jobfile.parse({"run": "x", "env": {"A": "file", "B": None}}, env={"A": "given", "B": "b", "C": "c"})
    assert found.env == {"A": "given", "B": "b", "C": "c"}


def test_the_schema_and_the_table_agree() -> None:
    schema = registry.json_schema()
    assert schema["required"] == ["run"]
    assert schema["properties"]["resources"]["properties"]["gpu"]["description"]
    for item in registry.fields():
        assert all((item.meaning, item.example, item.form))


@pytest.mark.parametrize(
    "item", [item for item in registry.fields() if item.name != "files"], ids=lambda item: item.name
)
def test_every_example_of_the_reference_is_accepted(item: registry.Field) -> None:
    table, dot, last = item.name.partition(".")
    extra = {"max_price": "purchase: spot\n", "array.parallel": "", "checkpoints.keep": ""}.get(item.name, "")
    needed = {"array.parallel": "index: 0..9, ", "checkpoints.keep": "path: c, ", "resources.throughput": "gpu: 1, "}
    beside = needed.get(item.name, "")
    line = f"{table}: {{{beside}{last}: {item.example}}}" if dot else f"{table}: {item.example}"
    run = "" if item.name == "run" else "run: x\n"
    assert spec(f"{run}{extra}{line}\n", TOKEN="t")


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["H100:8", "4..8", "16GB", "1d"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_NAMES = [item.name for item in registry.fields()]


@st.composite
def documents(draw: st.DrawFn) -> dict[str, object]:
    found: dict[str, object] = {"run": "x"}
    for name in draw(st.lists(st.sampled_from(_NAMES), max_size=5)):
        table, dot, last = name.partition(".")
        value = draw(_JSON)
        if dot and isinstance(found.get(table, {}), dict):
            found.setdefault(table, {})[last] = value  # type: ignore[index]
        else:
            found[table] = value
    return found


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(documents(), _JSON))
def test_nothing_but_invalid_spec_is_ever_raised(document: object) -> None:
    try:
        assert isinstance(jobfile.parse(document), Spec)  # type: ignore[arg-type]
    except InvalidSpec as error:
        json.dumps(error.details, allow_nan=False).encode()
        error.message.encode()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=200) | st.text(alphabet="ab:{}[]&*!-?|>'\"# \n\t,0.", max_size=60))
def test_no_text_breaks_the_reader(text: str) -> None:
    try:
        document, lines = jobfile.read(text)
        jobfile.parse(document, lines=lines)
    except InvalidSpec:
        pass
