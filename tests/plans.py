"""Plans of the sale for tests: with the default of every option but those that are named."""

from collections.abc import Mapping
from typing import Any

from loadgen.plan import Plan
from loadgen.shop.options import OPTIONS
from loadgen.workload.loading import installed_workloads, load_workload

SALE = load_workload(installed_workloads()["flashsale"])


def parse_sale(values: Mapping[str, Any]) -> Plan:
    """The plan that a user of the sale asked for."""
    return SALE.parse(values)


def sale_plan(**changes: Any) -> Plan:
    """A plan of the sale with the default of every option but ``changes``. No bounds are checked."""
    return Plan(options={**{option.name: option.default for option in OPTIONS}, "buckets": 1}).with_(**changes)
