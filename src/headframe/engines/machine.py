"""What this machine has: processors, memory, disk, NVIDIA GPUs; and pretended GPUs for trying things out."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headframe.base.errors import Invalid
from headframe.engines.nvlinks import link_groups
from headframe.fleet.records import Accelerator, Node

REGION, CLUSTER = "reg_local", "clu_local"
# Memory in MiB as the makers' data sheets give it (GB taken as GiB), for pretended devices.
DATA_SHEET_MIB = {
    "A10": 24 << 10, "A100": 80 << 10, "A30": 24 << 10, "A40": 48 << 10, "A4000": 16 << 10, "A6000": 48 << 10,
    "B200": 180 << 10, "B300": 288 << 10, "GH200": 96 << 10, "H100": 80 << 10, "H200": 141 << 10, "H20": 96 << 10,
    "L4": 24 << 10, "L40": 48 << 10, "L40S": 48 << 10, "MI300X": 192 << 10, "RTX3090": 24 << 10, "RTX4090": 24 << 10,
    "RTX5090": 32 << 10, "T4": 16 << 10, "V100": 32 << 10,
}  # fmt: skip
_FAKE = re.compile(r"([A-Za-z][A-Za-z0-9-]*):([0-9]{1,3})")
_NOISE = re.compile(r"\b(NVIDIA|Tesla|Quadro|GeForce|Graphics|Device|Laptop|GPU)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Found:
    """`devices` tells the agent, by accelerator id, what CUDA should be told and which files in /dev belong to it."""

    node: Node
    accelerators: tuple[Accelerator, ...]
    devices: dict[str, dict[str, Any]]


def discover(data: Path, fake_gpus: str = "") -> Found:
    """Look at the machine."""
    name = _host()
    node_id = f"nod_{name}"
    disk = shutil.disk_usage(data)
    real, devices = _nvidia(node_id, name)
    faked = pretended(node_id, name, fake_gpus, len(real))
    devices |= {card.id: {"cuda": str(card.index), "fake": True, "nodes": []} for card in faked}
    node = Node(
        node_id, CLUSTER, name, cpus_milli(), memory_mib(), disk.total >> 20, labels={"engine": "local"},
        topology=(), fake=bool(faked),
    )  # fmt: skip
    return Found(node, (*real, *faked), devices)


def _host() -> str:
    """The host's name in letters that an id may have."""
    return re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().lower()).strip("-") or "machine"


def cpus_milli() -> int:
    """Thousandths of processors that we may use: our affinity, and less where a control group allows less."""
    allowed = len(os.sched_getaffinity(0)) * 1000
    for quota, period in _quotas():
        if quota > 0 and period > 0:
            allowed = min(allowed, quota * 1000 // period)
    return allowed


def _quotas() -> list[tuple[int, int]]:
    found = []
    for v2, tree in ((True, ""), (False, "cpu")):
        for folder in _group_folders(tree):
            with contextlib.suppress(OSError, ValueError):
                if v2:
                    quota, period = (folder / "cpu.max").read_text().split()
                else:
                    quota = (folder / "cpu.cfs_quota_us").read_text()
                    period = (folder / "cpu.cfs_period_us").read_text()
                found.append((int(quota), int(period)))
    return found


def memory_mib() -> int:
    """Memory that we may use: the machine's, and less where a control group allows less."""
    words = Path("/proc/meminfo").read_text().split()
    allowed = int(words[words.index("MemTotal:") + 1]) >> 10
    for tree, file in (("", "memory.max"), ("memory", "memory.limit_in_bytes")):
        for folder in _group_folders(tree):
            with contextlib.suppress(OSError, ValueError):
                allowed = min(allowed, int((folder / file).read_text()) >> 20)
    return allowed


def _group_folders(tree: str) -> list[Path]:
    """Our control group in a tree ("" for the unified one), and those above it."""
    folders: list[Path] = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            number, names, path = line.split(":", 2)
            if (number == "0") if not tree else tree in names.split(","):
                here = Path("/sys/fs/cgroup") / tree / path.lstrip("/")
                folders += [here, *(parent for parent in here.parents if parent.is_relative_to("/sys/fs/cgroup"))]
    return folders


def kind_of(name: str) -> str:
    """A short kind from a device's name: "NVIDIA H100 80GB HBM3" is an H100, "NVIDIA GeForce RTX 4090" an RTX4090."""
    words = _NOISE.sub(" ", name).replace("_", " ").split()
    if len(words) > 1 and words[0].upper() in ("RTX", "GTX", "TITAN"):
        return "".join(words[:2]).upper()
    return words[0].split("-")[0].upper() if words else "GPU"


def _nvidia(node_id: str, host: str) -> tuple[list[Accelerator], dict[str, dict[str, Any]]]:
    """The NVIDIA devices. Without driver there are none; one that does not answer is there but not healthy."""
    try:
        import pynvml
    except ImportError:
        return [], {}
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return [], {}
    cards: list[Accelerator] = []
    devices: dict[str, dict[str, Any]] = {}
    try:
        handles: dict[int, Any] = {}
        for index in range(pynvml.nvmlDeviceGetCount()):
            card, minor = _nvidia_card(pynvml, index, node_id, host, handles)
            cards.append(card)
            files = ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", f"/dev/nvidia{minor}"]
            devices[card.id] = {"cuda": card.uuid or str(index), "fake": False, "nodes": files}
        links = link_groups(pynvml, handles)
        cards = [replace(card, links=links.get(card.index, "")) for card in cards]
    except pynvml.NVMLError:
        pass  # the driver went away while we asked; the next report tells
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
    return cards, devices


def _nvidia_card(nvml: Any, index: int, node_id: str, host: str, handles: dict[int, Any]) -> tuple[Accelerator, int]:
    """One device and its number in /dev; those that answer are put into `handles`."""
    identity, kind, memory, uuid, reason, minor = f"acc_{host}_{index}", "GPU", 0, "", "", index
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        kind, uuid = kind_of(_text(nvml.nvmlDeviceGetName(handle))), _text(nvml.nvmlDeviceGetUUID(handle))
        memory = int(nvml.nvmlDeviceGetMemoryInfo(handle).total) >> 20
        with contextlib.suppress(nvml.NVMLError):
            minor = int(nvml.nvmlDeviceGetMinorNumber(handle))
        with contextlib.suppress(nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound):
            errors = nvml.nvmlDeviceGetTotalEccErrors(
                handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
            )
            if errors:
                reason = f"{errors} uncorrected memory errors since the driver was loaded"
        handles[index] = handle
    except nvml.NVMLError as problem:
        reason = f"the device does not answer: {problem}"
    return (
        Accelerator(identity, node_id, index, kind, "nvidia", memory, uuid, healthy=not reason, reason=reason),
        minor,
    )


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def pretended(node_id: str, host: str, text: str, first: int, field: str = "--fake-gpus") -> list[Accelerator]:
    """Pretended devices from `H100:8,A100:2`; their numbers go on after the real ones."""
    cards: list[Accelerator] = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        match = _FAKE.fullmatch(part)
        if match is None or not 1 <= int(match[2]) <= 512:
            raise Invalid(
                f"{field} holds {part!r}, which is not a kind and a number.",
                field=field.lstrip("-"), value=part, allowed="KIND:COUNT, such as H100:8 or H100:4,A100:2",
            )  # fmt: skip
        kind = match[1].upper()
        for _one in range(int(match[2])):
            index = first + len(cards)
            cards.append(
                Accelerator(
                    f"acc_{host}_{index}", node_id, index, kind, "fake", DATA_SHEET_MIB.get(kind, 16 << 10),
                    uuid=f"FAKE-{host}-{index}", fake=True,
                )
            )  # fmt: skip
    return cards
