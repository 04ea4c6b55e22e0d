# SPDX-License-Identifier: Apache-2.0
"""Does a hint fit the reason that libvirt or QEMU gave?"""

from __future__ import annotations

import copy

import pytest

from mdev_migrate import exception, hints

#: Words of libvirt and QEMU, and what a hint about them speaks of.
BLOCKERS = {
    "State blocked by non-migratable CPU device (invtsc flag)": "<cpu>",
    "domain has CPU feature: invtsc": "<cpu>",
    "Nested VMX virtualization does not support live migration yet": "<cpu>",
    "'hv-passthrough' CPU flag prevents migration, use explicit set of "
    "hv-* flags instead": "<cpu>",
    "non-migratable device: 0000:00:02.4:00.0/vhost-user-fs": "folder",
    "migration with virtiofs device is not supported": "folder",
    "Migration is disabled when VirtFS export path '/srv' is mounted in the "
    "guest using mount_tag 'srv'": "folder",
    "virgl is not yet migratable": "3D",
    "cannot migrate domain with 3 snapshots": "snapshot",
    "cannot migrate domain with 1 checkpoints": "checkpoint-list",
    "domain has active block job": "blockjob",
    "cannot migrate domain with I/O error": "domblkerror",
    "another migration job is already running for domain": "domjobinfo",
    "The qcow format used by node 'a' does not support live migration": "raw",
    "Unsafe migration: Migration without shared storage is unsafe": "storage",
    "Unsafe migration: Migration may lead to data corruption if disks use "
    "cache other than none or directsync": "cache none",
    "Timed out during operation: cannot acquire state change lock (held by "
    "monitor=remoteDispatchDomainBackupBegin)": "domjobinfo",
    "cannot migrate a domain with <hostdev mode='subsystem' type='pci'>": (
        "host devices"
    ),
    "domain has assigned non-USB host devices": "host devices",
    "State blocked by non-migratable device 'usb-host'": "host devices",
    "migration with shmem device is not supported": "shmem",
    "the running swtpm does not support migration": "TPM",
    "SEV: Migration is not implemented": "encrypted",
    "Migration disabled: vhost lacks VHOST_F_LOG_ALL feature": "vhost",
    "domain is marked for auto destroy": "connection",
    "State blocked by non-migratable device 'isa-debug'": "device",
    "Migration is currently not supported with vIOMMU enabled": "<iommu>",
    "Multiple VFIO devices migration is supported only if all of them support "
    "P2P migration": "together",
    "0: Migration is disabled for VFIO device": "enable-migration",
    "0: VFIO migration is not supported in kernel": "vendor driver",
    "0: VFIO device doesn't support device and IOMMU dirty tracking": (
        "vendor driver"
    ),
}
#: More of their words, with what they name, and names that mislead.
BLOCKERS |= {
    "0000:b1:00.2: VFIO migration is not supported with postcopy migration": (
        "post-copy"
    ),
    "postcopy is not supported with RDMA": "post-copy",
    "RDMA migration is not supported with this QEMU binary": "TCP",
    "VFIO device: migration is not supported with iommufd": "iommufd",
    "Migration is disabled when using feature 'peer mode' in device "
    "'ivshmem'": "shmem",
    "shmem device 'vfio0' cannot be migrated, only shmem with role='master' "
    "can be migrated": "shmem",
    "0000:00:02.4:00.0/vhost-user-fs: non-migratable device: cpuid": "folder",
    "Migration is disabled when VirtFS export path '/srv/vfio' is mounted in "
    "the guest using mount_tag 'cpu'": "folder",
    "When external environment supports it (Orchestrator migrates target SCSI "
    "device state or use shared storage over network), set 'migratable' "
    "property to true to enable migration.": "vhost-scsi",
    "RME: migration is not implemented": "encrypted",
    "PEF: Migration is not implemented": "encrypted",
    "protected VMs are currently not migrateable.": "encrypted",
    "KVM Xen guest": "<xen>",
    "NVMM: Migration not supported": "KVM",
    "State blocked due to non-migratable CPUID feature support, dirty memory "
    "tracking support, and XSAVE/XRSTOR support": "<cpu>",
    "domain has 'invtsc' CPU feature but TSC frequency is not specified": (
        "<cpu>"
    ),
    "'hv-no-nonarch-coresharing=auto' CPU flag prevents migration, use "
    "explicit 'hv-no-nonarch-coresharing=on' instead": "<cpu>",
    "Nested virtualization does not support live migration yet": "<cpu>",
    "This operating system kernel does not support vGICv3 migration": (
        "interrupt controller"
    ),
    "domain's dimm info lacks slot ID or base address": "<memory>",
    "Migration state blocked by apple-gfx display device": "3D",
    "virtio-gpu: blob resources not migratable": "3D",
    "Dirty bitmap 'cpu' on 'sda' is inconsistent and cannot be migrated": (
        "checkpoint-list"
    ),
    "migration with transient disk is not supported": "<transient>",
    "The vvfat (rw) format used by node 'vfio' does not support live "
    "migration": "raw",
    "disk '/var/lib/vfio/cpu.img' is not on shared storage": "storage",
    "Migration disabled: failed to allocate shared memory": "vhost",
    "Migration disabled: vhost-vdpa uses CVQ.": "vhost",
    "Migration disabled: vhost-user backend lacks "
    "VHOST_USER_PROTOCOL_F_LOG_SHMFD feature.": "vhost",
    "vDPA devices cannot be migrated": "vhost",
    "a slirp-helper cannot be migrated": "vhost",
    "cannot migrate this domain without dbus-vmstate support": "vhost",
    "cannot migrate a domain with <interface type='hostdev'>": "host devices",
    "cannot migrate a domain with <hostdev mode='capabilities'>": (
        "host devices"
    ),
    "the running swtpm does not support migration with shared storage": "TPM",
    "guest 'vfio-vm': cannot migrate domain with 3 snapshots": "snapshot",
    "domain vfio-vm: cannot migrate domain with 3 snapshots": "snapshot",
    "guest vm7-vfio has active block job": "blockjob",
    "State blocked by non-migratable device '0000:00:02.0/nvme'": "detach",
    "usb-redir device is non-migratable": "detach",
}
#: Apostrophes that quote nothing, and quotes that are a document's.
BLOCKERS |= {
    "cannot migrate a domain with <hostdev mode='subsystem' type='mdev'>": (
        "vendor driver"
    ),
    'cannot migrate a domain with <hostdev mode="subsystem" type="mdev">': (
        "vendor driver"
    ),
    "VFIO device doesn't support device dirty tracking": "vendor driver",
    "live migration for domains with checkpoints isn't supported": (
        "checkpoint"
    ),
    "QEMU's invtsc CPU flag can't be migrated": "<cpu>",
    "the domain's virtiofs device can't be migrated": "folder",
    "the guests' snapshots can't be migrated": "snapshot",
    "Migration is disabled when VirtFS export path '/srv/vfio's cpu' is "
    "mounted in the guest using mount_tag 'cpu'": "folder",
    'The qcow format used by node "vfio" does not support live migration': (
        "raw"
    ),
}
#: Devices of machines of other makes, and guests that are kept secret.
BLOCKERS |= {
    "State blocked by non-migratable device 'amd-iommu'": "<iommu>",
    "non-migratable device: amd-iommu": "<iommu>",
    "non-migratable device: 0000:00:05.0/virtio-iommu": "<iommu>",
    "Migration not supported with SMMUv3 accelerator mode enabled": "<iommu>",
    "SMMUv3 accel: nested": "<iommu>",
    "intel_iommu: migration is not supported": "<iommu>",
    "IOMMUFD backend: dirty tracking unsupported": "iommufd",
    "migration with vTPM is not supported": "TPM",
    "Migration disabled: TPM emulator does not support migration": "TPM",
    "non-migratable device: tpm-tis": "TPM",
    "TDX: migration is not supported": "encrypted",
    "SEV-SNP guests do not support migration": "encrypted",
    "migration is not possible with an encrypted guest": "encrypted",
    "s390 PV: migration is not supported": "encrypted",
    "a guest in Secure Execution cannot be migrated": "encrypted",
    "VDUSE does not support migration": "vhost",
    "TCG plugin time control does not support migration": "KVM",
    "migration blocked by device 'pvrdma'": "detach",
}
#: Of these the vendor of the driver can do something.
VENDORS = ("vendor driver", "together")


def _blocked(reason: str) -> exception.MigrationBlocked:
    return exception.MigrationBlocked("vm", "host-a", reason)


@pytest.mark.parametrize("reason", BLOCKERS)
def test_blocker(reason):
    """The hint is about what blocks, and about no vendor unless it is his."""
    about = BLOCKERS[reason]

    hint = _blocked(f"cannot migrate domain: {reason}").hint

    assert about in hint
    assert ("vendor" in hint) == (about in VENDORS)


def test_several():
    """Each reason has its hint, and no hint comes twice."""
    hint = _blocked(
        "cannot migrate domain: virgl is not yet migratable; VFIO migration "
        "is not supported in kernel; virgl is not yet migratable"
    ).hint

    assert hint.count("3D") == 1
    assert "vendor driver" in hint


@pytest.mark.parametrize("joint", [", ", " and ", ", and ", "; "])
def test_several_in_a_list(joint):
    """Each of its words counts."""
    hint = _blocked(f"Migration is not permitted by invtsc{joint}vfio").hint

    assert "<cpu>" in hint
    assert "vendor driver" in hint


@pytest.mark.parametrize("name", ["vfio-vm", "vm.cpu", "snapshot-7"])
def test_names(name):
    """What guest and host are called is no reason, wherever it stands."""
    reason = f"{name}: the moon over {name} is full"

    for names in [(name, "host-a"), ("vm", name)]:
        error = exception.MigrationBlocked(*names, reason)
        assert error.hint == exception.MigrationBlocked.hint


@pytest.mark.parametrize("host", ["ca.example", "gnutls-1", "certificate.lan"])
def test_name_of_a_host(host):
    """A host's name does not make it a matter of certificates."""
    for reason in (
        f"unable to connect to server at '{host}:16514': Connection refused",
        f"unable to connect to {host}: Connection refused",
    ):
        error = exception.HostUnreachable(f"qemu+tls://{host}/system", reason)
        failed = exception.MigrationFailed(
            "vm", "a", f"qemu+tls://{host}/system", reason
        )

        assert "certificate" not in error.hint
        assert "--to" in failed.hint


def test_unknown_reason():
    """It keeps the general hint, which blames nobody."""
    hint = _blocked("the moon is full").hint

    assert hint == exception.MigrationBlocked.hint
    assert "vendor" not in hint


@pytest.mark.parametrize(
    ("reason", "about"),
    [
        (
            (
                "unable to connect to server at 'gpu-2:16514': "
                "Name or service not known"
            ),
            "resolve",
        ),
        ("Temporary failure in name resolution", "resolve"),
        (
            "Certificate [session] owner does not match the hostname gpu-2",
            "certificate",
        ),
        (
            (
                "Cannot read CA certificate '/etc/pki/CA/cacert.pem': No such "
                "file or directory"
            ),
            "certificate",
        ),
        ("Host key verification failed.: Input/output error", "ssh"),
        (
            (
                "Failed to connect socket to '/var/run/libvirt/"
                "virtqemud-sock': No such file or directory"
            ),
            "systemctl",
        ),
        ("Permission denied (publickey): Input/output error", "ssh"),
        ("Cannot recv data: Permission denied, please try again.", "ssh"),
        ("Peer's certificate isn't trusted", "certificate"),
        ("The host's TLS handshake didn't succeed", "certificate"),
        (
            (
                "Unable to verify TLS peer: The TLS connection was "
                "non-properly terminated."
            ),
            "certificate",
        ),
        ("can't resolve: name or service not known, isn't there", "resolve"),
        ("authentication unavailable: no polkit agent available", "polkit"),
        ("Failed to start SASL negotiation: -4", "Kerberos"),
        ("Cannot recv data: bash: line 1: nc: command not found", "netcat"),
        ("Connection refused", "virsh -c URI"),
    ],
)
def test_connection(reason, about):
    """A name or certificate that is wrong is looked for where it stands."""
    assert about in exception.HostUnreachable("qemu+tls://gpu-2", reason).hint


@pytest.mark.parametrize(
    ("reason", "about"),
    [
        (
            (
                "Failed to connect to remote libvirt URI qemu+tls://gpu-2: "
                "unable to connect to server at 'gpu-2:16514': "
                "Name or service not known"
            ),
            "cannot resolve",
        ),
        ("address resolution failed for gpu-2:49152", "--migrate-uri"),
        (
            (
                "hostname on destination resolved to localhost, but migration "
                "requires an FQDN"
            ),
            "/etc/hosts",
        ),
        (
            "authentication failed: Failed to verify peer's certificate",
            "certificate",
        ),
        ("unable to connect to server at 'x': Connection refused", "--to"),
        ("Peer's certificate isn't trusted", "certificate"),
        (
            (
                "Cannot recv data: Host key verification failed.: Connection "
                "reset by peer"
            ),
            "ssh",
        ),
        (
            (
                "Cannot recv data: bash: line 1: nc: command not found: "
                "Connection reset by peer"
            ),
            "netcat",
        ),
        ("authentication failed: authentication failed", "Kerberos"),
        (
            (
                "QEMU unexpectedly closed the monitor: Cannot verify "
                "credentials: certificate is not activated yet"
            ),
            "certificate",
        ),
    ],
)
@pytest.mark.parametrize(
    "kind", [exception.MigrationFailed, exception.MigrationDenied]
)
def test_journey(kind, reason, about):
    """The source's view of the destination is not this program's."""
    hint = kind("vm", "a", "b", reason).hint

    assert about in hint
    assert "still runs on the source" in hint


@pytest.mark.parametrize(
    ("reason", "about"),
    [
        ("cannot migrate domain with 3 snapshots", "snapshot-list"),
        ("cannot migrate domain: virgl is not yet migratable", "3D"),
        ("domain has active block job", "blockjob"),
        (
            (
                "cannot migrate a domain with <hostdev mode='subsystem' "
                "type='mdev'>"
            ),
            "vendor driver",
        ),
        ("job 'migration out' failed: vfio: Input/output error", "QEMU logs"),
        ("operation failed: domain is no longer running", "its copy on the"),
        (
            "QEMU unexpectedly closed the monitor: vfio: busy",
            "its copy on the",
        ),
    ],
)
def test_blocked_when_it_was_to_leave(reason, about):
    """What blocks is told though it was not there when it was asked for."""
    hint = exception.MigrationFailed("vm", "a", "b", reason).hint

    assert hint.startswith("the guest still runs on the source; ")
    assert about in hint


def test_snapshots_of_a_guest_that_is_off():
    """They keep its definition; what they say names the source's mdevs."""
    error = exception.DefinitionNotMoved(
        "vm", "a", "b", "cannot migrate domain with 3 snapshots"
    )

    assert "snapshot-list" in error.hint
    assert "mdevs of the source" in error.hint
    assert "runs" not in error.hint


def test_copy():
    """An error that was copied hints at the same."""
    error = _blocked("virgl is not yet migratable")

    assert copy.copy(error).hint == error.hint


def test_first_that_fits():
    """The order decides, and letters' case does not matter."""
    known = (hints.Hint("a", "one"), hints.Hint("b", "two"))

    assert hints.find(known, "B A") == "one"
    assert hints.find(known, "B") == "two"
    assert hints.find(known, "c") is None
