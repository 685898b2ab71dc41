"""Whatever a saboteur does to the tables in mid-run is found under its right name, and the witness names the place."""

from collections.abc import Sequence

import pytest

from loadgen.shop.catalogue import CHECKS, run_checks
from tests.checks.sabotage import ACTS
from tests.checks.shop import Sabotage, simulate, small_plan

STRATEGIES = (("atomic", 1), ("pessimistic", 1), ("optimistic", 1), ("bucketed", 3), ("atomic", 1))
NEAR = {"turns a basket into one line": ("deduction-without-order",)}
"""Where only some of the names can tell which order it was, rather than which SKU."""


@pytest.mark.parametrize("deed", ACTS)
def test_sabotage_is_named_and_its_place_is_in_the_witness(deed: str) -> None:
    """Five runs, each with info ops, retries and dead processes of its own."""
    act, names = ACTS[deed]
    for seed, (strategy, buckets) in enumerate(STRATEGIES):
        _strike(act, names, NEAR.get(deed, names), seed, strategy, buckets)


def _strike(act: Sabotage, names: Sequence[str], near: Sequence[str], seed: int, strategy: str, buckets: int) -> None:
    plan = small_plan(strategy=strategy, buckets=buckets, seed=seed, stock=30)
    run = simulate(plan, seed, trouble=0.2, sabotage=act, numbers=150)
    assert run.sabotaged

    findings = {finding.name: finding for finding in run_checks(list(CHECKS), run.books())}

    for name in names:
        assert findings[name].anomalies, (name, strategy, seed)
    for name in near:
        assert any(run.sabotaged in witness for witness in findings[name].witnesses), findings[name].witnesses
