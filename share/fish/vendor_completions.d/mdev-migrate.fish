# SPDX-License-Identifier: Apache-2.0
#
# Completion of mdev-migrate in fish, commands, options and guests: click,
# which the command is written with, says how.

_MDEV_MIGRATE_COMPLETE=fish_source mdev-migrate 2>/dev/null | source
