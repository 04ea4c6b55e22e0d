# SPDX-License-Identifier: Apache-2.0
"""Is a migration that cannot be refused, in words that help, unchanged?"""

import libvirt
import pytest

from mdev_migrate import testing
from tests import builders, standin

ONE, TWO = builders.uuid(1), builders.uuid(2)
TYPES = {ONE: standin.TYPE}


@pytest.fixture
def which(cloud):
    """Return an instance with one mdev, on the source."""
    cloud.here.add_mdev(ONE, standin.TYPE, standin.PARENT)
    which = standin.instance()
    cloud.here.add_guest("vm", which.uuid, [ONE], persistent=False)
    return which


def _refused(cloud, which, *words, **facts):
    """Check that a migration is refused in these words, and is unchanged."""
    before = cloud.there.all_mdevs()

    with pytest.raises(standin.Refused) as caught:
        cloud.check(which, **facts)

    text = str(caught.value)
    assert text.startswith(f"Unable to migrate {which.uuid}: ")
    assert [word for word in words if word not in text] == []
    assert cloud.there.all_mdevs() == before
    assert cloud.claimed() == {}


class TestVersions:
    """Each side refuses for itself, naming host, found and needed."""

    @pytest.mark.parametrize(
        ("attribute", "version", "found", "needed"),
        [
            ("libvirt_version", (8, 5, 0), "libvirt 8.5.0", "8.6.0"),
            ("qemu_version", (8, 0, 9), "QEMU 8.0.9", "8.1.0"),
        ],
    )
    @pytest.mark.parametrize("side", ["source", "destination"])
    def test_too_old(
        self, cloud, which, side, attribute, version, found, needed
    ):
        """libvirt and QEMU of either."""
        host = cloud.here if side == "source" else cloud.there
        setattr(host, attribute, version)

        _refused(cloud, which, f"{side} host {host.name}", found, needed)

    def test_kernel(self, cloud, which, kernel):
        """A compute can see its own kernel."""
        kernel.write_text("5.17.9-generic\n")

        _refused(
            cloud, which, "host host-b", "Linux 5.17.9", "5.18.0", "too-old"
        )

    def test_kernel_of_the_source(self, cloud, which, kernel):
        """The source looks at its own."""
        data = cloud.destination.check_can_live_migrate_destination(
            None, which, None, None
        )
        kernel.write_text("5.17.9-generic\n")

        with pytest.raises(
            standin.Refused, match=r"source host host-a.*5\.17"
        ):
            cloud.source.check_can_live_migrate_source(None, which, data)


class TestTransport:
    """What was to be secret is not sent in clear."""

    def test_tunnelled(self, cloud, which):
        """A tunnel cannot be had, and nobody asked to go without."""
        cloud.source.virtapi.flags |= libvirt.VIR_MIGRATE_TUNNELLED

        _refused(cloud, which, "host-a", "tunnel-unsupported", "native_tls")

    def test_tunnelled_and_encrypted(self, cloud, which):
        """With TLS the tunnel is not missed."""
        cloud.source.virtapi.flags |= (
            libvirt.VIR_MIGRATE_TUNNELLED | libvirt.VIR_MIGRATE_TLS
        )

        assert cloud.check(which).target_mdevs

    def test_tunnelled_since_the_check(self, cloud, which):
        """A source that was set up anew meanwhile does not send it."""
        data = cloud.check(which)
        cloud.source.virtapi.flags |= libvirt.VIR_MIGRATE_TUNNELLED

        guest = cloud.migrate(which, data)

        assert guest.calls == []
        assert which.uuid in cloud.here.running_guests()

    def test_guest_without_mdevs(self, cloud):
        """Others are tunnelled as ever."""
        which = standin.plain_instance()
        cloud.here.add_guest("vm", which.uuid)
        cloud.source.virtapi.flags |= libvirt.VIR_MIGRATE_TUNNELLED

        cloud.check(which, {})


class TestPeer:
    """The other compute does not know how, and is told apart from others."""

    def test_object_too_old(self, cloud, which):
        """The destination sent version 1.10: its Nova is too old."""
        data = standin.MigrateData()
        data.VERSION = "1.10"

        with pytest.raises(standin.Refused) as caught:
            cloud.source.check_can_live_migrate_source(None, which, data)

        assert "version 1.10, 1.11 with its mdev fields needed" in str(
            caught.value
        )
        assert "peer-too-old" in str(caught.value)

    @pytest.mark.parametrize(
        "facts", [{}, {"dst_supports_mdev_live_migration": False}]
    )
    def test_destination_does_not_say_so(self, cloud, which, facts):
        """It knows the field, and did not set it: its libvirt or QEMU."""
        data = standin.MigrateData(**facts)

        with pytest.raises(standin.Refused, match="peer-unsupporting") as got:
            cloud.source.check_can_live_migrate_source(None, which, data)

        assert "libvirt 8.6.0 and QEMU 8.1.0" in str(got.value)

    def test_later_stock_version(self, cloud, which):
        """A stock destination of Nova 34 sends 1.14, which will do."""
        data = standin.MigrateData(dst_supports_mdev_live_migration=True)
        data.VERSION = "1.14"

        data = cloud.source.check_can_live_migrate_source(None, which, data)

        assert data.source_mdev_types == TYPES

    def test_source_said_nothing(self, cloud):
        """Placement allocated mdevs, and an old source knows of none."""
        which = standin.instance()
        cloud.here.add_guest("vm", which.uuid)

        _refused(cloud, which, "peer-too-old", "host host-a", "without mdev")

    @pytest.mark.parametrize(
        "types", [{"x": standin.TYPE}, {ONE: "../x"}, {ONE: ""}]
    )
    def test_source_said_nonsense(self, cloud, types):
        """What came over the wire is checked before it is used."""
        _refused(
            cloud, standin.instance(), "migrate-data-invalid", types=types
        )


class TestGuest:
    """Why a guest cannot leave."""

    def test_mdev_not_listed(self, cloud, which):
        """Its type would be a guess; a short map would lose an mdev."""
        cloud.here.devices.mdevs()[0].hidden_lists = 99

        _refused(cloud, which, "guest-mdev-not-listed", ONE, "host host-a")

    def test_one_of_two_not_listed(self, cloud):
        """Neither is one of them enough."""
        which = standin.instance()
        for uuid in (ONE, TWO):
            cloud.here.add_mdev(uuid, standin.TYPE, standin.PARENT)
        cloud.here.add_guest("vm", which.uuid, [ONE, TWO])
        cloud.here.devices.mdevs()[0].hidden_lists = 99

        _refused(cloud, which, "guest-mdev-not-listed", ONE)

    def test_accelerator(self, cloud):
        """Cyborg owns the mdevs of an instance with a device profile."""
        which = standin.instance(
            **{"resources:VGPU": "1", "accel:device_profile": "gpu"}
        )
        cloud.here.add_mdev(ONE, standin.TYPE, standin.PARENT)
        cloud.here.add_guest("vm", which.uuid, [ONE])

        _refused(cloud, which, "mdevs-not-ours", "belong to Cyborg")

    @pytest.fixture
    def viommu(self, cloud):
        """Return an instance whose guest has a virtual IOMMU."""
        which = standin.instance()
        cloud.here.add_mdev(ONE, standin.TYPE, standin.PARENT)
        xml = testing.guest_document("vm", which.uuid, [ONE])
        xml = xml.replace("</devices>", "<iommu model='intel'/></devices>")
        cloud.here.add_guest("vm", which.uuid, xml=xml)
        return which

    def test_viommu(self, cloud, viommu):
        """QEMU names it when it is asked."""
        cloud.here.guests.state(viommu.uuid).blockers = ("vIOMMU enabled",)

        _refused(cloud, viommu, "guest-has-viommu", "intel")

    def test_viommu_that_blocks_nothing(self, cloud, viommu):
        """QEMU is believed, not the document."""
        data = cloud.check(viommu)

        assert list(data.target_mdevs) == [ONE]

    def test_viommu_and_nobody_to_ask(self, cloud, viommu):
        """Then the document decides."""
        error = testing.libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR, "no")
        cloud.here.faults.on("migrateToURI3", testing.fail(error))

        _refused(cloud, viommu, "guest-has-viommu", "intel")

    def test_guest_gone(self, cloud):
        """An error of the stock driver is a refusal too."""
        _refused(
            cloud,
            standin.instance(),
            "host host-a could not check it",
            "no guest",
        )


class TestDestination:
    """Why a destination cannot take it."""

    def test_type_not_enabled(self, cloud, which):
        """It names the type and what there is."""
        cloud.destination.types = {standin.PARENT: standin.OTHER_TYPE}

        _refused(
            cloud,
            which,
            "mdev-type-not-enabled",
            "host host-b",
            standin.TYPE,
            standin.OTHER_TYPE,
        )

    def test_provider_of_another_type(self, cloud, which):
        """The type is enabled, but not on the parent that was allocated."""
        cloud.destination.types[standin.PARENT] = standin.OTHER_TYPE

        _refused(
            cloud,
            which,
            "provider-types-differ",
            "types nvidia-11 needed",
            "set up for nvidia-12",
        )
        assert "nodeDeviceCreateXML" not in [n for _, n in cloud.there.calls]

    @pytest.mark.parametrize("count", [2, 3])
    def test_other_number_of_mdevs(self, cloud, which, count):
        """More allocated than the guest has: it was booted with fewer."""
        _refused(
            cloud,
            which,
            "guest-short-of-mdevs",
            "has 1 mdevs (nvidia-11)",
            f"allocated {count} (nvidia-11, ",
            "hard reboot or rebuild",
            allocated=standin.allocations(count=count),
        )

    def test_placement_unreachable(self, cloud, which):
        """Nova's client answers None."""
        data = cloud.destination.check_can_live_migrate_destination(
            None, which, None, None
        )
        data = cloud.source.check_can_live_migrate_source(None, which, data)

        with pytest.raises(standin.Refused, match="allocations-unknown"):
            cloud.destination.check_source_migrate_data_at_dest(
                None, which, data, cloud.migration(), None, None
            )

    def test_no_allocations(self, cloud, which):
        """Or an empty answer, if it answered with an error."""
        _refused(cloud, which, "allocations-unknown", allocated={})

    def test_no_mdev_allocations(self, cloud, which):
        """Nothing of what was allocated is an mdev."""
        allocated = {standin.ROOT: {"resources": {"VCPU": 1}}}

        _refused(cloud, which, "provider-types-differ", allocated=allocated)

    @pytest.mark.parametrize("provider", [builders.uuid(0xEE), standin.ROOT])
    def test_provider_unknown(self, cloud, which, provider):
        """An old inventory on the root, or a provider that is gone."""
        allocated = {provider: {"resources": {"VGPU": 1}}}

        _refused(
            cloud, which, "provider-unknown", "host-b", allocated=allocated
        )

    def test_provider_of_another_root(self, cloud, which):
        """A provider that is not named after one of the host's roots."""
        cloud.destination.provider_tree.roots[0].name = "host-x"

        _refused(cloud, which, "provider-unknown", f"host-b_{standin.PARENT}")

    def test_provider_without_a_type(self, cloud, which):
        """Its parent was taken out of the configuration."""
        del cloud.destination.types[standin.PARENT]

        _refused(cloud, which, "provider-unknown", standin.PARENT)

    def test_full(self, cloud, which, caplog):
        """Who is refused for want of room learns how much there is."""
        for number in (8, 9):
            uuid = builders.uuid(number)
            cloud.there.add_mdev(uuid, standin.TYPE, standin.PARENT)
            cloud.there.add_guest(f"vm{number}", uuid, [uuid])

        _refused(cloud, which, "too-few-mdevs", "0 of", standin.PARENT)
        assert "Traceback" not in caplog.text

    def test_creation_fails(self, cloud, which):
        """libvirt's error is one, too."""
        error = testing.libvirt_error(
            libvirt.VIR_ERR_INTERNAL_ERROR, "Cannot find 'mdevctl' in path"
        )
        cloud.there.faults.on("nodeDeviceCreateXML", testing.fail(error))

        _refused(cloud, which, "host host-b could not check it", "mdevctl")

    @pytest.mark.parametrize("lag", [0, 3])
    def test_second_creation_fails(self, cloud, lag):
        """The first is removed again, be it listed already or not."""
        which = standin.instance()
        for uuid in (ONE, TWO):
            cloud.here.add_mdev(uuid, standin.TYPE, standin.PARENT)
        cloud.here.add_guest("vm", which.uuid, [ONE, TWO])
        cloud.there.udev_lag = lag
        error = testing.libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR, "Full")
        cloud.there.faults.on(
            "nodeDeviceCreateXML", testing.fail(error), nth=2
        )

        _refused(cloud, which, "Full", allocated=standin.allocations(count=2))

    def test_libvirt_fails(self, cloud, which):
        """A hiccup leaves the guest ACTIVE: the next host is tried."""
        error = testing.libvirt_error(libvirt.VIR_ERR_RPC, "hiccup")
        cloud.there.faults.on("getLibVersion", testing.fail(error))

        _refused(cloud, which, "host host-b could not check it", "hiccup")

    @pytest.mark.parametrize("side", ["host-a", "host-b"])
    def test_libvirt_does_not_answer(self, cloud, which, side):
        """Not even the host's name can be asked for: it is a refusal too."""
        {"host-a": cloud.here, "host-b": cloud.there}[side].stop_daemon()

        with pytest.raises(standin.Refused, match=f"host {side} could not"):
            cloud.check(which)

    def test_stock_refusal(self, cloud, which):
        """One of Nova's own goes through as it is."""
        refusals = cloud.destination.mdev_compute.refusals

        with pytest.raises(standin.Refused) as caught, refusals(which):
            raise standin.Refused("theirs")

        assert str(caught.value) == "theirs"


class TestPreparing:
    """Just before the guest comes."""

    def test_claim_gone(self, cloud, which):
        """Its mdevs may be somebody else's by now."""
        data = cloud.check(which)
        cloud.roll_back(which, data)

        with pytest.raises(standin.Refused, match="claim-lost"):
            cloud.prepare(which, data)

    def test_other_targets(self, cloud, which):
        """What the source sends back must be what was claimed."""
        data = cloud.check(which)
        data.target_mdevs = {ONE: builders.uuid(0xBAD)}

        with pytest.raises(standin.Refused, match="claim-lost"):
            cloud.prepare(which, data)

    def test_target_gone(self, cloud, which):
        """Somebody removed it: it is waited for, and not in vain for long."""
        data = cloud.check(which)
        (mdev,) = cloud.there.all_mdevs()
        connection = cloud.there.open()
        device = connection.nodeDeviceLookupByName(mdev.name)
        device.destroy()

        with pytest.raises(standin.Refused, match="target-mdev-gone"):
            cloud.prepare(which, data)

    def test_no_targets(self, cloud, which):
        """A peer between them dropped the field."""
        data = cloud.check(which)
        delattr(data, "_obj_target_mdevs")

        with pytest.raises(standin.Refused, match="migrate-data-invalid"):
            cloud.prepare(which, data)
        assert "pre_live_migration" not in dict(cloud.destination.calls)
