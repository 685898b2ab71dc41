"""The load path: Locust's users, the loop thread that runs their transactions, and the recorder.

Importing this room wires loadgen to Locust's events: that is what makes a workload file a locustfile.
"""

from loadgen.load.locust_events import wire
from loadgen.load.tasks import tag, task
from loadgen.load.user import SessionUser

wire()

__all__ = ["SessionUser", "tag", "task"]
