# SPDX-License-Identifier: Apache-2.0
"""A compute service's part in a migration, without importing Nova."""
