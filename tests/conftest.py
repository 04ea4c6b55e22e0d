# SPDX-License-Identifier: Apache-2.0
"""How thoroughly do the property tests search, and what is imported first?"""

import warnings

import hypothesis

from tests import soak

hypothesis.settings.register_profile("short", max_examples=60, deadline=None)
hypothesis.settings.register_profile("soak", max_examples=3000, deadline=None)
hypothesis.settings.load_profile("soak" if soak.SOAKING else "short")

# It imports oslo.messaging, and that, depending on its version, Eventlet:
# modules that warn of themselves when they are imported.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import oslo_versionedobjects.base  # noqa: F401
