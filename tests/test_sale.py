"""The sale's values: what each op number means is a pure function of the plan and the number."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.plan import Plan
from loadgen.shop import sale
from loadgen.shop.sale import Answer, Kind
from tests.plans import parse_sale

MIX = (("order", 10), ("pay", 8), ("cancel", 1), ("release", 1), ("browse", 2))


def plan_of(**options: object) -> Plan:
    """A plan with the sale's own mix."""
    return parse_sale({name: str(value) for name, value in options.items()}).with_(kind_weights=MIX)


@settings(max_examples=30)
@given(st.integers(0, 2**40), st.integers(1, 300), st.integers(0, 2**63 - 1), st.integers(1, 40))
def test_a_block_means_the_same_however_it_is_cut(first: int, count: int, seed: int, cut: int) -> None:
    """A judge, a worker and a master that make the same numbers agree on every value."""
    plan = plan_of(seed=seed)
    whole = sale.invoked(plan, first, count)
    cut = min(cut, count)
    parts = [sale.invoked(plan, first, cut), sale.invoked(plan, first + cut, count - cut)]

    for name, values in whole.items():
        assert np.array_equal(values, np.concatenate([part[name] for part in parts])), name
    joined = sale.shoppings(plan, parts[0]) + sale.shoppings(plan, parts[1])
    assert sale.shoppings(plan, whole) == joined


@settings(max_examples=20)
@given(st.integers(0, 2**50), st.integers(0, 2**63 - 1))
def test_tokens_are_never_shared_and_never_negative(first: int, seed: int) -> None:
    """Two numbers never have one token: it is a permutation."""
    tokens = sale.tokens(seed, np.arange(first, first + 5000, dtype=np.int64))

    assert len(np.unique(tokens)) == 5000
    assert tokens.min() >= 0


@pytest.mark.parametrize("skew", ["uniform", "zipf:0.99", "one-hot"])
@pytest.mark.parametrize("skus", [1, 2, 3, 100])
def test_lines_are_ascending_within_the_skus_and_the_limit(skew: str, skus: int) -> None:
    """Baskets take their rows in ascending order, no SKU is outside the plan, no line is above the limit."""
    plan = plan_of(skew=skew, skus=skus, user_limit=1)
    block = sale.invoked(plan, 0, 4000)
    pairs = block["sku_b"] >= 0

    assert block["sku_a"].min() >= 0
    assert max(block["sku_a"].max(), block["sku_b"].max()) < skus
    assert np.all(block["sku_b"][pairs] == block["sku_a"][pairs] + 1)
    assert set(np.unique(block["qty_a"])) == {1}
    assert np.all((block["qty_b"] > 0) == pairs)
    units = block["qty_a"] * sale.price(block["sku_a"])
    units += np.where(pairs, block["qty_b"] * sale.price(np.maximum(block["sku_b"], 0)), 0)
    assert np.array_equal(block["amount"], units)


def test_shares_are_those_of_the_constants() -> None:
    """A tenth of the orders are baskets, a fifth of the lines want two units, five sixths of arrivals are orders."""
    block = sale.invoked(plan_of(skew="uniform"), 0, 60_000)
    orders = block["kind"] == Kind.ORDER

    assert orders.mean() == pytest.approx(10 / 12, abs=0.01)
    assert (block["sku_b"][orders] >= 0).mean() == pytest.approx(sale.BASKET_SHARE, abs=0.01)
    assert (block["qty_a"] == 2).mean() == pytest.approx(sale.TWO_UNITS_SHARE, abs=0.01)


def test_zipf_ranks_follow_the_law() -> None:
    """SKU k is wanted in proportion to (k + 1) to the power of -S."""
    block = sale.invoked(plan_of(skew="zipf:1.2", skus=50), 0, 200_000)
    single = block["sku_a"][(block["sku_b"] < 0)]
    counts = np.bincount(single, minlength=50)

    assert counts[0] / counts[3] == pytest.approx(4**1.2, rel=0.08)


def test_follow_ups_split_by_their_weights_and_only_follow_orders() -> None:
    """8 : 1 : 1 of pay, cancel and release, with a few payments that meet the release."""
    plan = plan_of()
    shoppings = sale.shoppings(plan, sale.invoked(plan, 0, 30_000))
    hold_ns = plan.duration_s * sale.HOLD_SHARE * 1e9
    orders = [shopping for shopping in shoppings if shopping.kind == Kind.ORDER]
    single = [shopping.follow_ups[0] for shopping in orders if len(shopping.follow_ups) == 1]
    races = [shopping.follow_ups for shopping in orders if len(shopping.follow_ups) == 2]

    assert all(not shopping.follow_ups for shopping in shoppings if shopping.kind == Kind.BROWSE)
    assert sum(kind == Kind.PAY for kind, _ in single) / len(single) == pytest.approx(0.8, abs=0.02)
    assert len(races) / len(orders) == pytest.approx(sale.RACE_SHARE, abs=0.01)
    assert all({kind for kind, _ in race} == {Kind.PAY, Kind.RELEASE} for race in races)
    assert all(0 <= delay <= hold_ns for _, delay in single)


def test_a_mix_without_follow_ups_has_none() -> None:
    """--tags order leaves the orders alone."""
    plan = plan_of().with_(kind_weights=(("order", 10),))
    shoppings = sale.shoppings(plan, sale.invoked(plan, 0, 100))

    assert {shopping.kind for shopping in shoppings} == {Kind.ORDER}
    assert all(not shopping.follow_ups for shopping in shoppings)


def test_buckets_hold_the_whole_stock() -> None:
    """The units of a SKU are spread over its buckets, none lost."""
    plan = plan_of(strategy="bucketed", buckets=7, stock=100)

    assert sum(sale.bucket_stock(plan, bucket) for bucket in range(7)) == 100


def test_codes_have_their_names() -> None:
    """The names in a history's facts follow the codes."""
    assert sale.KIND_NAMES[Kind.RELEASE] == "release"
    assert sale.ANSWER_NAMES[Answer.SOLD_OUT] == "sold_out"
