"""The file of clusters: what it says, and what is wrong with it, with field and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from headframe.base.errors import Invalid
from headframe.engines.homes import Home, read_homes
from headframe.engines.rehearsal import Rehearsal

ENGINES = ("scripted", "slurm")


def homes(tmp_path: Path, text: str) -> tuple[Home, ...]:
    file = tmp_path / "clusters.yaml"
    file.write_text(text, "utf-8")
    return read_homes(file, tmp_path, ENGINES, taken=("local",))


def test_clusters_are_read_in_their_order(tmp_path: Path) -> None:
    labels = "labels: {storage: nfs-1, tier: 2}"
    text = f"lab:\n  engine: slurm\n  region: north\n  {labels}\n  ssh: gate\ncloud: {{engine: scripted}}\n"
    lab, cloud = homes(tmp_path, text)
    assert (lab.cluster.id, lab.cluster.region_id, lab.cluster.engine) == ("clu_lab", "reg_north", "slurm")
    assert lab.cluster.labels == {"storage": "nfs-1", "tier": "2"}
    assert (lab.region.name, dict(lab.settings)) == ("north", {"ssh": "gate"})
    assert (cloud.region.id, dict(cloud.settings)) == ("reg_cloud", {})


@pytest.mark.parametrize(
    ("text", "place", "word"),
    [
        ("lab: {engine: nomad}\n", "clusters.yaml:1", "engine"),
        ("ok: {engine: slurm}\nlab:\n  region: x\n", "clusters.yaml:2", "engine"),
        ("local: {engine: slurm}\n", "clusters.yaml:1", "own cluster"),
        ("Lab: {engine: slurm}\n", "clusters.yaml:1", "form"),
        ("lab:\n  engine: slurm\n  region: No Way\n", "clusters.yaml:3", "region"),
        ("lab:\n  engine: slurm\n  labels: [a]\n", "clusters.yaml:3", "table"),
        ("lab: 3\n", "clusters.yaml:1", "table"),
        ("lab: {engine: slurm\n", "file of clusters", "YAML"),
        ("- lab\n", "file of clusters", "table"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, text: str, place: str, word: str) -> None:
    with pytest.raises(Invalid) as found:
        homes(tmp_path, text)
    assert place in found.value.message
    assert word in str(found.value)


def test_a_file_that_is_not_there_or_not_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "odd").write_bytes(b"\xff\xfe")
    for name in ("nothing", "odd"):
        with pytest.raises(Invalid):
            read_homes(tmp_path / name, tmp_path, ENGINES)


@pytest.mark.parametrize(
    "setting", ["nodez: 3", "nodes: 0", "gpus: many", "gpus: H100:9999", "cpu: none", "memory: 5", "nodes: 10001"]
)
def test_settings_of_the_pretending_engine_are_checked(tmp_path: Path, setting: str) -> None:
    (home,) = homes(tmp_path, f"cloud:\n  engine: scripted\n  {setting}\n")
    with pytest.raises(Invalid):
        Rehearsal.at(home)
