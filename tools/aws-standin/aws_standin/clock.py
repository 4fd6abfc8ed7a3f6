"""Virtual time.

`now()` is the wall clock, times `speed`, plus whatever was advanced; or a fixed instant while
frozen. Scheduled events (`at`) run in order as soon as a request or an advance sees that their
time has come, and see `now()` as the time they were due. All times are seconds since the epoch.
"""

import heapq
import itertools
import time


class Clock:
    def __init__(self, speed=1.0, start=None):
        self.speed = speed
        self._wall = time.time()
        self._virtual = self._wall if start is None else start
        self.frozen = False
        self._as_of = None
        self._events = []
        self._order = itertools.count()

    def now(self):
        if self._as_of is not None:
            return self._as_of
        if self.frozen:
            return self._virtual
        return self._virtual + (time.time() - self._wall) * self.speed

    def _rebase(self, virtual):
        self._virtual, self._wall = virtual, time.time()

    def advance(self, seconds):
        if seconds < 0:
            raise ValueError("virtual time does not go back")
        self._rebase(self.now() + seconds)
        self.run_due()

    def set_speed(self, speed):
        self._rebase(self.now())
        self.speed = speed

    def freeze(self, frozen):
        self._rebase(self.now())
        self.frozen = frozen

    def at(self, when, action):
        heapq.heappush(self._events, (when, next(self._order), action))

    def pending(self):
        """The actions that are still to come."""
        return [action for _, _, action in self._events]

    def run_due(self):
        if self._as_of is not None:
            return
        limit = self.now()
        while self._events and self._events[0][0] <= limit:
            when, _, action = heapq.heappop(self._events)
            self._as_of = when
            try:
                action()
            finally:
                self._as_of = None
