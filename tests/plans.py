"""Plans of the sale for tests: with the default of every option but those that are named."""

from collections.abc import Mapping
from typing import Any

from loadgen.plan import Plan, parse_plan
from loadgen.shop import sale
from loadgen.shop.options import OPTIONS, resolve, sale_plan

__all__ = ["parse_sale", "sale_plan"]
METRICS = ((*sale.KIND_NAMES, "order_refused"), ("placed_per_second", "peak_per_second"))


def parse_sale(values: Mapping[str, Any]) -> Plan:
    """The plan that a user of the sale asked for."""
    return resolve(parse_plan(values, OPTIONS, METRICS))
