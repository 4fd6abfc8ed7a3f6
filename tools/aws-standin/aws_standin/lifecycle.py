"""Operations that take a while: creating, copying, restoring, deleting.

An operation walks through its stages (statuses) as it is *observed*: each describe or list that
shows the resource is one poll, and after `polls` of them it is done. Virtual time finishes it too,
after `duration` seconds, whichever comes first; `polls: null` in the configuration leaves only
time. The response of the call that starts it always shows the first stage.

A scripted fault may make it fail on the way (`faults.py`); then `on_fail` runs instead of `on_done`.
"""

# Virtual seconds; orders of magnitude from the strategy documents ("snapshot restore 5-15 min").
DURATIONS = {
    "create": 600, "modify": 60, "delete": 180, "snapshot": 120, "copy": 600, "restore": 900,
    "replicate": 600, "reboot": 60, "proxy": 60, "backup-job": 300, "copy-job": 600, "restore-job": 900,
}
POLLS = 2


class Operation:
    def __init__(self, world, kind, subject, stages, on_done, on_fail=None):
        self.world, self.kind = world, kind
        self.stages, self.on_done, self.on_fail = stages, on_done, on_fail
        self.started = world.clock.now()
        self.duration = world.config.duration(kind)
        self.polls_needed = world.config.polls_for(kind)
        self.polls = 0
        self.finished = False
        self.failure = world.faults.failure_for(kind, subject)
        world.clock.at(self.started + self.duration, self.finish)

    @property
    def progress(self):
        """0 to 1."""
        if self.finished:
            return 1.0
        share = (self.world.clock.now() - self.started) / self.duration if self.duration else 1.0
        if self.polls_needed is not None:
            share = max(share, self.polls / self.polls_needed if self.polls_needed else 1.0)
        return max(0.0, min(share, 0.99))

    @property
    def percent(self):
        return int(self.progress * 100)

    @property
    def stage(self):
        return self.stages[min(int(self.progress * len(self.stages)), len(self.stages) - 1)]

    def observe(self):
        """One describe saw it: the describe that completes the count sees the end."""
        if self.finished or self.polls_needed is None:
            return
        self.polls += 1
        if self.failure and self.polls / max(self.polls_needed, 1) * 100 >= self.failure.get("at", 50):
            self._end(failed=True)
        elif self.polls > self.polls_needed:
            self._end(failed=False)

    def finish(self):
        """Its time is up."""
        if not self.finished:
            self._end(failed=bool(self.failure))

    def cancel(self):
        self.finished = True

    def _end(self, failed):
        self.finished = True
        if failed and self.on_fail:
            self.on_fail(self.failure)
        else:
            self.on_done()
