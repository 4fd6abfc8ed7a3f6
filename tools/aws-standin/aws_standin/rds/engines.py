"""Engines, versions and classes that may be asked for.

A dated extract (2026-11) of DescribeDBEngineVersions and DescribeOrderableDBInstanceOptions; only
what backup tools for PostgreSQL, Aurora PostgreSQL and DocumentDB meet. An unknown version or
class is refused as AWS refuses it.
"""

import re

from ..wire.errors import combination, invalid

VERSIONS = {
    "postgres": ["13.20", "14.17", "15.3", "15.12", "15.14", "16.8", "16.10", "17.2", "17.4", "17.6", "18.1"],
    "aurora-postgresql": ["13.20", "14.17", "15.4", "15.12", "16.4", "16.8", "17.4", "17.5"],
    "docdb": ["3.6.0", "4.0.0", "5.0.0"],
}
PORTS = {"postgres": 5432, "aurora-postgresql": 5432, "docdb": 27017}
CLUSTER_ENGINES = {"aurora-postgresql", "docdb"}
FAMILY = re.compile(r"db\.(t3|t4g|m5|m6g|m6i|m7g|m8g|r5|r6g|r6i|r7g|r8g|x2g)\.(micro|small|medium|large|xlarge|(?:2|4|8|12|16|24)xlarge)$")
BURST_SIZES = {"micro", "small", "medium", "large", "xlarge", "2xlarge"}


def engine(name):
    if name not in VERSIONS:
        raise invalid(f"Invalid DB engine: {name}")
    return name


def version(name, wanted):
    """The full version; a major number alone means its newest minor."""
    known = VERSIONS[name]
    if not wanted:
        return "5.0.0" if name == "docdb" else [v for v in known if v.startswith("17.")][-1]
    if wanted in known:
        return wanted
    minors = [v for v in known if v.startswith(wanted + ".")]
    if minors and name != "docdb":
        return minors[-1]
    raise combination(f"Cannot find version {wanted} for {name}")


def upgradable(name, current, wanted):
    """Restores and modifications go to the same or a later version, never back."""
    target = version(name, wanted)
    if _key(target) < _key(current):
        raise combination(f"Cannot upgrade {name} from {current} to {target}")
    return target


def _key(text):
    return [int(n) for n in text.split(".")]


def major(text):
    return text.split(".")[0]


def family(name, full):
    """Parameter group family, as in default.postgres17, default.aurora-postgresql16, default.docdb5.0."""
    return f"{name}{'.'.join(full.split('.')[:2]) if name == 'docdb' else major(full)}"


def instance_class(name, engine_name):
    if name == "db.serverless":
        if engine_name != "aurora-postgresql":
            raise combination(_not_offered(name, engine_name))
        return name
    match = FAMILY.match(name)
    if not match:
        raise invalid(f"Invalid DB Instance class: {name}")
    kind, size = match.groups()
    burst = kind in ("t3", "t4g")
    if burst != (size in ("micro", "small", "medium")) and not (burst and size in BURST_SIZES):
        raise invalid(f"Invalid DB Instance class: {name}")
    if engine_name in CLUSTER_ENGINES and (size in ("micro", "small") or kind.startswith("m")):
        raise combination(_not_offered(name, engine_name))
    return name


def _not_offered(name, engine_name):
    return (
        "RDS does not support creating a DB instance with the following combination: "
        f"DBInstanceClass={name}, Engine={engine_name}. For supported combinations of instance class and "
        "database engine version, see the documentation."
    )
