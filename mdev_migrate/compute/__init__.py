# SPDX-License-Identifier: Apache-2.0
"""A compute service's part in a migration, without importing Nova."""

import importlib.util

_NEEDED = ("oslo_config", "oslo_log", "oslo_versionedobjects")

_missing = [name for name in _NEEDED if not importlib.util.find_spec(name)]
if _missing:
    raise ModuleNotFoundError(
        f"the mixin needs {', '.join(_missing)}: install the extra 'nova', "
        "as in: pip install 'mdev-migrate[nova]'",
        name=_missing[0],
    )
