# SPDX-License-Identifier: Apache-2.0
"""Does the check before an upgrade see what would be in the way later?"""

import libvirt
import pytest
from oslo_config import cfg

from mdev_migrate import libvirt_host, testing
from mdev_migrate.compute import conf, objects, readiness
from mdev_migrate.core import claim_xml

#: What is read of Nova's options, with Nova's defaults.
NOVA = {
    "libvirt": [
        cfg.IntOpt("live_migration_downtime", default=500, min=100),
        cfg.IntOpt("live_migration_downtime_steps", default=10),
        cfg.IntOpt("live_migration_downtime_delay", default=75),
        cfg.IntOpt("live_migration_completion_timeout", default=800),
        cfg.StrOpt("live_migration_timeout_action", default="abort"),
        cfg.IntOpt("live_migration_bandwidth", default=0),
        cfg.BoolOpt("live_migration_tunnelled", default=False),
        cfg.BoolOpt("live_migration_with_native_tls", default=False),
    ],
    "devices": [cfg.ListOpt("enabled_mdev_types", default=[])],
    "upgrade_levels": [cfg.StrOpt("compute")],
    None: [cfg.StrOpt("host", default="host-a")],
}
PARENT = "pci_0000_06_00_0"


def _configured(tmp_path, text=""):
    """Return a configuration with ours and what is read of Nova's."""
    file = tmp_path / "nova.conf"
    file.write_text(text)
    found = cfg.ConfigOpts()
    conf.register(found)
    for group, options in NOVA.items():
        found.register_opts(options, group)
    found([], default_config_files=[str(file)])
    return found


@pytest.fixture
def state():
    """Return a simulated host."""
    here, _ = testing.two_hosts(
        [testing.NvidiaParent(PARENT, {"nvidia-11": 2})], []
    )
    return here


@pytest.fixture
def host(state):
    """Return it as a compute reaches it."""
    found = libvirt_host.LibvirtHost(
        state.uris[0], kernel="6.12.0", opener=state.group.open
    )
    yield found
    found.close()


SLOW_AND_NO_TIMEOUT = """[libvirt]
live_migration_downtime_delay=90
live_migration_completion_timeout=0"""
CONFIGURATION = [
    (readiness.check_options, "", "well"),
    (readiness.check_options, "[mdev_migrate]\nmax_downtime=abc", "bad"),
    (readiness.check_downtime, "", "well"),
    (readiness.check_downtime, "[mdev_migrate]\nbusy_timeout=nan", "bad"),
    (readiness.check_downtime, "[libvirt]\nlive_migration_downtime=1", "bad"),
    (readiness.check_downtime, "[mdev_migrate]\nmax_downtime=0", "look"),
    (readiness.check_downtime, "[mdev_migrate]\nmax_downtime=400", "look"),
    (
        readiness.check_downtime,
        "[libvirt]\nlive_migration_downtime_delay=90",
        "look",
    ),
    (readiness.check_downtime, SLOW_AND_NO_TIMEOUT, "well"),
    (readiness.check_timeout_action, "", "well"),
    (
        readiness.check_timeout_action,
        "[libvirt]\nlive_migration_timeout_action=force_complete",
        "look",
    ),
    (readiness.check_bandwidth, "", "well"),
    (
        readiness.check_bandwidth,
        "[libvirt]\nlive_migration_bandwidth=100",
        "look",
    ),
    (readiness.check_secrecy, "", "well"),
    (
        readiness.check_secrecy,
        "[libvirt]\nlive_migration_with_native_tls=true",
        "well",
    ),
    (
        readiness.check_secrecy,
        "[libvirt]\nlive_migration_tunnelled=true",
        "bad",
    ),
    (readiness.check_rpc, "", "well"),
    (readiness.check_rpc, "[upgrade_levels]\ncompute=auto", "well"),
    (readiness.check_rpc, "[upgrade_levels]\ncompute=6.0", "well"),
    (readiness.check_rpc, "[upgrade_levels]\ncompute=5.3", "well"),
    (readiness.check_rpc, "[upgrade_levels]\ncompute=5.2", "look"),
    (readiness.check_rpc, "[upgrade_levels]\ncompute=stein", "look"),
]


@pytest.mark.parametrize(("check", "text", "level"), CONFIGURATION)
def test_configuration(tmp_path, check, text, level):
    """What keeps guests from being migrated is bad, what may, a look."""
    found = check(_configured(tmp_path, text))

    assert found.level == level, found.details
    for line in text.splitlines()[1:]:
        name, _, value = line.partition("=")
        if level != "well":
            assert name in found.details or value in found.details


class TestConductors:
    """Do they know the migrate data?"""

    def test_known(self):
        """As from Nova 29 on, or with the import."""
        fields = {**objects.MDEV_FIELDS, "others": None}

        assert readiness.check_object(fields).level == "well"

    def test_unknown(self):
        """It says what to do, and that it cannot be seen from here."""
        found = readiness.check_object({"others": None})

        assert found.level == "look"
        assert "nova-conductor-mdev" in found.details


class TestHost:
    """What the host has, and lets be done."""

    def test_versions(self, host):
        """All of them are named."""
        found = readiness.check_versions(host)

        assert found.level == "well"
        assert all(w in found.details for w in ("libvirt", "QEMU", "Linux"))

    def test_too_old(self, state, host):
        """A refusal comes before what is not known."""
        state.qemu_version = (8, 0, 0)
        host._kernel = None

        found = readiness.check_versions(host)

        assert found.level == "bad"
        assert "qemu-too-old" in found.details

    def test_unknown_kernel(self, host):
        """What nobody knows is to be looked at."""
        host._kernel = "5.14.0-70.el9.x86_64"

        found = readiness.check_versions(host)

        assert found.level == "look"
        assert "vendor-kernel-unknown" in found.details

    @pytest.mark.parametrize(
        ("enabled", "level", "said"),
        [
            ("", "well", "nothing is to be done"),
            ("nvidia-11", "well", "parents offer nvidia-11"),
            ("nvidia-11,nvidia-99", "look", "no parent offers nvidia-99"),
        ],
    )
    def test_types(self, tmp_path, host, enabled, level, said):
        """What is enabled is compared with what parents offer."""
        text = f"[devices]\nenabled_mdev_types = {enabled}"

        found = readiness.check_types(_configured(tmp_path, text), host)

        assert found.level == level
        assert said in found.details

    @pytest.mark.parametrize(
        ("enabled", "path", "level"),
        [
            ("", None, "well"),
            ("nvidia-11", "/usr/sbin/mdevctl", "well"),
            ("nvidia-11", None, "look"),
        ],
    )
    def test_mdevctl(self, tmp_path, enabled, path, level):
        """Where there are types, libvirt needs it."""
        text = f"[devices]\nenabled_mdev_types = {enabled}"

        found = readiness.check_mdevctl(
            _configured(tmp_path, text), lambda name: path
        )

        assert found.level == level

    def test_claims(self, state, host):
        """One is made and ended, and nothing is left."""
        found = readiness.check_claims(host, claim_xml.Form())

        assert found.level == "well"
        assert "defineXML" in [name for _, name in state.calls]
        assert host.claims.read().all == ()

    def test_claims_denied(self, state, host):
        """Whoever may not define domains is told so."""
        error = testing.libvirt_error(libvirt.VIR_ERR_OPERATION_DENIED, "no")
        state.faults.on("defineXML", testing.fail(error))

        found = readiness.check_claims(host, claim_xml.Form())

        assert found.level == "bad"
        assert "claims-denied" in found.details
