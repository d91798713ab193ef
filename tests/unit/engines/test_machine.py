"""Finding hardware: names, pretended devices, and the driver's library played by one that we compile."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from headframe.base.errors import Invalid
from headframe.engines.cgroups import V2, Limits, Use
from headframe.engines.machine import discover, kind_of

NVML = r"""
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
typedef struct { unsigned long long total, free, used; } memory_t;
static int lost(void *device) { char *text = getenv("STUB_LOST"); return text && (long)device == atoi(text) + 1; }
int nvmlInitWithFlags(unsigned flags) { return 0; }
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return "stub"; }
int nvmlDeviceGetCount_v2(unsigned *count) {
  char *text = getenv("STUB_COUNT"); *count = text ? atoi(text) : 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
  *device = (void *)(long)(index + 1); return lost(*device) ? 15 : 0; }
int nvmlDeviceGetName(void *device, char *name, unsigned size) {
  strncpy(name, "NVIDIA H100 80GB HBM3", size); return 0; }
int nvmlDeviceGetUUID(void *device, char *name, unsigned size) {
  snprintf(name, size, "GPU-%ld", (long)device); return 0; }
int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) {
  memory->total = 81559ULL << 20; memory->free = memory->total; memory->used = 0; return 0; }
/* GPU-1 is 90 % busy, all others idle. */
typedef struct { unsigned gpu, memory; } use_t;
int nvmlDeviceGetHandleByUUID(const char *name, void **device) {
  *device = (void *)atol(name + 4); return lost(*device) ? 15 : 0; }
int nvmlDeviceGetUtilizationRates(void *device, use_t *use) {
  use->gpu = (long)device == 1 ? 90 : 0; use->memory = 0; return 0; }
int nvmlDeviceGetPowerUsage(void *device, unsigned *power) {
  *power = 700000; return (long)device == 1 ? 0 : 3; }
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *degrees) { *degrees = 61; return 0; }
int nvmlDeviceGetTotalEccErrors(void *device, int kind, int counter, unsigned long long *errors) {
  *errors = 0; return 0; }
int nvmlDeviceGetMinorNumber(void *device, unsigned *number) { *number = 7 + (unsigned)(long)device; return 0; }

/* STUB_WIRING: "switch" (all GPUs on four switches), "switches without address", "islands" (two times four GPUs, each
   linked to the three others), "pcie" (two to a PCIe switch), else nothing. */
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } pci_t;
static int wired(const char *name) { char *text = getenv("STUB_WIRING"); return text && !strcmp(text, name); }
static int at_switch(void) { return wired("switch") || wired("switches without address"); }
static void address(pci_t *pci, long bus, const char *form) {
  memset(pci, 0, sizeof *pci); snprintf(pci->bus_id, sizeof pci->bus_id, form, bus); }
int nvmlDeviceGetPciInfo_v3(void *device, pci_t *pci) {
  address(pci, 0x10 + (long)device, "00000000:%02lX:00.0"); return 0; }
int nvmlDeviceGetNvLinkState(void *device, unsigned link, unsigned *active) {
  if (!at_switch() && !wired("islands")) return 3;
  if (link >= 18) return 2;
  *active = at_switch() || link < 3; return 0; }
int nvmlDeviceGetNvLinkRemoteDeviceType(void *device, unsigned link, unsigned *type) {
  *type = at_switch() ? 2 : 0; return 0; }
int nvmlDeviceGetNvLinkRemotePciInfo_v2(void *device, unsigned link, pci_t *pci) {
  long self = (long)device - 1, first = self / 4 * 4, other = first + (self - first + 1 + link) % 4;
  if (wired("switches without address")) address(pci, 0, "00000000:%02lX:00.0");
  else if (at_switch()) address(pci, 0xc0 + link % 4, "00000000:%02lX:00.0");
  else address(pci, 0x10 + other + 1, "00000000:%02lx:00.0");
  return 0; }
int nvmlDeviceGetTopologyCommonAncestor(void *one, void *two, unsigned *level) {
  *level = wired("pcie") && ((long)one - 1) / 2 == ((long)two - 1) / 2 ? 10 : 40; return 0; }
"""


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA A100-SXM4-40GB", "A100"),
        ("Tesla T4", "T4"),
        ("NVIDIA GeForce RTX 4090", "RTX4090"),
        ("NVIDIA L40S", "L40S"),
        ("", "GPU"),
    ],
)
def test_names_become_kinds(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_pretended_devices_are_marked(tmp_path: Path) -> None:
    found = discover(tmp_path, "H100:2, A100:1")
    fakes = [card for card in found.accelerators if card.fake]
    assert [(card.kind, card.nominal_gib) for card in fakes] == [("H100", 80), ("H100", 80), ("A100", 80)]
    assert len({card.id for card in found.accelerators}) == len(found.accelerators)
    assert found.node.fake
    assert found.node.cpu_milli > 0
    assert found.node.memory_mib > 0


@pytest.mark.parametrize("text", ["H100", "H100:0", "H100:x", ":3", "H100:99999"])
def test_a_wrong_wish_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(Invalid, match="fake-gpus"):
        discover(tmp_path, text)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a pretended driver's library."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler for the pretended driver")
    folder = tmp_path_factory.mktemp("driver")
    (folder / "stub.c").write_text(NVML)
    library = folder / "libnvidia-ml.so.1"
    build = ["cc", "-shared", "-fPIC", "-w", f"-Wl,-soname,{library.name}", "-o", str(library), str(folder / "stub.c")]
    subprocess.run(build, check=True)
    return folder


def discovered(driver: Path, shown: str, **stub: str) -> list[str]:
    """What discovery finds with that driver: `shown` of each device, a Python expression of `c` and `f`."""
    script = (
        "from pathlib import Path; from headframe.engines.machine import discover; f = discover(Path('.'))\n"
        f"for c in f.accelerators: print({shown})"
    )
    env = {**os.environ, "LD_LIBRARY_PATH": str(driver), **stub}
    run = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def test_all_that_a_device_knows_is_measured(driver: Path) -> None:
    script = (
        "from headframe.engines.agent_use import read_devices\n"
        "for name, reading in sorted(read_devices().items()): print(name, dict(reading.figures()))"
    )
    env = {**os.environ, "LD_LIBRARY_PATH": str(driver)}
    run = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)
    first, second = run.stdout.splitlines()
    names = "{'gpu_busy_milli': 900, 'gpu_memory_mib': 0, 'power_mw': 700000, 'temperature_c': 61, 'memory_errors': 0}"
    assert first == f"GPU-1 {names}", run.stderr
    assert second == "GPU-2 {'gpu_busy_milli': 0, 'gpu_memory_mib': 0, 'temperature_c': 61, 'memory_errors': 0}"


def test_how_busy_devices_are_is_read_from_the_driver(driver: Path) -> None:
    script = (
        "from headframe.engines.agent_use import read_devices\n"
        "print({name: (r.busy_milli, r.memory_mib) for name, r in read_devices(['GPU-1', '1', 'GPU-3']).items()})"
    )
    env = {**os.environ, "LD_LIBRARY_PATH": str(driver), "STUB_LOST": "2"}
    run = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)
    assert run.stdout.strip() == "{'GPU-1': (900, 0), '1': (0, 0)}", run.stderr


@pytest.mark.parametrize("lost", ["", "1"])
def test_nvidia_devices_are_read_from_the_driver(driver: Path, lost: str) -> None:
    shown = "c.kind, c.nominal_gib, c.uuid or '-', c.healthy, f.devices[c.id]['nodes'][-1]"
    lines = discovered(driver, shown, **({"STUB_LOST": lost} if lost else {}))
    assert lines[0] == "H100 80 GPU-1 True /dev/nvidia8"
    assert lines[1].split()[3] == ("False" if lost else "True")


@pytest.mark.parametrize(
    ("wiring", "groups"),
    [
        ("switch", ["nvlink-0"] * 8),
        ("switches without address", ["nvlink-0"] * 8),
        ("islands", ["nvlink-0"] * 4 + ["nvlink-1"] * 4),
        ("pcie", [f"pcie-{pair}" for pair in range(4) for _ in range(2)]),
        ("none", [""] * 8),
    ],
)
def test_gpus_with_a_fast_way_to_each_other_are_one_group(driver: Path, wiring: str, groups: list[str]) -> None:
    assert discovered(driver, "c.links", STUB_COUNT="8", STUB_WIRING=wiring) == groups


def test_a_lost_gpu_takes_no_part_in_its_group(driver: Path) -> None:
    found = discovered(driver, "c.links", STUB_COUNT="8", STUB_WIRING="islands", STUB_LOST="5")
    assert found == ["nvlink-0"] * 4 + ["nvlink-1", "", "nvlink-1", "nvlink-1"]


def test_v2_groups_get_their_limits_and_tell_their_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a pretended tree: a folder with the files that the kernel would make."""
    group = tmp_path / "task"
    group.mkdir()
    for name in ("memory.max", "memory.swap.max", "cpu.max", "pids.max", "cgroup.procs", "cgroup.events"):
        (group / name).touch()
    (group / "cpu.stat").write_text("usage_usec 1234\nuser_usec 1000\n")
    (group / "memory.peak").write_text(str(77 << 20))
    (group / "memory.events").write_text("low 0\noom 1\noom_kill 2\n")
    writer = V2(tmp_path)
    folders = writer.make("task", Limits(memory_mib=64, cpu_milli=50, cpu_max_milli=None))
    assert (group / "memory.max").read_text() == str(64 << 20)
    assert (group / "memory.swap.max").read_text() == "0"
    assert (group / "cpu.max").read_text() == "10000 100000"
    assert (group / "pids.max").read_text() == "4096"
    assert writer.use(folders) == Use(1234, 77, 2)
