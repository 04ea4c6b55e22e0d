# SPDX-License-Identifier: Apache-2.0
"""The emulated hosts of the cloud, and nova-compute in each."""

import datetime
import ipaddress
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from labhost import agent, lab, state, terminal
from labhost.failure import LabError
from labhost.image import Image
from labhost.layout import HOSTS, HostSpec
from labhost.layout import WorkFolder as LabFolder
from labhost.state import RunningHost

from cloudlab import environments, software
from cloudlab.api import Api
from cloudlab.configuration import Sections
from cloudlab.layout import ASSETS, OUTSIDE, WorkFolder
from cloudlab.state import Running

#: Under emulation nova-compute takes minutes to import what it needs.
COMPUTE_LIMIT_S = 1200
SETUP_LIMIT_S = 300
FLAVOURS = ("mixin", "stock")

_MEMORY_MIB = 2560
#: Places of the graphics cards that are the parents.
_SLOTS = ("0x10", "0x11")
CARDS = ("0000:00:10.0", "0000:00:11.0")
#: How libvirt calls them.
PARENTS = ("pci_0000_00_10_0", "pci_0000_00_11_0")
#: One type of the first card, one of the second. Their driver names them.
TYPES = ("bochs-drm-1", "bochs-drm-2")
CLASSES = ("VGPU", "CUSTOM_DUAL")

#: How a host mounts a folder of this machine.
NINE_P = "trans=virtio,version=9p2000.L,msize=262144"
_LAST_LINES = 20
#: How much of a time is always told.
_TO_THE_SECOND = len("2026-01-01T00:00:00")

DEVICES: Sections = {
    "devices": {"enabled_mdev_types": ",".join(TYPES)},
    f"mdev_{TYPES[0]}": {"device_addresses": CARDS[0]},
    f"mdev_{TYPES[1]}": {
        "device_addresses": CARDS[1],
        "mdev_class": CLASSES[1],
    },
}


def image(work: WorkFolder) -> Image:
    """Return what hosts boot from: the lab's image.

    :raises LabError: if it cannot be built.
    """
    shared = LabFolder.default()
    with shared.lock():
        return lab.build(shared, running(work).values())


def boot(work: WorkFolder, built: Image, releases: Mapping[str, str]) -> None:
    """Start both hosts and wait for their libvirtd.

    :param built: what they boot from.
    :param releases: of Nova, by host.
    :raises LabError: if one does not become ready.
    """
    extra = {}
    _empty(work.instances)
    for name, spec in HOSTS.items():
        share = work.share(spec)
        _empty(share)
        disk = software.disk(work, releases[name])
        extra[name] = _fittings(disk, share, work.instances)
    lab.up(work.hosts, built, extra)


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _fittings(disk: Path, share: Path, instances: Path) -> list[str]:
    """Return what a host has beyond those of the lab."""
    network = f"{ipaddress.ip_network(f'{OUTSIDE}/24', strict=False)}"
    own = "local,mount_tag=cloud,security_model=none"
    common = "local,mount_tag=instances,security_model=none"
    words = [
        *("-m", str(_MEMORY_MIB)),
        *("-drive", f"file={disk},if=virtio,format=raw,readonly=on"),
        *("-netdev", f"user,id=control,net={network},host={OUTSIDE}"),
        *("-device", "virtio-net-pci,netdev=control"),
        *("-virtfs", f"{own},path={share}"),
        *("-virtfs", f"{common},path={instances}"),
    ]
    for slot in _SLOTS:
        words += ["-device", f"secondary-vga,addr={slot}"]
    return words


def start_computes(work: WorkFolder, cloud: Running) -> None:
    """Start nova-compute in hosts that were just booted.

    :raises LabError: if that fails.
    """
    for spec in HOSTS.values():
        set_up(work, spec)
        configure(work, cloud, spec)
        control(work, spec, "start")


def running(work: WorkFolder) -> dict[str, RunningHost]:
    """Return the hosts that run, by name."""
    started = state.load(work.hosts)
    return {name: h for name, h in started.items() if h.is_running()}


def down(work: WorkFolder) -> None:
    """Stop both hosts and drop their disks."""
    lab.down(work.hosts)


def run(
    work: WorkFolder, spec: HostSpec, script: str, limit_s: int = 60
) -> str:
    """Run a shell script in a host and return what it wrote.

    :raises LabError: if it fails.
    """
    answer = agent.run(lab.running(work.hosts, spec.name), script, limit_s)
    if answer.status:
        raise LabError(f"host {spec.name}: {script}: {answer}")
    return answer.stdout


def set_up(work: WorkFolder, spec: HostSpec) -> None:
    """Make a host that was booted one of the cloud.

    :raises LabError: if that fails.
    """
    terminal.say(f"setting up host {spec.name}")
    share = work.share(spec)
    for name in ("setup", "compute"):
        shutil.copy(ASSETS / "host" / name, share / name)
    mount = (
        "mkdir -p /cloud && { mountpoint -q /cloud ||"
        f" mount -t 9p -o {NINE_P} cloud /cloud; }}"
    )
    script = f"{mount} && sh /cloud/setup {' '.join(CARDS)}"
    run(work, spec, script, SETUP_LIMIT_S)


def configure(
    work: WorkFolder,
    cloud: Running,
    spec: HostSpec,
    flavour: str = FLAVOURS[0],
    more: Mapping[str, Mapping[str, object]] | None = None,
) -> None:
    """Say what a host's nova-compute is to be, from its next start on.

    :param flavour: "mixin", or "stock" for Nova as it is.
    :param more: options by group, beside or instead of the usual.
    """
    share = work.share(spec)
    nova = environments.nova(work, cloud.computes[spec.name])
    privsep = f"{nova}/bin/privsep-helper"
    helper = {"helper_command": f"{privsep} --config-file /etc/nova/nova.conf"}
    sections: Sections = DEVICES | {
        group: dict(helper)
        for group in (
            *("nova_sys_admin", "vif_plug_linux_bridge_privileged"),
            *("vif_plug_ovs_privileged", "privsep_osbrick"),
        )
    }
    for group, options in (more or {}).items():
        sections[group] = sections.get(group, {}) | dict(options)
    (share / "nova.conf").write_text(cloud.settings.compute(spec, sections))
    (share / "environment").write_text(f"{nova}\n")
    (share / "flavour").write_text(f"{flavour}\n")
    shutil.rmtree(share / "project", ignore_errors=True)
    # What the conductor runs: the tree may have changed since.
    shutil.copytree(cloud.project, share / "project")


def are_usual(work: WorkFolder) -> bool:
    """Whether no test has left a nova-compute as something else."""
    return all(
        (share / "flavour").read_text().strip() == FLAVOURS[0]
        and not (share / "project/sitecustomize.py").exists()
        for share in map(work.share, HOSTS.values())
        if share.exists()
    )


def control(work: WorkFolder, spec: HostSpec, action: str) -> None:
    """Start, stop or kill the nova-compute of a host.

    :raises LabError: if it does not start or end.
    """
    run(work, spec, f"bash /cloud/compute {action}", 120)


def wait_until_ready(
    work: WorkFolder,
    api: Api,
    names: Iterable[str] = tuple(HOSTS),
    since: str = "",
) -> None:
    """Wait until Nova can use hosts and their parents.

    :param since: when nova-compute was started, as :func:`now` tells it:
        signs of life from before do not count.
    :raises LabError: if it cannot in time.
    """
    for name in names:
        spec = HOSTS[name]
        log = work.share(spec) / "nova-compute.log"
        terminal.say(f"waiting for nova-compute of host {name}")

        def ready(spec: HostSpec = spec, log: Path = log) -> bool:
            if not run(work, spec, "bash /cloud/compute status || true"):
                raise LabError(
                    f"nova-compute of host {spec.name} ended: {_end_of(log)}"
                )
            return is_up(api, spec, since) and is_offered(api, spec)

        terminal.wait_for(
            f"nova-compute of host {name} with its parents",
            ready,
            COMPUTE_LIMIT_S,
            see=log,
            pause_s=3,
        )


def _end_of(log: Path) -> str:
    """Return the last words of a log, which may be gone soon."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError as exc:
        return str(exc)
    return "\n".join(lines[-_LAST_LINES:])


def now() -> str:
    """Return the time, as the API writes it."""
    present = datetime.datetime.now(datetime.timezone.utc)
    return present.strftime("%Y-%m-%dT%H:%M:%S")


def is_up(api: Api, spec: HostSpec, since: str = "") -> bool:
    """Whether the API shows a host's nova-compute as up.

    One whose libvirt is away disables itself until it finds it again.

    :param since: when it was started: it must have said so after that.
    """
    services = api.get("compute", "/v2.1/os-services?binary=nova-compute")
    return any(
        service["host"] == f"host-{spec.name}"
        and (service["state"], service["status"]) == ("up", "enabled")
        and (service["updated_at"] or "")[:_TO_THE_SECOND] > since
        for service in services["services"]
    )


def is_offered(api: Api, spec: HostSpec) -> bool:
    """Whether Placement and Nova know a host and its parents."""
    names = [f"lab-{spec.name}_{parent}" for parent in PARENTS]
    providers = api.get("placement", "/resource_providers")
    known = {each["name"] for each in providers["resource_providers"]}
    hypervisors = api.get("compute", "/v2.1/os-hypervisors")["hypervisors"]
    return known.issuperset(names) and any(
        each["hypervisor_hostname"] == f"lab-{spec.name}"
        for each in hypervisors
    )
