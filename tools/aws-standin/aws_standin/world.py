"""All state of a stand-in: clock, faults, settings, callers, and one store per account and region.

One lock guards everything: a request is handled as a whole, then the next. A killed stand-in keeps
nothing.
"""

import threading
import time
from collections import Counter, deque

from .clock import Clock
from .config import Config
from .credentials import Credentials
from .faults import Faults
from .lifecycle import Operation


class Region:
    """What one account has in one region."""

    def __init__(self, world, account, name):
        from .backup.store import BackupStore
        from .rds.store import RdsStore

        self.world, self.account, self.name = world, account, name
        self.rds = RdsStore()
        self.backup = BackupStore()


class World:
    def __init__(self, speed=1.0):
        self.lock = threading.RLock()
        self.speed = speed
        self.reset()

    def reset(self, back=0.0):
        """As freshly started, `back` seconds ago."""
        self.clock = Clock(self.speed, start=time.time() - back)
        self.config = Config()
        self.faults = Faults()
        self.credentials = Credentials()
        self.regions = {}
        self.requests = deque(maxlen=10_000)
        self.counts = Counter()
        # Control hook: restored instances answer with this endpoint (source ARN or id -> host, port).
        self.restore_endpoints = {}

    def region(self, account, name):
        key = (account, name)
        if key not in self.regions:
            self.regions[key] = Region(self, account, name)
        return self.regions[key]

    def now(self):
        return self.clock.now()

    def operation(self, kind, subject, stages, on_done, on_fail=None):
        return Operation(self, kind, subject, stages, on_done, on_fail)


class Context:
    """One call: who, where, and shortcuts to the state there."""

    def __init__(self, world, caller, region):
        self.world, self.caller, self.region = world, caller, region
        self.account = caller.account
        here = world.region(self.account, region)
        self.rds, self.backup = here.rds, here.backup

    @property
    def now(self):
        return self.world.now()

    def elsewhere(self, region=None, account=None):
        """The state of another region (or account) that this call reaches into."""
        return self.world.region(account or self.account, region or self.region)
