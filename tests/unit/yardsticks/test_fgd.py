"""The packing yardstick on a made-up cluster and list of the published form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headframe.base.errors import Invalid, NotFound
from headframe.yardsticks.fgd import arrivals, drawn, fgd, read_nodes, read_pods, run, total_milli
from headframe.yardsticks.records import Options

PODS = [  # (cpu, memory, GPUs, thousandths, models), the names not in order on purpose
    ("pod-9", 4000, 1024, 1, 500, ""), ("pod-1", 8000, 1024, 1, 1000, ""), ("pod-2", 1000, 1024, 0, 0, ""),
    ("pod-3", 2000, 1024, 2, 1000, "T4|G2"), ("pod-4", 2000, 1024, 1, 1000, "T4"), ("pod-5", 2000, 1024, 1, 300, ""),
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    nodes = ["sn,cpu_milli,memory_mib,gpu,model"]
    nodes += [f"node-{number},96000,400000,8,G2" for number in range(3)] + ["node-8,32000,100000,2,T4"]
    (tmp_path / "openb_node_list_gpu_node.csv").write_text("\n".join(nodes))
    (tmp_path / "pods").mkdir()
    (tmp_path / "arrival_orders").mkdir()
    lines = ["name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec"] + [",".join(map(str, pod)) for pod in PODS]
    (tmp_path / "pods" / "openb_pod_list_tiny.csv").write_text("\n".join(lines))
    published = ["workload,policy,alloc_mean_100,alloc_mean_130", "tiny,05-BestFit,90.0,95.0", "tiny,06-FGD,1.0,2.0"]
    (tmp_path / "published_summary.csv").write_text("\n".join(published))
    return tmp_path


def test_rows_stand_beside_the_published_means(folder: Path) -> None:
    found = list(fgd(folder, Options(seeds=(42, 43))))
    rows = {(row.case, row.metric.split()[-3]): row for row in found if row.metric.startswith("allocated")}
    ours = rows["tiny, default", "130"]
    assert (ours.published, ours.passed, ours.level) == (2.0, True, "must")
    assert 80 < ours.ours <= 100
    assert rows["tiny, fgd", "130"].passed is False, "published 2 %, which nobody comes near"
    assert {case for case, _ in rows} == {"tiny, default", "tiny, fgd", "tiny, best-fit"}
    assert all(row.as_json()["pass"] in (True, False, None) for row in rows.values())


def test_the_same_seed_gives_the_same_and_every_policy_runs(folder: Path) -> None:
    policies = ("random", "dot-product", "gpu-packing", "gpu-clustering", "default+moves", "default+exchange")
    options = Options(("tiny",), (7,), policies)
    assert list(fgd(folder, options)) == list(fgd(folder, options))


def test_an_order_is_drawn_until_more_is_asked_than_there_is(folder: Path) -> None:
    machines, pods = read_nodes(folder), read_pods(folder, "tiny")
    assert [pod.milli for pod in pods] == [1000, 0, 2000, 1000, 300, 500]
    order = drawn(pods, 5, total_milli(machines))
    assert sorted(order[: len(pods)]) == list(range(len(pods)))
    assert 1.25 < sum(pods[index].milli for index in order) / total_milli(machines) <= 1.33
    assert order == drawn(pods, 5, total_milli(machines)) != drawn(pods, 6, total_milli(machines))
    small = drawn(pods * 20, 5, 10_000)
    assert sum((pods * 20)[index].milli for index in small) <= 13_000
    (folder / "arrival_orders" / "tiny.json").write_text(json.dumps({"orders": {"42": [0, 0, 1]}}))
    assert arrivals(folder, "tiny", pods, (42,), 10_000) == {42: [0, 0, 1]}


def test_what_fits_is_given_out_and_models_are_kept(folder: Path) -> None:
    """Two tasks for T4 fit on its two GPUs, a third does not; nothing else may be asked of that."""
    machines, pods = read_nodes(folder), read_pods(folder, "tiny")
    assert run(machines, pods, [3, 3, 3], "fgd", 1)[round(100 * 3 / 26)] == pytest.approx(100 * 2 / 26, abs=0.01)


def test_exchange_lets_a_larger_task_take_a_smaller_ones_place(folder: Path) -> None:
    machines, pods = [machine for machine in read_nodes(folder) if machine.model == "T4"], read_pods(folder, "tiny")
    order = [5, 5, 5, 5, 0, 0]  # four halves fill both GPUs; then come two that ask for whole ones
    assert run(machines, pods, order, "default", 1)[200] == 100
    order = [4, 4, 0, 0, 0]  # 0.3 and 0.3 share a GPU, one whole task beside them, two more that do not fit
    kept = run(machines, pods, order, "default+moves", 1)
    swapped = run(machines, pods, order, "default+exchange", 1)
    assert max(kept.values()) == 80
    assert max(swapped.values()) == 100


@pytest.mark.parametrize(
    ("options", "match"),
    [(Options(("nowhere",)), "no list"), (Options(policies=("tetris",)), "not a packing"),
     (Options(policies=("default+luck",)), "not a packing")],
)  # fmt: skip
def test_what_there_is_not_is_refused(folder: Path, options: Options, match: str) -> None:
    with pytest.raises(Invalid, match=match):
        list(fgd(folder, options))


def test_without_files_it_says_where_they_are_from(tmp_path: Path) -> None:
    for data in (None, tmp_path):
        with pytest.raises(NotFound, match="kubernetes-scheduler-simulator"):
            list(fgd(data, Options()))


@pytest.mark.parametrize("orders", ["{", '{"orders": []}', '{"orders": {"42": [99]}}', '{"orders": {"42": ["x"]}}'])
def test_orders_of_arrival_that_are_wrong_are_refused(folder: Path, orders: str) -> None:
    (folder / "arrival_orders" / "tiny.json").write_text(orders)
    with pytest.raises(Invalid, match="order") as caught:
        list(fgd(folder, Options(seeds=(42,))))
    assert str(caught.value.details["file"]).endswith("tiny.json")


def test_a_list_that_is_wrong_is_refused_with_its_line(folder: Path) -> None:
    file = folder / "pods" / "openb_pod_list_tiny.csv"
    file.write_text(file.read_text().replace(",300,", ",-300,"))
    with pytest.raises(Invalid, match="gpu_milli is '-300'") as caught:
        list(fgd(folder, Options(seeds=(42,))))
    assert caught.value.line == 7
