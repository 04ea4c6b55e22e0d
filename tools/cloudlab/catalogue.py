# SPDX-License-Identifier: Apache-2.0
"""What the cloud offers its users: an image and flavors."""

from pathlib import Path

from cloudlab.api import Api

#: The disk of a guest, which it never looks at.
DISK_MIB = 1
#: Name, and what it asks of a host's parents.
FLAVORS = {
    "plain": {},
    "one": {"resources:VGPU": "1"},
    "two": {"resources:VGPU": "2"},
    "dual": {"resources:CUSTOM_DUAL": "1"},
    # Of each parent one: granular groups, which Nova 33 understands.
    "mixed": {
        "resources1:VGPU": "1",
        "resources2:CUSTOM_DUAL": "1",
        "group_policy": "none",
    },
}
MEMORY_MIB = 64


def fill(api: Api, program: Path) -> None:
    """Enter images and flavors.

    A guest runs the lab's program, which QEMU boots as a kernel. That of
    ``guest-busy`` writes to most of its memory each second: no migration
    catches up with it.

    :param program: that of the guests.
    :raises LabError: if a service refuses.
    """
    kernel = _upload(
        api,
        {"name": "program", "disk_format": "aki", "container_format": "aki"},
        program.read_bytes(),
    )
    for name, dirty_mib in (("guest", 1), ("guest-busy", 48)):
        _upload(
            api,
            {
                "name": name,
                "disk_format": "raw",
                "container_format": "bare",
                "kernel_id": kernel,
                "os_command_line": f"dirty={dirty_mib}",
                "hw_machine_type": "q35",
                "hw_disk_bus": "virtio",
                "hw_video_model": "none",
            },
            bytes(DISK_MIB << 20),
        )
    for name, wanted in FLAVORS.items():
        _add_flavor(api, name, wanted)


def _upload(api: Api, properties: dict[str, str], content: bytes) -> str:
    image = api.post(
        "image", "/v2/images", properties | {"visibility": "public"}
    )
    api.put("image", f"/v2/images/{image['id']}/file", content)
    return str(image["id"])


def _add_flavor(api: Api, name: str, wanted: dict[str, str]) -> None:
    flavor = {"name": name, "ram": MEMORY_MIB, "vcpus": 1, "disk": 0}
    made = api.post("compute", "/v2.1/flavors", {"flavor": flavor})
    if wanted:
        path = f"/v2.1/flavors/{made['flavor']['id']}/os-extra_specs"
        api.post("compute", path, {"extra_specs": wanted})
