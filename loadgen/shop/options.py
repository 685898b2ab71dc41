"""The options of the sale: what is on sale, to whom, and how it is deducted."""

from loadgen.errors import PlanError
from loadgen.plan import Option, Plan, is_number

STRATEGIES = ("naive", "pessimistic", "optimistic", "atomic", "bucketed")
# Bounds: each keeps a mistyped number from becoming a run that cannot fit.
MAX_SKUS = 1_000_000
MAX_STOCK = 1_000_000_000
MAX_BUCKETS = 1_024
BUCKETS = 8
"""Stock rows of a SKU with --strategy bucketed, if the user does not say how many."""


def parse_skew(text: str) -> str:
    """The skew in its one spelling: ``uniform``, ``one-hot`` or ``zipf:S`` with S above 0 and at most 10."""
    wanted = text.strip().lower()
    if wanted in ("uniform", "one-hot"):
        return wanted
    if wanted.startswith("zipf:") and is_number(wanted[5:]) and 0 < float(wanted[5:]) <= 10:
        return f"zipf:{float(wanted[5:]):g}"
    raise PlanError(
        f"--skew {text!r} is not uniform, one-hot or zipf:S with S above 0 and at most 10, such as zipf:0.99"
    )


OPTIONS = (
    Option(
        "strategy",
        "atomic",
        "how stock is deducted: atomic (one conditional UPDATE), pessimistic (SELECT ... FOR UPDATE), optimistic "
        "(compare and set on a version), bucketed (several rows for each SKU), or naive (read, then write back; it "
        "must fail below snapshot isolation)",
        choices=STRATEGIES,
    ),
    Option("skus", 100, "number of SKUs on sale", least=1, most=MAX_SKUS),
    Option("stock", 1000, "units of each SKU at the start", least=1, most=MAX_STOCK),
    Option(
        "skew",
        "zipf:0.99",
        "distribution of orders over the SKUs: uniform, zipf:S (S such as 0.8, 0.99, 1.2) or one-hot",
        read=parse_skew,
    ),
    Option("user_limit", 5, "most units of one SKU for one shopper", least=1, most=MAX_STOCK),
    Option(
        "buckets",
        0,
        "stock rows for each SKU, with --strategy bucketed (default: 8)",
        least=1,
        most=MAX_BUCKETS,
        shown="",
    ),
)


def resolve(plan: Plan) -> Plan:
    """The plan with the buckets that its strategy has. Raises PlanError for options that contradict each other."""
    if not plan.buckets:
        plan = plan.with_(buckets=BUCKETS if plan.strategy == "bucketed" else 1)
    if plan.skus * plan.buckets > MAX_SKUS:
        raise PlanError(f"--skus {plan.skus} times --buckets {plan.buckets} is more than {MAX_SKUS:,} stock rows")
    if plan.strategy != "bucketed" and plan.buckets != 1:
        raise PlanError(
            f"--buckets {plan.buckets} splits each SKU into rows, and only --strategy bucketed can sell from them"
        )
    if plan.buckets > plan.stock:
        raise PlanError(f"--buckets {plan.buckets} leaves a bucket empty with --stock {plan.stock}: use fewer")
    return plan
