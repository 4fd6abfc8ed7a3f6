"""Backup retention, windows, storage: the settings whose values AWS checks (provider-rules 5b)."""

import re

from ..wire.errors import combination, invalid

DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_BACKUP = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)$")
_MAINTENANCE = re.compile(r"([a-z]{3}):([01]\d|2[0-3]):([0-5]\d)-([a-z]{3}):([01]\d|2[0-3]):([0-5]\d)$")
DAY, WEEK = 1440, 7 * 1440


def retention(days, cluster):
    """0 to 35 days for instances, 1 to 35 for clusters (Multi-AZ, Aurora, DocumentDB)."""
    low = 1 if cluster else 0
    if not low <= days <= 35:
        raise invalid(f"Invalid backup retention period: {days}. Retention period must be between {low} and 35.")
    return days


def backup_window(text):
    """(start minute of the day, length in minutes)."""
    match = _BACKUP.match(text)
    if not match:
        raise invalid(f"Invalid backup window format: {text}. Should be specified as a range hh24:mi-hh24:mi (24H Clock UTC).")
    h1, m1, h2, m2 = map(int, match.groups())
    start, end = h1 * 60 + m1, h2 * 60 + m2
    length = (end - start) % DAY
    if length < 30:
        raise invalid("The backup window must be at least 30 minutes.")
    return start, length


def maintenance_window(text):
    """(start minute of the week, length in minutes)."""
    match = _MAINTENANCE.match(text.lower())
    if not match or match[1] not in DAYS or match[4] not in DAYS:
        raise invalid(f"Invalid maintenance window format: {text}. Should be specified as a range ddd:hh24:mi-ddd:hh24:mi (24H Clock UTC).")
    start = DAYS.index(match[1]) * DAY + int(match[2]) * 60 + int(match[3])
    end = DAYS.index(match[4]) * DAY + int(match[5]) * 60 + int(match[6])
    length = (end - start) % WEEK
    if not 30 <= length < DAY:
        raise invalid("The maintenance window must be at least 30 minutes and less than 24 hours.")
    return start, length


def overlap(backup, maintenance):
    b_start, b_length = backup_window(backup)
    m_start, m_length = maintenance_window(maintenance)
    for day in range(-1, 8):
        start = day * DAY + b_start
        for shift in (-WEEK, 0, WEEK):
            if start < m_start + shift + m_length and m_start + shift < start + b_length:
                return True
    return False


def windows(backup, maintenance):
    """Both windows, checked against each other; AWS picks what is not given so that they fit."""
    if backup:
        backup_window(backup)
    if maintenance:
        maintenance_window(maintenance)
        maintenance = maintenance.lower()
    if not maintenance:
        candidates = ["sun:10:00-sun:10:30", "sun:22:00-sun:22:30"]
        maintenance = next(m for m in candidates if not (backup and overlap(backup, m)))
    if not backup:
        backup = next(b for b in ("08:00-08:30", "20:00-20:30") if not overlap(b, maintenance))
    if overlap(backup, maintenance):
        raise invalid("The backup window and maintenance window must not overlap.")
    return backup, maintenance


def storage(wanted, engine, kind="gp3"):
    if wanted is None:
        raise invalid("The parameter AllocatedStorage must be provided and must not be blank.")
    if not 20 <= wanted <= 65536:
        raise combination(f"Invalid storage size for engine name {engine} and storage type {kind}: {wanted}")
    return wanted


def grow(current, wanted):
    """Storage never shrinks and grows by at least 10 %, rounded up to that (ModifyDBInstance)."""
    if wanted < current:
        raise combination(f"Invalid storage size: requested size {wanted} cannot be less than {current}")
    if wanted == current:
        return current
    return max(wanted, -(-current * 11 // 10))


def password(params):
    if params.get("ManageMasterUserPassword"):
        return
    text = params.get("MasterUserPassword")
    if text is None:
        raise invalid("The parameter MasterUserPassword must be provided and must not be blank.")
    if len(text) < 8:
        raise invalid("The parameter MasterUserPassword is not a valid password because it is shorter than 8 characters.")
    if any(c in '/"@ ' for c in text):
        raise invalid("The parameter MasterUserPassword is not a valid password. Only printable ASCII characters besides '/', '@', '\"', ' ' may be used.")


def user(params):
    if not params.get("MasterUsername"):
        raise invalid("The parameter MasterUsername must be provided and must not be blank.")
    return params["MasterUsername"]


def tags(given):
    given = given or []
    keys = [tag.get("Key", "") for tag in given]
    if len(given) > 50 or len(keys) != len(set(keys)):
        raise invalid("Tags must be unique and at most 50")
    for tag in given:
        key, value = tag.get("Key", ""), tag.get("Value", "")
        if not 1 <= len(key) <= 128 or len(value) > 256 or key.lower().startswith(("aws:", "rds:")):
            raise invalid(f"Invalid tag: {key}")
        if not re.fullmatch(r"[\w\s.:/=+\-@]*", key + value):
            raise invalid(f"Tag contains invalid characters: {key}={value}. Allowed: letters, digits, whitespace, _ . : / = + - @")
    return [{"Key": tag["Key"], "Value": tag.get("Value", "")} for tag in given]
