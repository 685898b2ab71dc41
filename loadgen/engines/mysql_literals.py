"""Values as the MySQL wire's text form has them."""

import math
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from operator import index
from typing import Any

from loadgen.engines.columns import naive


def literal(value: Any, escape: Callable[[Any], Any]) -> str:
    """``value`` as a part of a statement; ``escape`` is the driver's, for texts.

    Raises ValueError for a number that SQL has no literal for, as an infinity.
    """
    match value:
        case None:
            return "NULL"
        case str():
            return str(escape(value))
        case float() | Decimal() if not math.isfinite(value):
            raise ValueError(f"a value does not fit its parameter: {value} is not a number in SQL")
        case float():
            # With an exponent it is a double; without one it would be a decimal.
            text = repr(float(value))
            return text if "e" in text else f"{text}e0"
        case Decimal():
            return f"{value:f}"
        case datetime():
            return f"'{naive(value).isoformat(' ', 'microseconds')}'"
        case bytes() | bytearray() | memoryview():
            return f"x'{value.hex()}'"
    try:
        return str(index(value))
    except TypeError:
        return str(escape(value))
