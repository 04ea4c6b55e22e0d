# SPDX-License-Identifier: Apache-2.0
"""The command ``mdev-migrate``, for people and for programs."""
