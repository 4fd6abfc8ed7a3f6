"""Schedules of backup plans: AWS's six-field `cron(minute hour day month weekday year)` in a time zone.

`*`, lists, ranges, steps, names, `?`, `L` and `n#k` are read; exactly one of day and weekday must be
`?`. Times that a change to summer time skips run at the same offset after it.
"""

import calendar
import re
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from .errors import bad

MONTHS = {name: n for n, name in enumerate("JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split(), 1)}
DAYS = {name: n for n, name in enumerate("SUN MON TUE WED THU FRI SAT".split(), 1)}


class Schedule:
    def __init__(self, text, zone=None):
        match = re.fullmatch(r"cron\((.*)\)", text.strip())
        fields = match[1].split() if match else []
        if len(fields) != 6:
            raise bad(f"Invalid cron expression: {text}")
        try:
            self.zone = ZoneInfo(zone or "Etc/UTC")
        except (ZoneInfoNotFoundError, ValueError):
            raise bad(f"Invalid time zone: {zone}") from None
        minute, hour, self.day, month, self.weekday, year = fields
        if (self.day == "?") == (self.weekday == "?"):
            raise bad(f"Invalid cron expression: {text}; exactly one of day-of-month and day-of-week must be '?'.")
        try:
            self.minutes = _numbers(minute, 0, 59)
            self.hours = _numbers(hour, 0, 23)
            self.months = _numbers(month, 1, 12, MONTHS)
            self.years = _numbers(year, 1970, 2199)
            if self.day not in ("?", "L"):
                self.days = _numbers(self.day, 1, 31)
            if self.weekday != "?" and "#" not in self.weekday and not self.weekday.endswith("L"):
                self.weekdays = _numbers(self.weekday, 1, 7, DAYS)
            if "#" in self.weekday:
                day, _, nth = self.weekday.partition("#")
                self.nth = (_number(day, DAYS), int(nth))
            elif self.weekday.endswith("L") and self.weekday != "L":
                self.last = _number(self.weekday[:-1], DAYS)
        except (ValueError, KeyError):
            raise bad(f"Invalid cron expression: {text}") from None

    def after(self, moment):
        """The next time strictly after `moment`, or None within four years."""
        local = datetime.fromtimestamp(moment, timezone.utc).astimezone(self.zone)
        day = local.date()
        for _ in range(4 * 366):
            if day.year in self.years and day.month in self.months and self._on(day):
                for hour in self.hours:
                    for minute in self.minutes:
                        due = datetime(day.year, day.month, day.day, hour, minute, tzinfo=self.zone).timestamp()
                        if due > moment:
                            return due
            day += timedelta(days=1)
        return None

    def _on(self, day):
        if self.weekday == "?":
            if self.day == "L":
                return day.day == calendar.monthrange(day.year, day.month)[1]
            return day.day in self.days
        number = (day.weekday() + 1) % 7 + 1  # Sunday is 1
        if "#" in self.weekday:
            return number == self.nth[0] and (day.day - 1) // 7 + 1 == self.nth[1]
        if self.weekday.endswith("L"):
            if self.weekday == "L":
                return number == 7
            return number == self.last and day.day + 7 > calendar.monthrange(day.year, day.month)[1]
        return number in self.weekdays


def _number(text, names):
    return names[text.upper()] if text.upper() in names else int(text)


def _numbers(field, low, high, names=None):
    names = names or {}
    found = set()
    for part in field.split(","):
        part, _, step = part.partition("/")
        if part == "*":
            first, last = low, high
        elif "-" in part:
            first, last = (_number(x, names) for x in part.split("-"))
        else:
            first = _number(part, names)
            last = high if step else first
        if not (low <= first <= last <= high) or (step and int(step) < 1):
            raise ValueError(field)
        found.update(range(first, last + 1, int(step or 1)))
    return sorted(found)
