# SPDX-License-Identifier: Apache-2.0
"""Are the options what the documentation and Nova rely on?"""

import configparser
import importlib.metadata
import io
import pathlib

import pytest
from oslo_config import cfg, generator

from mdev_migrate.compute import conf


@pytest.fixture
def options():
    """Return a configuration with ours registered."""
    found = cfg.ConfigOpts()
    conf.register(found)
    found([], default_config_files=[])
    return found


class TestOptions:
    """Group ``[mdev_migrate]``."""

    def test_defaults(self, options):
        """They are safe without a thought."""
        assert dict(options.mdev_migrate) == {
            "max_downtime": 10_000,
            "state_dir": "/var/lib/mdev-migrate",
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
        with pytest.raises(ValueError, match=r"(?i)should be"):
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
        """The limits are taken once, when the driver is made."""
        mutable = {each.name for each in conf.OPTIONS if each.mutable}

        assert mutable == {"max_downtime"}

    def test_limits(self, options):
        """The timeouts reach the service, in seconds."""
        options.set_override("listed_timeout", 3, "mdev_migrate")

        limits = conf.limits(options)

        assert (limits.listed_s, limits.busy_s) == (3.0, 60.0)


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
            assert f"#{option.name} = {option.default}" in sample
        assert sample.count("milliseconds") == 1

    def test_documented(self):
        """The sample in the documentation is that of these options."""
        path = "docs/nova/mdev_migrate.conf.sample"
        sample = (pathlib.Path(__file__).parents[2] / path).read_text()
        comments = " ".join(sample.replace("#", " ").split())

        for option in conf.OPTIONS:
            assert f"\n#{option.name} = {option.default}\n" in sample
            assert option.help in comments
