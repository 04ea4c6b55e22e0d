# SPDX-License-Identifier: Apache-2.0
"""Are the options what the documentation and Nova rely on?"""

import configparser
import importlib.metadata
import importlib.util
import io
import pathlib

import pytest
from oslo_config import cfg, generator

from mdev_migrate import exception
from mdev_migrate.compute import conf


def _registered():
    """Return a configuration with ours, and what is read of Nova's."""
    found = cfg.ConfigOpts()
    conf.register(found)
    theirs = cfg.IntOpt("live_migration_downtime", default=500, min=100)
    found.register_opts([theirs], "libvirt")
    return found


@pytest.fixture
def options():
    """Return a configuration with ours registered."""
    found = _registered()
    found([], default_config_files=[])
    yield found
    found.reset()


@pytest.fixture
def file(tmp_path):
    """Return the file that services are configured by."""
    return tmp_path / "nova.conf"


def _configured(file, text, group="mdev_migrate"):
    file.write_text(f"[{group}]\n{text}\n")
    found = _registered()
    found([], default_config_files=[str(file)])
    return found


def _hang_up(configuration, file, text):
    """Do what nova-compute does when it gets SIGHUP."""
    file.write_text(f"[mdev_migrate]\n{text}\n")
    configuration.mutate_config_files()


class TestOptions:
    """Group ``[mdev_migrate]``."""

    def test_defaults(self, options):
        """They are safe without a thought."""
        assert dict(options.mdev_migrate) == {
            "max_downtime": 10_000,
            "metrics_file": "",
            "listed_timeout": 10.0,
            "busy_timeout": 60.0,
        }

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("max_downtime", -1),
            ("max_downtime", 2_000_001),
            ("listed_timeout", -0.1),
            ("busy_timeout", -1),
        ],
    )
    def test_out_of_bounds(self, options, name, value):
        """What QEMU would not take, or means nothing, is refused."""
        with pytest.raises(ValueError, match=f"{value} found, 0 "):
            options.set_override(name, value, "mdev_migrate")

    @pytest.mark.parametrize(
        ("name", "value"),
        [("max_downtime", 0), ("max_downtime", 2_000_000)],
    )
    def test_at_the_bounds(self, options, name, value):
        """The bounds themselves are taken."""
        options.set_override(name, value, "mdev_migrate")

        assert options.mdev_migrate[name] == value

    def test_registered_twice(self, options):
        """Nova may load the driver more than once."""
        conf.register(options)

    def test_only_mutable_if_it_is_read_again(self):
        """The timeouts are taken once, when the driver is made."""
        mutable = {each.name for each in conf.OPTIONS if each.mutable}

        assert mutable == {"max_downtime", "metrics_file"}

    def test_metrics_without_their_library(self, file, monkeypatch):
        """A file that could not be written is refused at the start."""
        monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
        configuration = _configured(file, "metrics_file = /var/mdev.prom")

        with pytest.raises(exception.OptionInvalid, match="prometheus_client"):
            conf.Options(configuration)

    def test_limits(self, options):
        """The timeouts reach the service, in seconds."""
        options.set_override("listed_timeout", 3, "mdev_migrate")

        limits = conf.Options(options).now.limits

        assert (limits.listed_s, limits.busy_s) == (3.0, 60.0)


class TestStart:
    """A service does not begin with what it cannot use."""

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("max_downtime", "3000000"),
            ("max_downtime", "-1"),
            ("max_downtime", "abc"),
            ("max_downtime", "nan"),
            ("max_downtime", ""),
            ("listed_timeout", "nan"),
            ("listed_timeout", "inf"),
            ("listed_timeout", "1e400"),
            ("listed_timeout", ""),
            ("busy_timeout", "-inf"),
            ("busy_timeout", "-0.1"),
            ("busy_timeout", "soon"),
            ("metrics_file", "mdev.prom"),
        ],
    )
    def test_refused(self, file, name, value):
        """The option, what was found and what is needed are named."""
        configuration = _configured(file, f"{name} = {value}")

        with pytest.raises(exception.OptionInvalid) as raised:
            conf.Options(configuration)

        assert raised.value.option == f"[mdev_migrate]{name}"
        assert raised.value.found == repr(value)
        assert raised.value.needed

    def test_unreadable_for_another_reason(self, file):
        """What oslo.config says is told if it is all that is known."""
        configuration = _configured(file, "max_downtime = $nobody_knows")

        with pytest.raises(exception.OptionInvalid, match="nobody_knows"):
            conf.Options(configuration)

    def test_novas_own(self, file):
        """A limit that Nova itself cannot use stops no service."""
        configuration = _configured(
            file, "live_migration_downtime = 1", "libvirt"
        )

        options = conf.Options(configuration)

        assert options.now.downtime_factor == 1
        with pytest.raises(exception.OptionInvalid, match=r"\[libvirt\]"):
            options.check()


class TestDowntime:
    """How much longer a guest with mdevs may stop."""

    @pytest.mark.parametrize(
        ("value", "factor"), [(10_000, 20), (250, 0.5), (0, 1)]
    )
    def test_factor(self, options, value, factor):
        """As often as its limit is that of all others; 0 is the same."""
        options.set_override("max_downtime", value, "mdev_migrate")

        assert conf.Options(options).now.downtime_factor == factor


class TestHangUp:
    """Options that are changed while the service runs."""

    @pytest.mark.parametrize("bad", ["3000000", "-1", "abc", ""])
    def test_last_good_one_is_kept(self, file, caplog, bad):
        """A bad value is said at once, and the good one goes on."""
        configuration = _configured(file, "max_downtime = 5000")
        options = conf.Options(configuration)

        _hang_up(configuration, file, f"max_downtime = {bad}")

        options.check()
        assert options.now.max_downtime_ms == 5_000
        (said,) = [
            record
            for record in caplog.records
            if record.name == conf.LOG.logger.name
        ]
        assert f"max_downtime: {bad!r} found" in said.getMessage()

    def test_said_again_when_it_changes(self, file, caplog):
        """Another bad value is news, and so is the same one later."""
        configuration = _configured(file, "")
        options = conf.Options(configuration)

        for value in ("abc", "abc", "-1", "5000", "abc"):
            _hang_up(configuration, file, f"max_downtime = {value}")

        assert options.now.max_downtime_ms == 5_000
        assert caplog.text.count("are left as they were") == 3

    def test_good_value_is_taken(self, file):
        """Without a restart, as the documentation says."""
        configuration = _configured(file, "max_downtime = 5000")
        options = conf.Options(configuration)

        _hang_up(configuration, file, "max_downtime = 6000")

        assert options.now.max_downtime_ms == 6_000

    def test_service_that_is_gone(self, file):
        """Nobody keeps the options of a driver that was thrown away."""
        configuration = _configured(file, "")
        conf.Options(configuration)

        _hang_up(configuration, file, "max_downtime = 6000")


class TestSample:
    """The sample of a configuration file."""

    def test_entry_point(self):
        """oslo-config-generator finds the options by their namespace."""
        setup = configparser.ConfigParser()
        setup.read(pathlib.Path(__file__).parents[2] / "setup.cfg")
        line = setup["options.entry_points"]["oslo.config.opts"].strip()
        name, _, value = line.partition(" = ")

        found = importlib.metadata.EntryPoint(name, value, "oslo.config.opts")

        assert (found.name, found.load()) == ("mdev_migrate", conf.list_opts)
        assert conf.list_opts() == [(conf.GROUP, conf.OPTIONS)]

    # How older releases of oslo.config call a newer stevedore.
    @pytest.mark.filterwarnings(
        "ignore:The warn_on_missing:DeprecationWarning"
    )
    def test_generated(self):
        """Every option stands there, with its default and its unit."""
        if not importlib.metadata.entry_points(
            group="oslo.config.opts", name="mdev_migrate"
        ):
            pytest.skip("mdev-migrate is not installed here")
        settings = cfg.ConfigOpts()
        generator.register_cli_opts(settings)
        settings(["--namespace", "mdev_migrate"], default_config_files=[])
        output = io.StringIO()

        generator.generate(settings, output)

        sample = output.getvalue()
        assert "[mdev_migrate]" in sample
        for option in conf.OPTIONS:
            assert f"#{option.name} = {option.default}".rstrip() in sample
        assert sample.count("in milliseconds") == 1

    def test_documented(self):
        """The sample in the documentation is that of these options."""
        path = "docs/nova/mdev_migrate.conf.sample"
        sample = (pathlib.Path(__file__).parents[2] / path).read_text()
        comments = " ".join(sample.replace("#", " ").split())

        for option in conf.OPTIONS:
            line = f"#{option.name} = {option.default}".rstrip()
            assert f"\n{line}\n" in sample
            assert option.help in comments
