"""Traces: every published form is known by its columns, and what is wrong in one is refused by file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from headframe.base.errors import Invalid, NotFound
from headframe.base.quantities import HOUR_US, SECOND_US
from headframe.sim.trace_jobs import MILLION, TraceJob, parse_fleet
from headframe.sim.trace_readers import FORMS, Reading, read_trace, traces_in


def trace(folder: Path, text: str, name: str = "jobs.csv") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def only(file: Path, reading: Reading | None = None) -> TraceJob:
    (job,) = read_trace(file, reading)
    return job


def test_our_own_form_tells_owner_restart_and_speeds(tmp_path: Path) -> None:
    job = only(trace(tmp_path, "submitted,duration,gpus,owner,restart,speed:H100,speed:A100\n5,7.5,4,ann,3,2,0.5\n"))
    assert (job.submitted_us, job.work_us, job.gpus) == (5 * SECOND_US, 7_500_000, 4)
    assert (job.owner, job.restart_us) == ("ann", 3 * SECOND_US)
    assert (job.speed("H100"), job.speed("A100"), job.speed("T4")) == (2 * MILLION, MILLION // 2, MILLION)


def test_muri_counts_iterations_in_milliseconds_stretched_by_15_in_a_thousand(tmp_path: Path) -> None:
    trace(
        tmp_path, '{"default_overhead_s": 10, "overhead_s_by_num_gpu_and_model": {"8": {"bert": 3}}}', "constants.json"
    )
    head = "job_id,num_gpu,submit_time,iterations,model_name,duration,iteration_time\n"
    jobs = read_trace(trace(tmp_path, f"{head}0,8,2000,100,bert,1,200\n1,1,2000,1,gpt2,1,1000\n"))
    assert jobs[0].work_us == 20_300_000
    assert [job.restart_us for job in jobs] == [3 * SECOND_US, 10 * SECOND_US]
    assert [job.submitted_us for job in jobs] == [2 * SECOND_US] * 2


def test_times_count_from_the_first_submission(tmp_path: Path) -> None:
    jobs = read_trace(trace(tmp_path, "submission_time,duration,num_gpu\n500,9,2\n400,8,1\n"))
    assert [(job.submitted_us, job.gpus) for job in jobs] == [(0, 1), (100 * SECOND_US, 2)]
    dates = "timestamp,duration,num_gpus,vc\n2017-09-04 10:00:00,60,8,a1\n2017-09-04 11:00:00,60,1,b2\n"
    jobs = read_trace(trace(tmp_path, dates))
    assert [(job.submitted_us, job.owner) for job in jobs] == [(0, "a1"), (HOUR_US, "b2")]


def test_gavel_reads_speeds_beside_it_and_arrives_at_the_rate_that_is_asked_for(tmp_path: Path) -> None:
    rates = "gpu,job_type,num_gpus,steps_per_s\nv100,LM,1,10\nk80,LM,1,2.5\nk80_unconsolidated,LM,1,9\np100,LM,1,0\n"
    trace(tmp_path, rates, "simulation_throughputs.csv")
    file = trace(tmp_path, "job_id,job_type,num_gpus,v100_duration_s,unit_rate_arrival\n0,LM,1,60,2.0\n")
    job = only(file, Reading(rate=4.0))
    assert job.submitted_us == HOUR_US // 2
    assert (job.work_us, job.speeds) == (60 * SECOND_US, {"v100": MILLION, "k80": MILLION // 4, "p100": 0})
    assert only(file).submitted_us == 0, "without a rate all are there at once"


def test_work_in_steps_is_told_in_time_at_the_best_rate(tmp_path: Path) -> None:
    trace(tmp_path, "gpu,job_type,num_gpus,steps_per_s\nv100,LM,2,4\nk80,LM,2,1\n", "some_throughputs.csv")
    job = only(trace(tmp_path, "job_id,job_type,total_steps,num_gpus,arrival_s\n0,LM,40,2,3\n"))
    assert (job.work_us, job.submitted_us, job.speed("k80")) == (10 * SECOND_US, 3 * SECOND_US, MILLION // 4)


def test_a_form_that_does_not_say_how_long_jobs_run_has_to_be_told(tmp_path: Path) -> None:
    file = trace(tmp_path, "name,time,application,num_replicas,batch_size\nbert-0,9,bert,2,1\n")
    assert only(file, Reading(spans_us={"bert": HOUR_US})).work_us == HOUR_US
    with pytest.raises(Invalid, match="how long it runs") as caught:
        read_trace(file)
    assert caught.value.line == 2


GOOD = {"submitted": "0", "duration": "10", "gpus": "1"}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("duration", "nan"), ("duration", "inf"), ("duration", "-1"), ("duration", "1e300"), ("duration", ""),
        ("duration", "ten"), ("submitted", "-5"), ("submitted", "1e18"), ("gpus", "0"), ("gpus", "1.5"),
        ("gpus", "100001"), ("gpus", "-2"), ("gpus", "\x00"),
    ],
)  # fmt: skip
def test_values_that_are_none_are_refused_by_file_line_and_column(tmp_path: Path, column: str, value: str) -> None:
    lines = [",".join(GOOD), ",".join(GOOD.values()), ",".join({**GOOD, column: value}.values())]
    with pytest.raises(Invalid) as caught:
        read_trace(trace(tmp_path, "\n".join(lines) + "\n", "bad.csv"))
    assert caught.value.field == column
    assert caught.value.line == 3
    assert str(caught.value.details["file"]).endswith("bad.csv")
    assert caught.value.next_step


def test_a_line_with_too_few_values_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="2 values") as caught:
        read_trace(trace(tmp_path, "submitted,duration,gpus\n0,1,1\n0,1\n"))
    assert caught.value.line == 3


@pytest.mark.parametrize("text", ["", "a,b,c\n1,2,3\n", "submitted,duration\n0,1\n", "submitted,duration,gpus\n"])
def test_what_is_no_trace_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(Invalid):
        read_trace(trace(tmp_path, text))


def test_a_file_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_trace(tmp_path / "none.csv")


COSTS = '{"default_overhead_s": 1, "overhead_s_by_num_gpu_and_model": {"1": {"a": %s}}}'


@pytest.mark.parametrize("text", ["[]", "{", COSTS % "-1", COSTS % "1e999", COSTS % "NaN", COSTS % "[]"])
def test_broken_costs_of_restarts_are_refused_with_their_file(tmp_path: Path, text: str) -> None:
    trace(tmp_path, text, "constants.json")
    file = trace(tmp_path, "num_gpu,submit_time,iterations,model_name,iteration_time\n1,0,1,a,1\n")
    with pytest.raises(Invalid) as caught:
        read_trace(file)
    assert str(caught.value.details["file"]).endswith("constants.json")


def test_a_folder_gives_every_file_that_is_a_trace(tmp_path: Path) -> None:
    trace(tmp_path, "submitted,duration,gpus\n0,1,1\n", "b.csv")
    trace(tmp_path, "submission_time,duration,num_gpu\n0,1,1\n", "a.csv")
    trace(tmp_path, "something,else\n1,2\n", "c.csv")
    assert [file.name for file in traces_in(tmp_path)] == ["a.csv", "b.csv"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFound):
        traces_in(tmp_path / "empty")


def test_no_form_hides_another() -> None:
    """The first form whose columns are all there is taken: none may be a part of a later one."""
    for place, form in enumerate(FORMS):
        for later in FORMS[place + 1 :]:
            assert not set(form.columns) <= set(later.columns), (form.name, later.name)


def test_a_fleet_is_read_and_what_is_none_refused() -> None:
    fleet = parse_fleet("2xH100:8, 1xA100:4")
    assert (fleet.gpus, fleet.kinds, fleet.text) == (20, ("H100", "A100"), "2xH100:8,1xA100:4")
    for text in ("", "8", "0xH100:8", "1xH100:0", "1xH100:65", "999999xH100:8", "1xH100:8,", "x:1", "1x../a:1"):
        with pytest.raises(Invalid):
            parse_fleet(text)


def test_a_job_asks_for_one_node_or_for_equal_tasks() -> None:
    fleet = parse_fleet("4xH100:8")
    asked = {gpus: fleet.want(gpus) for gpus in (3, 8, 16, 12, 33)}
    shape = {
        gpus: (want.nodes_min, want.resources.gpus[0].count) if want is not None else None
        for gpus, want in asked.items()
    }
    assert shape == {3: (1, 3), 8: (1, 8), 16: (2, 8), 12: (2, 6), 33: None}
