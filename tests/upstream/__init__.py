# SPDX-License-Identifier: Apache-2.0
"""A Nova release's own tests, with the mixin in place."""
