"""PostgreSQL with odd settings and odd things in it: a run's connections are what it needs, or are refused in one line.

``python -m tests.trials.postgres_settings`` tries whole runs under each of them.
"""

import re

import pytest

from loadgen.clusters.cluster import Cluster
from loadgen.errors import ClusterError
from tests.engines.test_poolers import use
from tests.trials.postgres_settings import ODDITIES, Odd, under

pytestmark = pytest.mark.server("postgres")


@pytest.mark.parametrize("odd", ODDITIES, ids=lambda odd: odd.name)
def test_oddity_is_overcome_or_refused_in_one_line(postgres_cluster: Cluster, odd: Odd) -> None:
    """What it changes is set back for our sessions alone; what can't be is named."""
    with under(odd, postgres_cluster) as address:
        if odd.refused and odd.refused != "connections free":
            with pytest.raises(ClusterError) as refused:
                use(address)
            assert re.search(odd.refused, str(refused.value))
            assert "\n" not in str(refused.value)
        elif not odd.refused:
            assert use(address) == [None, None, None, 3]
