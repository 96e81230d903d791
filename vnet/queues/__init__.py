"""Work queues: items that guests leave for one another, and dispatchers that take them.

A guest makes a queue and works on it; others open it and post.  Items lie in memory that both share, the most urgent
priority first and within one in the order in which they were posted.  A guest that is busy is not interrupted, however
many items come: it finds them when its present item is done.  One that is idle is woken, once (US 7,181,744).
"""

from __future__ import annotations

from .dispatcher import Dispatcher
from .opening import create_queue, dispatcher, open_queue
from .queue import QueueStatistics, WorkQueue

__all__ = ["Dispatcher", "QueueStatistics", "WorkQueue", "create_queue", "dispatcher", "open_queue"]
