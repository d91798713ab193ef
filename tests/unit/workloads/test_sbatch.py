"""sbatch scripts as job files: every common option in its long and short form, and the truth about what is left."""

from __future__ import annotations

import contextlib
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headframe.base.errors import CallerError, Invalid
from headframe.console.job_document import yaml_of
from headframe.engines.variables import Places, slurm_twins, variables
from headframe.fleet.engine_words import Launch
from headframe.fleet.records import Share, Slice
from headframe.workloads.jobfile import parse
from headframe.workloads.sbatch import Carried, carry
from headframe.workloads.sbatch_body import TWINS
from headframe.workloads.sbatch_options import KNOWN, SHORT
from headframe.workloads.yaml_text import read


def carried(*lines: str, body: str = "true") -> Carried:
    return carry("\n".join(["#!/bin/bash", *(f"#SBATCH {line}" for line in lines), body, ""]))


def job(*lines: str, body: str = "true") -> dict[str, Any]:
    found = carried(*lines, body=body).document
    return {name: value for name, value in found.items() if name not in ("run", "files")}


def left(*lines: str, body: str = "true") -> list[tuple[int, str]]:
    return [(one.line, one.text) for one in carried(*lines, body=body).left]


def test_a_script_without_options_is_carried_whole() -> None:
    found = carried(body="echo hello")
    assert found.left == ()
    assert found.document == {
        "resources": {"cpu": 1}, "files": ".",
        "run": "exec bash /dev/fd/3 3<<'END_OF_SCRIPT'\necho hello\nEND_OF_SCRIPT\n"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "fields"),
    [
        (["--job-name=train"], {"name": "train"}),
        (["-J train", "-N 2", "-c4"], {"name": "train", "nodes": 2, "resources": {"cpu": 4}}),
        (["--nodes=2-4"], {"nodes": "2..4"}),
        (["-n 8", "--ntasks-per-node 4", "--cpus-per-task=2"], {"nodes": 2, "resources": {"cpu": 8}}),
        (["--gres=gpu:a100:4"], {"resources": {"gpu": "A100:4", "cpu": 1}}),
        (["--gres=gpu:2"], {"resources": {"gpu": "2", "cpu": 1}}),
        (["--gres gpu:nvidia_a100_80gb_pcie:1"], {"resources": {"gpu": "A100:80GB:1", "cpu": 1}}),
        (["-G 8", "-N4"], {"nodes": 4, "resources": {"gpu": "2", "cpu": 1}}),
        (["--gpus=h100:8"], {"resources": {"gpu": "H100:8", "cpu": 1}}),
        (["--gpus-per-node=rtx_4090:2"], {"resources": {"gpu": "RTX4090:2", "cpu": 1}}),
        (["--gpus-per-task=1", "--ntasks-per-node=4", "-N 1"], {"resources": {"gpu": "4", "cpu": 4}}),
        (["--gpus=4", "--cpus-per-gpu=6", "--mem-per-gpu=32G"],
         {"resources": {"gpu": "4", "cpu": 24, "memory": "128GB"}}),
        (["--mem=16G"], {"resources": {"cpu": 1, "memory": "16GB"}}),
        (["--mem=512"], {"resources": {"cpu": 1, "memory": "512MB"}}),
        (["-c 8", "--mem-per-cpu=2000"], {"resources": {"cpu": 8, "memory": "16000MB"}}),
        (["--tmp=1T"], {"resources": {"cpu": 1, "disk": "1024GB"}}),
        (["-t 90"], {"max_duration": "1h30m"}),
        (["--time=90:30"], {"max_duration": "1h30m30s"}),
        (["--time=1:30:00"], {"max_duration": "1h30m"}),
        (["-t 2-12"], {"max_duration": "2d12h"}),
        (["--time=2-12:30"], {"max_duration": "2d12h30m"}),
        (["--time=0-00:10:05"], {"max_duration": "10m5s"}),
        (["--time=UNLIMITED"], {}),
        (["--array=0-99%10"], {"array": {"index": "0..99", "parallel": 10}}),
        (["-a 7"], {"array": {"index": "7..7"}}),
        (["--signal=USR2@120"], {"warn_signal": "SIGUSR2", "warn_before_stop": "120s"}),
        (["--signal=R:10"], {"warn_signal": "SIGUSR1", "warn_before_stop": "60s"}),
        (["--no-requeue"], {"retry": {"on": [], "max": 0}}),
        (["--requeue"], {}),
        (["-M lab,east"], {"clusters": ["lab", "east"]}),
        (["-w n[1-2],gpu07"], {"node_names": ["n1", "n2", "gpu07"]}),
        (['-C "nvme&ib"'], {"node_labels": {"nvme": "yes", "ib": "yes"}}),
        (["--exclusive"], {"exclusive": True}),
        (["--reservation=spring"], {"reservation": "spring"}),
        (["--switches=1@10"], {"topology": "rack"}),
        (["--export=NONE,MODE=fast,TOKEN"], {"env": {"MODE": "fast", "TOKEN": None}}),
        (["--container-image=nvcr.io#nvidia/pytorch:24.05-py3"], {"image": "nvcr.io/nvidia/pytorch:24.05-py3"}),
        (["--nodes=1 --time=10  # both on one line"], {"max_duration": "10m"}),
    ],
)  # fmt: skip
def test_what_is_meant_is_carried_and_nothing_is_left(lines: list[str], fields: dict[str, Any]) -> None:
    found = carried(*lines)
    assert job(*lines) == {"resources": {"cpu": 1}, **fields}
    assert [one for one in found.left if one.line] == []
    check(found)


def check(found: Carried) -> None:
    """The job file is one: as a document, and as the text that is written."""
    document = {**found.document, "files": None}
    env = {name: "x" for name, value in document.get("env", {}).items() if value is None}
    spec = parse(document, env=env)
    again, lines = read(yaml_of(found.document))
    assert parse({**again, "files": None}, env=env, lines=lines) == spec


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("-A acme", "label"), ("-p gpu", "clusters"), ("-q high", "priority"), ("-o out-%j.log", "headframe logs"),
        ("-e err.log", "headframe logs"), ("--mail-type=END", "headframe wait"), ("-d afterok:12", "after:"),
        ("-x n3", "node_names"), ("--gres=nvme:1", "node_labels"), ("--gres=gpu:1g.10gb:1", "fractions"),
        ("--signal=KILL@60", "SIGUSR1"), ("--mem=0", "exclusive"), ("--time=soon", "cannot be read"),
        ("--wibble=1", "not an option"), ("--nice=100", "priority"), ("-D /scratch", "working folder"),
        ("-C 'a|b'", "node_labels"), ("--exclusive=user", "exclusive"), ("-L matlab:1", "Licenses"),
        ("--hint=nomultithread", "no meaning"), ("--begin=now+1hour", "schedule"),
        ("--job-name='My Job'", "small letters"),
        ("--export=ALL", "env"), ("-n 8", "nodes"), ("--comment 'unclosed", "quotes"),
    ],
)  # fmt: skip
def test_what_is_not_carried_is_told_with_its_line(line: str, word: str) -> None:
    (told,) = carried(line).left
    assert told.line == 2
    assert word in told.why
    check(carried(line))


def test_lines_that_slurm_ignores_are_told() -> None:
    script = "#!/bin/sh\n## SBATCH -N 9\n\necho on\n#SBATCH --nodes=4\n"
    found = carry(script)
    assert "nodes" not in found.document
    assert [one.line for one in found.left] == [2, 5]


def test_the_last_of_two_wins_as_in_slurm() -> None:
    assert job("--time=1", "-t 2") == {"resources": {"cpu": 1}, "max_duration": "2m"}


def test_srun_modules_and_foreign_variables_are_told() -> None:
    body = "\n".join([
        "module load cuda", "source activate ml", "srun --ntasks=4 -c 8 --export=ALL python train.py",
        'HOST=$(scontrol show hostnames "$SLURM_JOB_NODELIST")', "echo $SLURM_JOB_PARTITION $SLURM_PROCID", "# srun no",
    ])  # fmt: skip
    found = carried("-N 2", "--ntasks-per-node=2", body=body)
    told = {one.line: one.why for one in found.left}
    assert "every node" in told[0]
    assert "image:" in told[4]
    assert "packages:" in told[5]
    assert "2 of it on each" in told[6]
    assert "HEADFRAME_HOSTS" in told[7]
    assert [one.text for one in found.left if one.line == 8] == ["SLURM_JOB_PARTITION"]
    assert 9 not in told
    assert "\npython train.py\n" in found.document["run"]


def output(found: Carried, **env: str) -> str:
    done = subprocess.run(["/bin/sh", "-e", "-c", found.document["run"]], env={"PATH": "/usr/bin:/bin", **env},
                          capture_output=True, text=True, timeout=20, check=True)  # fmt: skip
    assert done.stderr == ""
    return done.stdout


def test_the_command_runs_as_the_script_does() -> None:
    """By its own shell, not ended by the first failure, with its input left alone and all quotes as they were."""
    body = "false\nmapfile -t words < <(printf '%s\\n' 'a \"b\"' c)\necho \"${words[@]}\" '$HOME' \"$(cat)\"\nexit 0"
    assert output(carried(body=body)) == 'a "b" c $HOME \n'
    plain = carry("#!/bin/sh\n#SBATCH -N 1\nfalse\necho 'END_OF_SCRIPT'\n")
    assert output(plain) == "END_OF_SCRIPT\n"
    python = carry("#!/usr/bin/env python3\n#SBATCH -N 1\nprint('srun -n 2 x')\n")
    assert output(python) == "srun -n 2 x\n"
    nested = carried(body="cat <<'END_OF_SCRIPT'\nin\nEND_OF_SCRIPT\necho out")
    assert output(nested) == "in\nout\n"


@pytest.mark.parametrize(
    ("written", "indices"), [("1,5,9", [1, 5, 9]), ("0-20:4", [0, 4, 8, 12, 16, 20]), ("3,4,9", [3, 4, 9])]
)
def test_an_array_with_gaps_tells_each_job_its_own_index(written: str, indices: list[int]) -> None:
    found = carried(f"--array={written}", body='echo "$SLURM_ARRAY_TASK_ID"')
    assert found.document["array"] == {"index": f"0..{len(indices) - 1}"}
    told = [int(output(found, HEADFRAME_ARRAY_INDEX=str(place))) for place in range(len(indices))]
    assert told == indices


def test_srun_in_the_middle_of_lines_and_over_several() -> None:
    body = "if true; then srun -N1 echo one; fi\nsrun --label \\\n  echo two\nfalse || srun echo three"
    found = carried(body=body)
    assert output(found).split() == ["one", "two", "three"]


def test_the_variables_that_are_not_told_of_are_those_that_tasks_find() -> None:
    share = Share("acc_a", 0, "H100", 1000)
    launch = Launch("a", 1, "j", "n", "o", 1, "p", (Slice(0, "n", 1000, 1, 0, (share,)),), {},
                    env={"HEADFRAME_ARRAY_INDEX": "1"})  # fmt: skip
    values = variables(
        launch, 0, Places("/w", "/c", "/o", "/d", "/h"), hosts=["h"], port=1, devices={}, fake=False, path=""
    )
    assert slurm_twins(launch, 0, values).keys() == TWINS


def test_what_is_no_script_is_refused() -> None:
    for text in ("", "  \n", "a\0b", "x" * 300_000):
        with pytest.raises(Invalid):
            carry(text)


_words = st.sampled_from(sorted({*(f"--{name}" for name in KNOWN), *(f"-{letter}" for letter in SHORT)}))
_values = st.sampled_from([
    "", "=", "=2", " 2", "=gpu:a100:4", "=1-5:2%3", "=n[1-3", "=n[9-1]", "=-1", "=9999999999999", "=ALL,A=b", "='x y'",
    "=2-", "=:", "=@", "=B:USR1@", "=1g.5gb", "=%", "=[", "=é", "=0", "=1.5G", "==",
]) | st.text(max_size=12)  # fmt: skip


@given(st.lists(st.tuples(_words, _values), max_size=6), st.text(max_size=60))
def test_whatever_is_written_becomes_a_job_file_or_an_error(options: list[tuple[str, str]], body: str) -> None:
    script = "#!/bin/bash\n" + "".join(f"#SBATCH {word}{value}\n" for word, value in options) + body
    try:
        found = carry(script)
    except Invalid:
        return
    assert all(one.why and 0 <= one.line <= script.count("\n") + 1 for one in found.left)
    env = {name: "x" for name, value in found.document.get("env", {}).items() if value is None}
    with contextlib.suppress(CallerError):
        parse({**found.document, "files": None}, env=env)
