# SPDX-License-Identifier: Apache-2.0
"""The lab's hosts, as tests look at them and bring things about on them."""

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import libvirt
from labhost import agent, monitor
from labhost.state import RunningHost

from mdev_migrate import libvirt_host, model
from tests.lab import guests

PARENT = "mtty_mtty"
TYPES = "/sys/devices/virtual/mtty/mtty/mdev_supported_types"
#: Ports of the mtty parent. An mtty-1 takes one, an mtty-2 takes two.
PORTS = 24
_MDEVS = "/sys/bus/mdev/devices"
_CRASHED = "BUG:|Oops|general protection"

T = TypeVar("T")


def until(what: str, check: Callable[[], T], limit_s: float = 60.0) -> T:
    """Wait for a condition and return what made it true.

    :param what: what is waited for, for the error.
    """
    deadline = time.monotonic() + limit_s
    while not (found := check()):
        assert time.monotonic() < deadline, f"no {what} within {limit_s:g} s"
        time.sleep(0.1)
    return found


class LabHost:
    """A host of the lab.

    :ivar client_uri: where this machine reaches its libvirtd.
    :ivar peer_uri: where the other host's libvirtd reaches it.
    :ivar migrate_uri: where the other host's QEMU reaches it.
    """

    def __init__(self, running: RunningHost) -> None:
        self._running = running
        self.port = running.libvirtd_port
        self.client_uri = running.client_uri
        self.peer_uri = running.peer_uri
        self.migrate_uri = running.migrate_uri

    @property
    def towards(self) -> list[str]:
        """Return the options of a migration to this host."""
        return [
            *("--to", self.client_uri, "--peer-uri", self.peer_uri),
            *("--migrate-uri", self.migrate_uri),
        ]

    # Inside -----------------------------------------------------------

    def run(self, script: str, limit_s: int = 60) -> str:
        """Run a shell script inside the host and return what it wrote."""
        answer = agent.run(self._running, script, limit_s)
        assert answer.status == 0, f"{script}: {answer}"
        return answer.stdout

    def versions(self) -> dict[str, str]:
        """Return the versions of what runs on it, by name."""
        with contextlib.closing(self.open()) as host:
            facts = host.facts()
        return {
            "libvirt": str(facts.libvirt),
            "qemu": str(facts.qemu),
            "linux": self.run("uname -r").strip(),
        }

    def libvirtd(self, action: str) -> None:
        """Start, stop, kill, freeze or thaw the host's libvirtd."""
        self.run(f"/lab/libvirtd {action}")
        if action in ("start", "thaw"):
            until("answer from libvirtd", self._answers)

    def _answers(self) -> bool:
        with contextlib.suppress(Exception), self.connected() as connection:
            return bool(connection.getHostname())
        return False

    def plug_link(self, *, up: bool) -> None:
        """Cut the link between the hosts, or mend it."""
        folder = Path(self._running.folder)
        monitor.execute(folder, "set_link", name="link-card", up=up)

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

    def open(self) -> libvirt_host.LibvirtHost:
        """Return the host as the library sees it."""
        libvirt_host.own_process()
        return libvirt_host.LibvirtHost.open(self.client_uri)

    def inventory(self) -> model.Inventory:
        """Return what the library lists."""
        with contextlib.closing(self.open()) as host:
            return host.inventory()

    # mdevs ------------------------------------------------------------

    def mdevs(self) -> dict[str, str]:
        """Return the type of each active mdev, by UUID."""
        found = self.inventory().mdevs
        return {mdev.uuid: mdev.mdev_type for mdev in found if mdev.active}

    def make_mdevs(self, *mdev_types: str) -> list[str]:
        """Create mdevs as an administrator does, without libvirt."""
        uuids = [str(uuid.uuid4()) for _ in mdev_types]
        for mdev, mdev_type in zip(uuids, mdev_types, strict=True):
            self.run(f"echo {mdev} >{TYPES}/{mdev_type}/create")
        until("list of the new mdevs", lambda: self._listed(uuids))
        return uuids

    def _listed(self, uuids: list[str]) -> bool:
        """Tell whether libvirt knows mdevs; tell it again if it does not.

        When many come at once it may take one for not active, for good.
        """
        missing = [*({*uuids} - self.mdevs().keys())]
        if missing:
            time.sleep(0.5)
            self.run(
                "\n".join(f"echo add >{_MDEVS}/{m}/uevent" for m in missing)
            )
        return not missing

    def fill(self, ports: int) -> list[str]:
        """Use up ports of the parent and return the mdevs that do so."""
        pairs, single = divmod(ports, 2)
        return self.make_mdevs(*["mtty-2"] * pairs, *["mtty-1"] * single)

    def remove_mdev(self, mdev: str) -> None:
        """Destroy an mdev without libvirt; wait until it is not listed."""
        self.run(f"echo 1 >{_MDEVS}/{mdev}/remove")
        until("list without the mdev", lambda: mdev not in self.mdevs())

    def announce(self, mdev: str, action: str) -> None:
        """Let libvirt think that an mdev came or went ("add", "remove")."""
        self.run(f"echo {action} >{_MDEVS}/{mdev}/uevent")
        wanted = action == "add"
        until("news of the mdev", lambda: (mdev in self.mdevs()) == wanted)

    @contextlib.contextmanager
    def without_type(self, mdev_type: str) -> Iterator[None]:
        """Hide one mdev type of the parent; the other stays as it is."""
        other = {"mtty-1": "mtty-2", "mtty-2": "mtty-1"}[mdev_type]
        self.run(
            f"set -e; mkdir -p /run/types/{other}\n"
            f"mount --bind {TYPES}/{other} /run/types/{other}\n"
            f"mount --rbind /run/types {TYPES}"
        )
        try:
            yield
        finally:
            self.run(f"umount -R {TYPES}; umount /run/types/{other}")

    # Guests -----------------------------------------------------------

    def start_guest(
        self, name: str, mdevs: list[str], *, persistent: bool, **how: Any
    ) -> None:
        """Start a guest and wait until its program works."""
        text = guests.guest_xml(name, mdevs, **how)
        with self.connected() as connection:
            if persistent:
                connection.defineXML(text).create()
            else:
                connection.createXML(text, 0)
        self.see_counting(name, 0)

    def guests(self) -> set[str]:
        """Return the names of the guests that run here."""
        found = self.inventory().guests
        return {guest.name for guest in found if guest.running}

    def documents(self, name: str) -> list[str]:
        """Return a guest's live XML, and the inactive if it has one."""
        with self.connected() as connection:
            domain = connection.lookupByName(name)
            texts = [domain.XMLDesc(0)]
            if domain.isPersistent():
                inactive = libvirt.VIR_DOMAIN_XML_INACTIVE
                texts.append(domain.XMLDesc(inactive))
            return texts

    def copied(self, name: str) -> int:
        """Return how many bytes of memory a guest's job has copied."""
        with self.connected() as connection:
            job = connection.lookupByName(name).jobStats(0)
            return int(job.get("memory_processed", 0))

    def has_job(self, name: str) -> bool:
        """Tell whether a guest is being migrated."""
        with self.connected() as connection:
            kind = connection.lookupByName(name).jobInfo()[0]
            return bool(kind != libvirt.VIR_DOMAIN_JOB_NONE)

    def count(self, name: str) -> int:
        """Return how far a guest has counted here, having lost nothing."""
        log = guests.serial_log(name)
        # The last line may not be whole yet.
        reports = self.run(f"cat {log} || true").split("\n")[:-1]
        lost = [report for report in reports if report.startswith("LOST")]
        assert not lost, lost
        counts = [report for report in reports if report.startswith("ok ")]
        return int(counts[-1].split()[1]) if counts else 0

    def see_counting(self, name: str, beyond: int) -> int:
        """Wait until a guest has counted further, and return how far."""
        return until(
            f"count of {name} beyond {beyond}",
            lambda: n if (n := self.count(name)) > beyond else 0,
        )

    # Afterwards -------------------------------------------------------

    def clean(self) -> str:
        """Remove all guests and mdevs.

        :returns: what the kernel said of crashes since the last time.
        """
        self.plug_link(up=True)
        self.run("/lab/libvirtd thaw; true")
        self.libvirtd("start")
        with self.connected() as connection:
            for domain in connection.listAllDomains(0):
                end(domain)
        crashes = self.run(
            f"for mdev in {_MDEVS}/*; do\n"
            '    [ ! -e "$mdev" ] || echo 1 >"$mdev/remove"\n'
            "done\n"
            "rm -rf /var/log/*.serial /etc/mdevctl.d/mtty\n"
            f"dmesg --read-clear | grep -E '{_CRASHED}' || true"
        )
        until("list without mdevs", lambda: not self.inventory().mdevs)
        return crashes


def end(domain: Any) -> None:
    """Remove a guest, whatever state it is in."""
    for act in (domain.destroy, domain.undefine):
        with contextlib.suppress(libvirt.libvirtError):
            act()
