"""The load path: Locust's users, the loop thread that runs their transactions, and the recorder.

Importing this room connects loadgen to Locust's events, so that a workload file is a locustfile. In a process without
Locust (the judge, the conductor) it exports stand-ins, and a workload file only defines its workload.
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
