# SPDX-License-Identifier: Apache-2.0
"""How thoroughly do the property tests search?"""

import os

import hypothesis

hypothesis.settings.register_profile("short", max_examples=60, deadline=None)
hypothesis.settings.register_profile("soak", max_examples=3000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "short"))
