# SPDX-License-Identifier: Apache-2.0
"""Tests inside real Nova, on the fixtures that its wheel carries."""
