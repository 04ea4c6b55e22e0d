# SPDX-License-Identifier: Apache-2.0
"""Can guests with mdevs be live-migrated from and to this compute?

Each check looks at one thing and returns what it found. All of them only
look, but for :func:`check_claims`, which makes a claim and ends it.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

from mdev_migrate import exception, model
from mdev_migrate.compute import conf, objects
from mdev_migrate.core import claim_xml, precheck
from mdev_migrate.host import Claims

#: Whether something is as it should be, wants to be looked at, or keeps
#: guests with mdevs from being migrated.
Level = Literal["well", "look", "bad"]

#: The first version of Nova's compute RPC that names a migration.
_COMPUTE_RPC = model.Version(5, 3, 0)


class Finding(NamedTuple):
    """What a check found, in words."""

    level: Level
    details: str


class Host(Protocol):
    """What is asked of this compute's host."""

    claims: Claims

    def facts(self) -> model.HostFacts:
        """Return who the host is and what runs on it."""
        ...

    def inventory(self, *kinds: model.Kind) -> model.Inventory:
        """Return what there is of some kinds."""
        ...


def _told(error: exception.MdevMigrateError) -> str:
    return f"{error} ({error.code}: {error.hint})"


# Configuration ----------------------------------------------------------


def check_options(configuration: Any) -> Finding:
    """See that every option of ours can be used."""
    try:
        conf.read(configuration)
    except exception.OptionInvalid as error:
        return Finding("bad", f"nova-compute would not start: {_told(error)}")
    return Finding("well", "every option of [mdev_migrate] can be used")


def check_downtime(configuration: Any) -> Finding:
    """See that guests with mdevs may stop for longer, and in time."""
    try:
        now = conf.read(configuration)
    except exception.OptionInvalid as error:
        return Finding("bad", _told(error))
    others = now.others_downtime_ms
    if others is None:
        return Finding(
            "bad",
            "Nova cannot use [libvirt]live_migration_downtime: guests with "
            "mdevs are refused, others go into ERROR",
        )
    limit = now.max_downtime_ms or others
    if limit <= others:
        return Finding(
            "look",
            f"guests with mdevs may stop for {limit} ms, like all others: "
            "the state of a vGPU takes longer. Set "
            "[mdev_migrate]max_downtime",
        )
    nova = configuration.libvirt
    rising = nova.live_migration_downtime_steps * (
        nova.live_migration_downtime_delay
    )
    if 0 < nova.live_migration_completion_timeout < rising:
        return Finding(
            "look",
            f"the limit of {limit} ms is reached after {rising} s for each "
            "GiB of memory, and a migration is out of time after "
            f"{nova.live_migration_completion_timeout} s: fewer "
            "live_migration_downtime_steps, or a shorter delay",
        )
    return Finding("well", f"guests with mdevs may stop for {limit} ms")


def check_timeout_action(configuration: Any) -> Finding:
    """See what becomes of a migration that is out of time."""
    action = configuration.libvirt.live_migration_timeout_action
    if action != "abort":
        return Finding(
            "look",
            f"[libvirt]live_migration_timeout_action is {action}: a guest "
            "with mdevs is neither paused nor post-copied, so its migration "
            "is aborted all the same",
        )
    return Finding("well", "a migration that is out of time is aborted")


def check_bandwidth(configuration: Any) -> Finding:
    """See that no bandwidth limit keeps devices from their turn.

    See :mod:`core.downtime`: Nova's monitor does not lift one.
    """
    limit = configuration.libvirt.live_migration_bandwidth
    if limit:
        return Finding(
            "look",
            f"[libvirt]live_migration_bandwidth is {limit} MiB/s: beside the "
            "memory of a guest that writes much, devices that copy "
            "beforehand do not get their turn, and its migration does not "
            "end. Set it to 0, or limit the bandwidth in the network",
        )
    return Finding("well", "no bandwidth limit holds up devices")


def check_secrecy(configuration: Any) -> Finding:
    """See that nothing is to go through a tunnel."""
    nova = configuration.libvirt
    if nova.live_migration_tunnelled:
        refusal = exception.TunnelUnsupported(str(configuration.host))
        return Finding("bad", f"guests would be refused: {_told(refusal)}")
    how = "by TLS" if nova.live_migration_with_native_tls else "in clear"
    return Finding("well", f"guests are not tunnelled, but sent {how}")


def check_rpc(configuration: Any) -> Finding:
    """See that conductors tell which migration a claim is for."""
    pin = configuration.upgrade_levels.compute
    try:
        pinned = bool(pin) and model.Version.parse(pin) < _COMPUTE_RPC
    except ValueError:
        return Finding(
            "look" if pin != "auto" else "well",
            f"[upgrade_levels]compute is {pin}: below 5.3 guests with mdevs "
            "are refused",
        )
    if pinned:
        return Finding(
            "look",
            f"while [upgrade_levels]compute is {pin}, guests with mdevs are "
            "refused (compute-rpc-pinned)",
        )
    return Finding("well", "the compute RPC is not pinned below 5.3")


def check_object(fields: Any) -> Finding:
    """See that a conductor of this installation knows our migrate data.

    :param fields: of Nova's own class, as a conductor has it.
    """
    if objects.MDEV_FIELDS.keys() <= set(fields):
        return Finding(
            "well", "nova-conductor of this installation knows the mdev fields"
        )
    return Finding(
        "look",
        "this Nova's conductor does not know the mdev fields: start every "
        "nova-conductor, in all cells, as nova-conductor-mdev, or with the "
        "import that the documentation names, before any compute has the "
        "mixin. Whether they run so cannot be seen from here.",
    )


# The host ---------------------------------------------------------------


def check_versions(host: Host) -> Finding:
    """See that libvirt, QEMU and the kernel are new enough."""
    checks = precheck.check_versions("source", host.facts())
    levels: dict[str, Level] = {"refused": "bad", "unknown": "look"}
    for result, level in levels.items():
        for check in checks:
            if check.result == result and check.error is not None:
                return Finding(level, _told(check.error))
    return Finding("well", "; ".join(check.detail for check in checks))


def check_types(configuration: Any, host: Host) -> Finding:
    """See that the host has what its types are enabled for."""
    enabled = list(configuration.devices.enabled_mdev_types or ())
    if not enabled:
        return Finding(
            "well", "no mdev types are enabled here: nothing is to be done"
        )
    offered = {
        each.mdev_type
        for parent in host.inventory("parent").parents
        for each in parent.types
    }
    missing = [name for name in enabled if name not in offered]
    if missing:
        return Finding(
            "look",
            f"no parent offers {', '.join(missing)}, which "
            "[devices]enabled_mdev_types names; offered: "
            f"{', '.join(sorted(offered)) or 'none'}",
        )
    return Finding("well", f"parents offer {', '.join(enabled)}")


def check_mdevctl(
    configuration: Any, find: Callable[[str], str | None] = shutil.which
) -> Finding:
    """See that libvirt can make mdevs, as far as it can be told from here."""
    if not configuration.devices.enabled_mdev_types:
        return Finding("well", "no mdev types are enabled here")
    found = find("mdevctl")
    if found is None:
        return Finding(
            "look",
            "mdevctl is not found: libvirt needs it where it runs, which may "
            "be another container than this",
        )
    return Finding("well", f"mdevctl is {found}")


def check_claims(host: Host, form: claim_xml.Form) -> Finding:
    """See that claims can be made: make one of no mdev, and end it."""
    mdev = model.Mdev(str(uuid.uuid4()), "none", "none")
    claim = model.Claim(
        instance_uuid=str(uuid.uuid4()),
        token=str(uuid.uuid4()),
        targets=(model.Target(mdev, True, str(uuid.uuid4())),),
        owner="mdev-migrate-status",
        guest="nobody: a trial",
    )
    try:
        host.claims.define(claim, form)
    except exception.MdevMigrateError as error:
        return Finding("bad", _told(error))
    host.claims.undefine(claim)
    return Finding("well", "claims can be defined in libvirt, and undefined")
