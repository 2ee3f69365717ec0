"""The atlas: every entry is described, and decided with its mutant rejected."""

import jax
import numpy as np
import pytest

from validation import atlas

# Entries that take a few seconds each; all others are slow.
FAST = ("spred", "topology")
NAMES = [one.name for one in atlas.entries()]


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_entry(name):
    result = atlas.run(name, key=jax.random.key(0))
    assert result.verdict in ("holds", "unexplained"), str(result)
    assert all(claim.verdict == "holds" for claim in result.claims) or result.verdict == "unexplained"
    ax = result.plot()
    assert ax.get_xlabel() and ax.get_ylabel()
    assert all(np.isfinite(claim.mutant_z) or claim.mutant_z == np.inf for claim in result.claims)


@pytest.mark.parametrize("known", atlas.entries(), ids=lambda one: one.name)
def test_entries_say_what_they_claim_and_where_it_stands(known):
    assert 20 < len(known.title) <= 120 and len(known.source) > 20


def test_a_misspelled_name_is_met_by_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'spred'"):
        atlas.run("spread")
