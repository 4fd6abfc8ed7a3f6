#!/usr/bin/env python3
"""moto_server that also accepts the engine `docdb` (moto 5.2 refuses it).

    moto_docdb.py -H 127.0.0.1 -p 5555

For the scenarios that run against plain moto too, so that the project does not only agree with its
own stand-in. moto knows Aurora and Neptune clusters; DocumentDB needs its name in the two lists of
engines, a default port and a default version. Enumerations have no public way to grow, so members
are added by hand; newer versions of moto that know the engine need none of it.
"""

import sys

from moto.rds import models, utils

VERSION, PORT = "5.0.0", 27017


def add(enumeration, name, value):
    if value in enumeration._value2member_map_:
        return
    member = str.__new__(enumeration, value)
    member._name_, member._value_ = name, value
    enumeration._member_map_[name] = member
    enumeration._member_names_.append(name)
    enumeration._value2member_map_[value] = member


def default(owner, method, value):
    old = getattr(owner, method)
    setattr(owner, method, staticmethod(lambda engine, *a, **k: value if engine == "docdb" else old(engine, *a, **k)))


def patch():
    add(utils.ClusterEngine, "DOCDB", "docdb")
    add(utils.DbInstanceEngine, "DOCDB", "docdb")
    for owner in [c for c in vars(models).values() if isinstance(c, type)]:
        for method, value in (("default_engine_version", VERSION), ("default_port", PORT), ("default_allocated_storage", 1)):
            if method in vars(owner):
                default(owner, method, value)
        if "default_engine_versions" in vars(owner):
            owner.default_engine_versions["docdb"] = VERSION


if __name__ == "__main__":
    patch()
    from moto.server import main

    main(sys.argv[1:])
