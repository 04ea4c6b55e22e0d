# SPDX-License-Identifier: Apache-2.0
"""Tests inside real Nova, on the fixtures that its wheel carries."""

# Where the release runs on eventlet this patches the standard library, so
# nothing may be imported before it.
import nova.tests.functional  # noqa: F401
