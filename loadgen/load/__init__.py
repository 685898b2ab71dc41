"""The load path: Locust's users, the loop thread that runs their transactions, and the recorder.

Importing this room wires loadgen to Locust's events: that is what makes a workload file a locustfile. A process without
Locust (the judge, the conductor) gets stand-ins: there a workload file only says what its workload is.
"""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING or "locust" in sys.modules:
    from loadgen.load.locust_events import wire
    from loadgen.load.tasks import tag, task
    from loadgen.load.user import SessionUser

    wire()
else:
    from loadgen.workload.standins import SessionUser, tag, task

__all__ = ["SessionUser", "tag", "task"]
