# SPDX-License-Identifier: Apache-2.0
"""Start and stop the QEMU process that is a host."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from labhost import agent, monitor, terminal
from labhost.failure import AgentUnreachable, LabError
from labhost.image import Image
from labhost.layout import (
    AGENT_PORT,
    KNOWN,
    LIBVIRTD_PORT,
    SWITCH,
    HostSpec,
    WorkFolder,
)
from labhost.state import RunningHost, process_mark

BOOT_LIMIT_S = 240
STOP_LIMIT_S = 20


def start(
    work: WorkFolder,
    spec: HostSpec,
    image: Image,
    accelerator: str,
    extra: Sequence[str] = (),
) -> RunningHost:
    """Start a host, on the disk it has or on a new one.

    :param extra: words for its QEMU beyond those that all hosts' get.
    """
    folder = work.host(spec.name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / monitor.SOCKET_NAME).unlink(missing_ok=True)
    _make_disk(folder / "disk.qcow2", image)
    libvirtd_port, agent_port = _unused_ports()
    host = RunningHost(
        name=spec.name,
        pid=0,
        accelerator=accelerator,
        image=str(image.path),
        libvirtd_port=libvirtd_port,
        agent_port=agent_port,
        folder=str(folder),
        extra=tuple(extra),
    )
    return _spawn(host, spec, image)


def stop(host: RunningHost) -> None:
    """End a host's process, if it is still there and is ours.

    :raises LabError: if it does not go away.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not host.is_running():
            return
        os.kill(host.pid, number)
        try:
            terminal.wait_for(
                f"end of host {host.name} (process {host.pid})",
                lambda: not host.is_running(),
                STOP_LIMIT_S,
                pause_s=0.1,
            )
        except LabError as exc:
            terminal.say(str(exc))
    if host.is_running():
        raise LabError(f"host {host.name} (process {host.pid}) stays")


def wait_until_ready(host: RunningHost) -> None:
    """Wait for the libvirtd of a host that was started.

    :raises LabError: if it does not answer in time.
    """
    terminal.say(f"waiting for libvirtd of host {host.name}")
    terminal.wait_for(
        f"answer from libvirtd of host {host.name}",
        lambda: _libvirtd_answers(host),
        BOOT_LIMIT_S,
        see=host.console_log,
        pause_s=1,
    )


def forget_disk(work: WorkFolder, spec: HostSpec) -> None:
    """Let the host start with a new disk the next time."""
    shutil.rmtree(work.host(spec.name), ignore_errors=True)


def _libvirtd_answers(host: RunningHost) -> bool:
    if not host.is_running():
        raise LabError(f"host {host.name} ended; see {host.console_log}")
    command = ["virsh", "-c", host.client_uri, "version"]
    try:
        return not subprocess.run(
            command, capture_output=True, timeout=30, check=False
        ).returncode and _agent_answers(host)
    except subprocess.TimeoutExpired:
        return False


def _agent_answers(host: RunningHost) -> bool:
    try:
        return agent.run(host, "true", limit_s=10).status == 0
    except AgentUnreachable:
        return False


def _make_disk(disk: Path, image: Image) -> None:
    """Make the layer that takes what the host writes."""
    if disk.exists():
        return
    base = ["-F", "raw", "-b", str(image.disk)]
    command = ["qemu-img", "create", "-q", "-f", "qcow2", *base, str(disk)]
    result = subprocess.run(
        command, capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise LabError(f"qemu-img: {result.stderr}")


def _unused_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]


def _spawn(host: RunningHost, spec: HostSpec, image: Image) -> RunningHost:
    """Start the process so that it outlives us."""
    folder = Path(host.folder)
    with (folder / "qemu.log").open("ab") as log:
        process = subprocess.Popen(
            _command(host, spec, image),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    values = {name: getattr(host, name) for name in host.__slots__}
    return RunningHost(**values | {"pid": process.pid})


def _command(host: RunningHost, spec: HostSpec, image: Image) -> list[str]:
    boot = (
        "root=/dev/vda rw console=ttyS0 quiet net.ifnames=0 init=/lab/init"
        f" lab_name={spec.name} lab_uuid={spec.uuid}"
        f" lab_address={spec.address}/24"
    )
    return [
        *("qemu-system-x86_64", "-name", process_mark(Path(host.folder))),
        *("-machine", "q35", *_processor(host.accelerator)),
        *("-m", str(spec.memory_mib), "-nodefaults", "-display", "none"),
        *("-kernel", str(image.kernel), "-initrd", str(image.initrd)),
        *("-append", boot, "-serial", "file:console.log"),
        *("-qmp", f"unix:{monitor.SOCKET_NAME},server=on,wait=off"),
        *("-drive", "file=disk.qcow2,if=virtio,cache=unsafe"),
        *_outside_card(host, spec),
        *_link_card(spec),
        *host.extra,
    ]


def _processor(accelerator: str) -> list[str]:
    if accelerator == "kvm":
        return ["-accel", "kvm", "-cpu", "host", "-smp", "2"]
    return ["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "1"]


def _outside_card(host: RunningHost, spec: HostSpec) -> list[str]:
    """The way in from this machine; there is no way out."""
    forwards = (
        f"hostfwd=tcp:127.0.0.1:{host.libvirtd_port}-:{LIBVIRTD_PORT}",
        f"hostfwd=tcp:127.0.0.1:{host.agent_port}-:{AGENT_PORT}",
    )
    netdev = ",".join(("user,id=outside,restrict=on", *forwards))
    device = f"virtio-net-pci,netdev=outside,mac={spec.mac(0)}"
    return ["-netdev", netdev, "-device", device]


def _link_card(spec: HostSpec) -> list[str]:
    """Its card at the link; each host may start and end on its own.

    One host's QEMU is the switch: the others' cards lead to it.
    """
    device = f"virtio-net-pci,netdev=link,id=link-card,mac={spec.mac(1)}"
    if spec != SWITCH:
        return ["-netdev", _wire("link", spec, SWITCH), "-device", device]
    words = ["-netdev", "hubport,id=link,hubid=0", "-device", device]
    for other in KNOWN.values():
        if other != spec:
            wire = f"to-{other.name}"
            words += ["-netdev", _wire(wire, spec, other)]
            port = f"hubport,id=port-{other.name},hubid=0,netdev={wire}"
            words += ["-netdev", port]
    return words


def _wire(name: str, near: HostSpec, far: HostSpec) -> str:
    """Return one end of a wire between two hosts."""
    return (
        f"dgram,id={name}"
        f",local.type=unix,local.path=../{near.name}-{far.name}.link"
        f",remote.type=unix,remote.path=../{far.name}-{near.name}.link"
    )
