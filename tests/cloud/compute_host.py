# SPDX-License-Identifier: Apache-2.0
"""A host of the cloud, as tests look at it and bring things about on it."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
from cloudlab import hosts
from cloudlab.layout import WorkFolder
from cloudlab.state import Running
from labhost import lab, monitor
from labhost.layout import HOSTS, LIBVIRTD_PORT

from mdev_migrate import libvirt_host, model
from tests.lab.hosts import LabHost, end, until

CLAIM_PREFIX = "mdev-claim-"
_MDEVS = "/sys/bus/mdev/devices"
_INSTANCES = "/var/lib/nova/instances"
_QEMU_CONF = "/etc/libvirt/qemu.conf"
_CRASHED = "BUG:|Oops|general protection|segfault"


class ComputeHost:
    """One of the two hosts.

    :ivar compute: what Nova's services and the API call it.
    :ivar node: what Placement calls it.
    :ivar lab: the same host, as it is to those who know nothing of Nova.
    """

    def __init__(self, work: WorkFolder, cloud: Running, name: str) -> None:
        self._work = work
        self._cloud = cloud
        self.spec = HOSTS[name]
        self.name = name
        self.compute = f"host-{name}"
        self.node = f"lab-{name}"
        self.lab = LabHost(lab.running(work.hosts, name))
        self.client_uri = self.lab.client_uri

    def run(self, script: str, limit_s: int = 120) -> str:
        """Run a shell script inside the host and return what it wrote."""
        return hosts.run(self._work, self.spec, script, limit_s)

    # nova-compute -----------------------------------------------------

    def control(self, action: str) -> None:
        """Start, stop or kill nova-compute."""
        hosts.control(self._work, self.spec, action)

    def configure(
        self, flavour: str = "mixin", first: str = "", **more: Any
    ) -> None:
        """Say what nova-compute is to be from its next start on.

        :param first: a program of Python that runs in it first.
        """
        hosts.configure(self._work, self._cloud, self.spec, flavour, more)
        if first:
            path = self._work.share(self.spec) / "project/sitecustomize.py"
            path.write_text(first)

    def log(self, since: int = 0) -> str:
        """Return what nova-compute has logged, from a place on."""
        with self._log_path.open(errors="replace") as file:
            file.seek(since)
            return file.read()

    def log_size(self) -> int:
        """Return how long the log is now."""
        return self._log_path.stat().st_size

    @property
    def _log_path(self) -> Path:
        return self._work.share(self.spec) / "nova-compute.log"

    # libvirt ----------------------------------------------------------

    @contextlib.contextmanager
    def connected(self) -> Iterator[Any]:
        """Lend a libvirt connection of the test's own."""
        libvirt_host.own_process()
        connection = libvirt_host.connect(self.client_uri)
        try:
            yield connection
        finally:
            with contextlib.suppress(libvirt.libvirtError):
                connection.close()

    def inventory(self) -> model.Inventory:
        """Return what the library lists."""
        libvirt_host.own_process()
        with contextlib.closing(
            libvirt_host.LibvirtHost.open(self.client_uri)
        ) as host:
            return host.inventory()

    def mdevs(self) -> dict[str, str]:
        """Return the type of each mdev, active or defined, by UUID."""
        return {mdev.uuid: mdev.mdev_type for mdev in self.inventory().mdevs}

    def see_mdevs(self, wanted: dict[str, str]) -> None:
        """Wait until these are the mdevs; libvirt hears of it a bit late."""
        until(
            f"mdevs of host {self.name} as before",
            lambda: self.mdevs() == wanted,
        )

    def assigned(self, server: str) -> set[str]:
        """Return the mdevs that a server's guest has here."""
        with self.connected() as connection:
            document = connection.lookupByUUIDString(server).XMLDesc(0)
        return set(
            re.findall(
                r"<hostdev[^>]*type='mdev'.*?uuid='([^']+)'", document, re.S
            )
        )

    def has(self, server: str) -> bool:
        """Tell whether libvirt knows a server's guest here."""
        with self.connected() as connection:
            domains = connection.listAllDomains(0)
            return server in {domain.UUIDString() for domain in domains}

    def is_copying(self, server: str) -> bool:
        """Tell whether memory of a server's guest is being sent from here."""
        with (
            contextlib.suppress(libvirt.libvirtError),
            self.connected() as connection,
        ):
            job = connection.lookupByUUIDString(server).jobStats(0)
            return int(job.get("memory_processed", 0)) > 0
        return False

    def claims(self) -> list[str]:
        """Return the names of the claims on mdevs here."""
        with self.connected() as connection:
            names = [domain.name() for domain in connection.listAllDomains(0)]
        return [name for name in names if name.startswith(CLAIM_PREFIX)]

    # The guests -------------------------------------------------------

    def count(self, server: str) -> int:
        """Return how far a guest has counted here, having lost nothing."""
        path = f"{_INSTANCES}/{server}/console.log"
        reports = self.run(f"cat {path} 2>/dev/null || true").split("\n")
        lost = [report for report in reports if report.startswith("LOST")]
        assert not lost, lost
        # The last line may not be whole yet.
        counts = [each for each in reports[:-1] if each.startswith("ok ")]
        return int(counts[-1].split()[1]) if counts else 0

    def see_counting(self, server: str, beyond: int) -> int:
        """Wait until a guest has counted further, and return how far."""
        return until(
            f"count of {server} beyond {beyond} on host {self.name}",
            lambda: n if (n := self.count(server)) > beyond else 0,
            240,
        )

    def has_directory(self, server: str) -> bool:
        """Tell whether the directory of an instance is here."""
        path = f"{_INSTANCES}/{server}"
        return bool(self.run(f"[ ! -e {path} ] || echo here"))

    def share_instances(self) -> None:
        """Have the instances in a directory that the other host has, too."""
        self.run(
            f"set -e; mount -t 9p -o {hosts.NINE_P} instances {_INSTANCES}\n"
            # libvirt does not take 9p for shared by itself.
            f"echo 'shared_filesystems = [ \"{_INSTANCES}\" ]'"
            f" >>{_QEMU_CONF}\n"
            "/lab/libvirtd stop; /lab/libvirtd start"
        )

    def unshare_instances(self) -> None:
        """Have them in a directory of its own again."""
        self.run(
            f"set -e; umount {_INSTANCES}\n"
            f"sed -i /^shared_filesystems/d {_QEMU_CONF}\n"
            "/lab/libvirtd stop; /lab/libvirtd start"
        )

    def remove_directory(self, server: str) -> None:
        """Remove the directory of an instance that Nova has left."""
        self.run(f"rm -r {_INSTANCES}/{server}")

    # Things to break --------------------------------------------------

    def kill_qemu(self, server: str) -> None:
        """Kill the QEMU of a server's guest here, as a crash would."""
        self.run(
            "for pid in $(pidof qemu-system-x86_64.real); do"
            f" ! tr '\\0' ' ' </proc/$pid/cmdline | grep -q {server} ||"
            " kill -9 $pid; done"
        )

    def slow_down(self, server: str, mib_s: int) -> None:
        """Limit the speed at which memory of a server's guest is sent."""
        with self.connected() as connection:
            connection.lookupByUUIDString(server).migrateSetMaxSpeed(mib_s, 0)

    def libvirtd(self, action: str) -> None:
        """Start, stop, kill, freeze or thaw the host's libvirtd."""
        self.run(f"/lab/libvirtd {action}")

    def has_peer(self) -> bool:
        """Tell whether the host's libvirtd is connected to the other's."""
        return bool(
            self.run(f"ss -Htn state established dport = {LIBVIRTD_PORT}")
        )

    def plug_link(self, *, up: bool) -> None:
        """Cut the link between the hosts, or mend it."""
        folder = self._work.hosts.host(self.name)
        monitor.execute(folder, "set_link", name="link-card", up=up)

    def fill(self, parent: str, mdev_type: str, count: int) -> list[str]:
        """Create mdevs by hand, as an administrator does."""
        address = parent.removeprefix("pci_").replace("_", ":", 2)
        address = address.replace("_", ".")
        folder = f"/sys/bus/pci/devices/{address}/mdev_supported_types"
        made = self.run(
            f"for i in $(seq {count}); do"
            " id=$(cat /proc/sys/kernel/random/uuid);"
            f" echo $id >{folder}/{mdev_type}/create; echo $id; done"
        ).split()
        # libvirt hears of them one by one.
        until(
            f"list of {count} mdevs on host {self.name}",
            lambda: self.mdevs().keys() >= set(made),
            120,
        )
        return made

    def remove_guest(self, name: str) -> None:
        """Remove a guest that is not Nova's, if it is here."""
        with self.connected() as connection:
            for domain in connection.listAllDomains(0):
                if domain.name() == name:
                    end(domain)

    def mend(self) -> None:
        """Mend what a test broke, if it did."""
        self.plug_link(up=True)
        self.run("/lab/libvirtd thaw; /lab/libvirtd start")

    def clean(self) -> None:
        """Remove all mdevs; no guest has any."""
        self.run(
            f"for mdev in {_MDEVS}/*; do\n"
            '    [ ! -e "$mdev" ] || echo 1 >"$mdev/remove"\n'
            "done\n"
            "find /etc/mdevctl.d -type f -delete\n"
        )
        until(
            f"list without mdevs on host {self.name}",
            lambda: not self.inventory().mdevs,
            120,
        )

    def crashes(self) -> str:
        """Return what the kernel said of crashes since the last time."""
        return self.run(f"dmesg --read-clear | grep -E '{_CRASHED}' || true")
