"""Which of a machine's NVIDIA GPUs have a fast way to each other: groups by NVLink, else by PCIe switch, from NVML."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any


class _Groups:
    """Things that belong together: whoever is joined to the same thing is in the same group."""

    def __init__(self) -> None:
        self._above: dict[object, object] = {}

    def head(self, one: object) -> object:
        while (above := self._above.get(one, one)) != one:
            one = above
        return one

    def join(self, one: object, other: object) -> None:
        self._above[self.head(other)] = self.head(one)


def link_groups(nvml: Any, handles: Mapping[int, Any]) -> dict[int, str]:
    """The group of each GPU, by its index: `nvlink-0`, or `pcie-0` on a machine without NVLink. One alone is in none.

    `handles` are NVML's, by index. What the driver cannot tell counts as not linked.
    """
    groups, name = _Groups(), "nvlink"
    linked = [_join_links(nvml, groups, handle) for _, handle in sorted(handles.items())]
    if not any(linked):
        name = "pcie"
        _join_neighbours(nvml, groups, handles)
    members: dict[object, list[int]] = {}
    for index, handle in sorted(handles.items()):
        members.setdefault(groups.head(_place(nvml, handle)), []).append(index)
    together = [each for each in members.values() if len(each) > 1]
    return {index: f"{name}-{number}" for number, each in enumerate(together) for index in each}


def _join_links(nvml: Any, groups: _Groups, handle: Any) -> bool:
    """Join a GPU with what stands at the other end of its links: GPUs, or switches that others are linked to too."""
    found = False
    for link in range(nvml.NVML_NVLINK_MAX_LINKS):
        with contextlib.suppress(nvml.NVMLError):
            if nvml.nvmlDeviceGetNvLinkState(handle, link) != nvml.NVML_FEATURE_ENABLED:
                continue
            kind = nvml.NVML_NVLINK_DEVICE_TYPE_UNKNOWN
            with contextlib.suppress(nvml.NVMLError):
                kind = nvml.nvmlDeviceGetNvLinkRemoteDeviceType(handle, link)
            if kind == nvml.NVML_NVLINK_DEVICE_TYPE_IBMNPU:
                continue  # a link to a processor
            other = "switch"  # inside of a virtual machine a switch may have no address
            with contextlib.suppress(nvml.NVMLError):
                other = _address(nvml.nvmlDeviceGetNvLinkRemotePciInfo(handle, link)) or other
            groups.join(other, _place(nvml, handle))
            found = True
    return found


def _join_neighbours(nvml: Any, groups: _Groups, handles: Mapping[int, Any]) -> None:
    """Join GPUs between which there are PCIe switches only, and no processor."""
    for index, handle in sorted(handles.items()):
        for other in sorted(number for number in handles if number > index):
            with contextlib.suppress(nvml.NVMLError):
                level = nvml.nvmlDeviceGetTopologyCommonAncestor(handle, handles[other])
                if level <= nvml.NVML_TOPOLOGY_MULTIPLE:
                    groups.join(_place(nvml, handle), _place(nvml, handles[other]))


def _place(nvml: Any, handle: Any) -> object:
    """What a GPU is known by: its address on the PCIe bus, else itself."""
    with contextlib.suppress(nvml.NVMLError):
        return _address(nvml.nvmlDeviceGetPciInfo(handle)) or id(handle)
    return id(handle)


def _address(found: Any) -> str:
    """`00000000:3b:00.0` of NVML's record; "" when it is empty."""
    text = found.busId
    text = text.decode("ascii", "replace") if isinstance(text, bytes) else text
    return "" if not text.strip("0:. ") else text.lower()
