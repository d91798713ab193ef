"""Yardsticks: the list, what is said of missing files, small data worked out by hand, and the real data if given."""

from __future__ import annotations

import json
import os
from importlib import import_module
from pathlib import Path

import pytest

from headframe.base.errors import Invalid, NotFound
from headframe.cli.main import main
from headframe.yardsticks.records import MUST, Options, Row
from headframe.yardsticks.registry import YARDSTICKS, rows
from headframe.yardsticks.side_by_side import rows_of

NAMES = {"fgd", "muri", "muri-testbed", "gavel", "gavel-makespan", "shockwave", "kueue-15k", "kueue-50k"}
MURI_HEAD = "job_id,num_gpu,submit_time,iterations,model_name,iteration_time\n"
PUBLISHED_HEAD = "trace,policy,avg_jct_s,makespan_s,p99_jct_s\n"
TRACES = os.environ.get("HEADFRAME_TRACES")


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.csv").write_text(text)
    return folder


def found(name: str, folder: Path | None, **options: tuple[str, ...]) -> list[Row]:
    return list(rows(name, folder, Options(**options)))  # type: ignore[arg-type]


def test_the_list_has_all_and_each_can_be_loaded() -> None:
    assert set(YARDSTICKS) == NAMES
    for one in YARDSTICKS.values():
        assert callable(getattr(import_module(f"headframe.yardsticks.{one.module}"), one.function))
        assert one.what.endswith(".")


@pytest.mark.parametrize("name", sorted(NAMES - {"kueue-15k", "kueue-50k"}))
def test_missing_files_are_named_with_where_they_come_from(name: str, tmp_path: Path) -> None:
    for folder in (None, tmp_path):
        with pytest.raises(NotFound, match=r"published data|come.? from") as caught:
            found(name, folder)
        assert "docs/benchmarks.md" in caught.value.next_step


def muri_folder(folder: Path, shift: float = 0.0) -> Path:
    """Two jobs of 203 s and 101.5 s on all 64 GPUs: the shorter goes first."""
    jobs = f"{MURI_HEAD}0,64,0,200,x,1000\n1,64,0,100,x,1000\n"
    published = "trace,policy,avg_jct_s,makespan_s,p99_jct_s\n"
    published += "".join(
        f"small,{policy},{203 + shift},304.5,304.5\nsmall,Tiresias_L,9999,9999,9999\nsmall,themis,1,9999,1\n"
        for policy in ("SRTF", "SRSF")
    )
    return write(folder, small=jobs, published_sim_results=published)


def test_muri_is_held_to_a_thousandth(tmp_path: Path) -> None:
    musts = [row for row in found("muri", muri_folder(tmp_path)) if row.level == MUST]
    assert [(row.case, row.metric, row.published, row.ours) for row in musts[:3]] == [
        ("small SRTF", "avg_jct_s", 203.0, 203.0),
        ("small SRTF", "makespan_s", 304.5, 304.5),
        ("small SRTF", "p99_jct_s", 304.5, 304.5),
    ]
    assert len(musts) == 6
    assert all(row.passed for row in musts)
    missed = [row for row in found("muri", muri_folder(tmp_path, 0.5), policies=("SRTF",)) if not row.passed]
    assert [row.metric for row in missed] == ["avg_jct_s"]


def test_rivals_are_aimed_at_and_lost_to_openly(tmp_path: Path) -> None:
    aims = {row.rule: row.passed for row in found("muri", muri_folder(tmp_path), policies=("las",))
            if row.metric == "avg_jct_s"}  # fmt: skip
    assert aims == {"no more than Tiresias_L": True, "no more than themis": False}


def test_the_command_prints_rows_and_fails_when_a_must_is_missed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["bench", "scheduling", "muri", "--data", str(muri_folder(tmp_path)), "--policy", "SRTF"]
    assert main([*command, "--json"]) == 0
    row = json.loads(capsys.readouterr().out)[0]
    assert {"yardstick", "case", "metric", "published", "ours", "pass"} <= set(row)
    assert row["pass"] is True
    muri_folder(tmp_path, 0.5)
    assert main(command) == 1
    assert "NO" in capsys.readouterr().out


def test_the_command_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "scheduling", "gavel", "--data", str(tmp_path)]) == 3
    assert "simulation_throughputs.csv" in capsys.readouterr().err
    assert main(["bench", "scheduling", "muri", "--seeds", "x", "--data", str(tmp_path)]) == 2


def test_a_trace_that_is_wrong_is_told_by_file_and_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bad.csv"
    file.write_text("submitted,duration,gpus\n0,10,1\n0,nan,1\n")
    assert main(["sim", "trace", str(file), "--nodes", "1"]) == 2
    assert "bad.csv:3:" in capsys.readouterr().err
    assert main(["sim", "trace", str(file)]) == 2
    assert "--fleet" in capsys.readouterr().err


def gavel_folder(folder: Path) -> Path:
    """Three jobs of an hour on a V100; on the other kinds half as fast. Two hours apart, so that nobody waits."""
    rates = "".join(f"{kind},LM,1,{rate}\n" for kind, rate in (("v100", 2), ("p100", 1), ("k80", 1)))
    stream = "".join(f"{place},LM,1,3600,{place * 2.0 * 0.4}\n" for place in range(3))
    return write(
        folder,
        simulation_throughputs=f"gpu,job_type,num_gpus,steps_per_s\n{rates}",
        continuous_single_seed0=f"job_id,job_type,num_gpus,v100_duration_s,unit_rate_arrival\n{stream}",
        continuous_multi_seed0=f"job_id,job_type,num_gpus,v100_duration_s,unit_rate_arrival\n{stream}",
        published_continuous_single="trace,metric,jobs_per_hour,policy,value\nsingle,avg_jct_h,0.4,fifo,1.0\n",
        published_makespan_static_multi="policy,num_jobs,makespan_h\nGavel,500,1.0\nFIFO,500,9\n",
    )


def test_gavel_at_a_low_load_takes_as_long_as_jobs_run_on_the_first_kind(tmp_path: Path) -> None:
    (row,) = found("gavel", gavel_folder(tmp_path), workloads=("0.4",))
    assert (row.ours, row.passed, row.level) == (1.0, True, MUST)


def test_gavel_takes_other_rates_and_seeds_without_anything_published(tmp_path: Path) -> None:
    folder = gavel_folder(tmp_path)
    (folder / "continuous_single_seed7.csv").write_text((folder / "continuous_single_seed0.csv").read_text())
    shown = list(rows("gavel", folder, Options(workloads=("3",), seeds=(7,), policies=("by-kind",))))
    assert [row.metric for row in shown] == ["avg_jct_h", "avg_ftf"]
    assert all(row.published is None and row.passed is None for row in shown)
    assert shown[0].ours == pytest.approx(1.0, abs=0.1)
    assert shown[1].ours < 1.0, "an equal part of every kind is slower than a V100 of one's own"


def test_gavel_ends_a_batch_no_earlier_than_its_longest_job(tmp_path: Path) -> None:
    shown = found("gavel-makespan", gavel_folder(tmp_path))
    assert {row.metric: row.ours for row in shown} == {"makespan_h": 1.0, "longest_job_alone_h": 1.0}
    assert all(row.passed is not False for row in shown)


@pytest.mark.skipif(TRACES is None, reason="HEADFRAME_TRACES names no folder with the published files")
@pytest.mark.parametrize(
    ("name", "options"),
    [("muri", {"workloads": ("trace3", "trace3_pr")}), ("muri-testbed", {}), ("shockwave", {})],
)
def test_published_numbers_are_met(name: str, options: dict[str, tuple[str, ...]]) -> None:
    shown = found(name, Path(str(TRACES)) / YARDSTICKS[name].module, **options)
    assert not [row for row in shown if row.level == MUST and not row.passed]
    assert any(row.level == MUST for row in shown)


def everything(folder: Path) -> Path:
    """A folder as for all of them, with the data of two."""
    for name in ("muri", "gavel"):
        (folder / name).mkdir(parents=True)
    muri_folder(folder / "muri")
    gavel_folder(folder / "gavel")
    return folder


def test_all_run_side_by_side_as_they_do_one_by_one(tmp_path: Path) -> None:
    folders: dict[str, Path | None] = {name: everything(tmp_path / name) / name for name in ("muri", "gavel")}
    said: list[str] = []
    beside = rows_of(folders, Options(), 2, said.append)
    assert beside == [row for name, folder in folders.items() for row in rows(name, folder, Options())]
    assert not said


def test_one_that_fails_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    folder = everything(tmp_path)
    (folder / "muri" / "small.csv").write_text(f"{MURI_HEAD}0,64,0,nan,x,1000\n")
    said: list[str] = []
    folders: dict[str, Path | None] = {name: folder / name for name in ("muri", "gavel", "shockwave")}
    found_rows = rows_of(folders, Options(), 1, said.append)
    missed = [(row.yardstick, row.case, row.ours) for row in found_rows if row.metric == "not measured"]
    assert ("shockwave", "all", None) in missed
    assert ("muri", "small, SRTF", None) in missed
    assert all(row.passed is False for row in found_rows if row.metric == "not measured")
    assert [row.ours for row in found_rows if row.yardstick == "gavel"][:1] == [1.0]
    assert any("small.csv" in line or "iterations" in line for line in said)


def test_all_says_at_once_when_no_folder_is_given_or_it_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    for more in ([], ["--data", "/nowhere"]):
        assert main(["bench", "scheduling", "all", *more]) == 3
        assert "docs/benchmarks.md" in capsys.readouterr().err
    assert main(["bench", "scheduling", "all", "--data", "/", "--workload", "x"]) == 2


@pytest.mark.parametrize(
    ("name", "file", "text", "said"),
    [
        ("muri", "published_sim_results", "trace,policy\nsmall,SRTF\n", "no column avg_jct_s"),
        ("muri", "published_sim_results", f"{PUBLISHED_HEAD}small,SRTF,x,1,1\n", "avg_jct_s"),
        ("muri", "published_sim_results", PUBLISHED_HEAD, "nothing in it"),
        ("gavel", "published_continuous_single", "a,b\n1,2\n", "no column metric"),
        ("gavel", "simulation_throughputs", "gpu,job_type,num_gpus,steps_per_s\nv100,LM,-1,2\n", "num_gpus"),
        ("gavel-makespan", "published_makespan_static_multi", "policy,num_jobs,makespan_h\nGavel,inf,1\n", "num_jobs"),
    ],
)
def test_published_files_that_are_wrong_are_refused_with_what_is_wrong(
    name: str, file: str, text: str, said: str, tmp_path: Path
) -> None:
    muri_folder(gavel_folder(tmp_path))
    (tmp_path / f"{file}.csv").write_text(text)
    with pytest.raises(Invalid, match=said) as caught:
        found(name, tmp_path)
    assert str(caught.value.details["file"]).endswith(f"{file}.csv")
