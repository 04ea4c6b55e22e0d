# SPDX-License-Identifier: Apache-2.0
"""Neutron's API, with a model that it forgets to load.

Neutron 29.0.0 maps ports on port forwardings without importing them where no
service plugin is configured, and every look at the ports fails.
"""

# ruff: noqa: I001 - the application comes first: it prepares the rest.
from neutron.wsgi.api import application
from neutron.db.models import port_forwarding  # noqa: F401
from sqlalchemy import orm

__all__ = ["application"]

orm.configure_mappers()
