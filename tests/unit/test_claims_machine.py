# SPDX-License-Identifier: Apache-2.0
"""Do the claims behave as a plain dict would, whatever is done to them?"""

from hypothesis import stateful
from hypothesis import strategies as st

from mdev_migrate import exception
from mdev_migrate.core import allocation, claims, phases
from tests import builders

INSTANCES = st.integers(1, 5).map(builders.instance)
COUNTS = st.lists(
    st.sampled_from(["mtty-1", "mtty-2"]), min_size=1, max_size=6
)
PORTS = {"mtty-1": 1, "mtty-2": 2}
EXISTING = (builders.mdev(1), builders.mdev(2, "mtty-2"))


class ClaimMachine(stateful.RuleBasedStateMachine):
    """One destination of 24 ports, 3 of them in mdevs that exist."""

    def __init__(self):
        super().__init__()
        self.table = claims.ClaimTable()
        self.expected = {}
        self.mint = builders.minting()
        self.found = builders.inventory([builders.mtty(21)], EXISTING)

    def _choose(self, kinds):
        def choose(held):
            return allocation.allocate(
                self.found, builders.wants(*kinds), held=held, mint=self.mint
            )

        return choose

    @stateful.rule(instance=INSTANCES, kinds=COUNTS, fails=st.booleans())
    def claim(self, instance, kinds, fails):
        """Claim mdevs in a block that ends well or not."""
        older = self.expected.get(instance)
        try:
            with self.table.claim(instance, self._choose(kinds)) as plan:
                self.expected[instance] = (plan, phases.Step.CLAIM)
                if fails:
                    raise KeyError
        except exception.ClaimHeld:
            assert older is not None
            assert older[1] is not phases.Step.CLAIM
        except exception.TooFewMdevs:
            pass
        except KeyError:
            del self.expected[instance]

    @stateful.rule(instance=INSTANCES)
    def release(self, instance):
        """Release a claim, if there is one."""
        released = self.table.release(instance)

        plan, step = self.expected.pop(instance, (None, None))
        assert (released and released.plan) == plan
        assert (released and released.step) == step

    @stateful.rule(instance=INSTANCES, step=st.sampled_from(phases.Step))
    def advance(self, instance, step):
        """Note a step, if there is a claim."""
        self.table.advance(instance, step)

        if instance in self.expected:
            self.expected[instance] = (self.expected[instance][0], step)

    @stateful.invariant()
    def same_as_a_dict(self):
        """What is claimed is what was claimed and not given back."""
        found = {
            instance: (claim.plan, claim.step)
            for instance, claim in self.table.all().items()
        }
        assert found == self.expected

    @stateful.invariant()
    def never_more_than_there_is(self):
        """No mdev is claimed twice, and no port."""
        held = self.table.held()
        uuids = [mdev.uuid for mdev in held]
        new = [mdev for mdev in held if mdev not in EXISTING]
        assert len(set(uuids)) == len(uuids)
        assert sum(PORTS[mdev.mdev_type] for mdev in new) <= 21


TestClaimMachine = ClaimMachine.TestCase
