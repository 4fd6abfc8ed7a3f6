"""A small IAM policy evaluator: is this call allowed by these identity policies?

Only what policies for backup tools use: Allow and Deny, Action and NotAction, Resource, and the
condition operators below over `aws:RequestedRegion`, `aws:RequestTag/…`, `aws:ResourceTag/…` and
`aws:TagKeys`, `iam:PassedToService`, `kms:ViaService`, `kms:GrantIsForAWSResource` and `ec2:CreateAction`. Anything else in a policy is refused when it is set, so that a test cannot pass
because a condition was not understood.
"""

import fnmatch

PLAIN_KEYS = {
    "aws:requestedregion", "aws:tagkeys", "iam:passedtoservice", "kms:viaservice", "kms:grantisforawsresource", "ec2:createaction",
}
OPERATORS = {"StringEquals", "StringNotEquals", "StringLike", "StringNotLike", "ArnLike", "Null", "Bool"}


def check(document):
    """Raises ValueError for what is not modelled."""
    for statement in _list(document.get("Statement", [])):
        if statement.get("Effect") not in ("Allow", "Deny"):
            raise ValueError("Effect must be Allow or Deny")
        if not ("Action" in statement or "NotAction" in statement):
            raise ValueError("a statement needs Action or NotAction")
        if "Resource" not in statement:
            raise ValueError("a statement of an identity policy needs Resource")
        unknown = set(statement) - {"Sid", "Effect", "Action", "NotAction", "Resource", "Condition"}
        if unknown:
            raise ValueError(f"not modelled: {sorted(unknown)[0]}")
        for operator, keys in statement.get("Condition", {}).items():
            plain = operator.removeprefix("ForAnyValue:").removeprefix("ForAllValues:").removesuffix("IfExists")
            if plain not in OPERATORS:
                raise ValueError(f"condition operator {operator} is not modelled")
            for key in keys:
                lower = key.lower()
                if lower not in PLAIN_KEYS and not lower.startswith(
                    ("aws:requesttag/", "aws:resourcetag/", "rds:req-tag/", "rds:db-tag/", "rds:snapshot-tag/",
                     "rds:cluster-tag/", "rds:cluster-snapshot-tag/")
                ):
                    raise ValueError(f"condition key {key} is not modelled")
    return document


def allowed(policies, action, resource, keys):
    """(allowed, explicitly denied) for one action on one resource; `keys` are the condition keys."""
    verdict = False
    for document in policies:
        for statement in _list(document.get("Statement", [])):
            if not _matches(statement, action, resource, keys):
                continue
            if statement["Effect"] == "Deny":
                return False, True
            verdict = True
    return verdict, False


def _matches(statement, action, resource, keys):
    if "Action" in statement:
        if not any(_glob(action.lower(), a.lower()) for a in _list(statement["Action"])):
            return False
    elif any(_glob(action.lower(), a.lower()) for a in _list(statement["NotAction"])):
        return False
    if not any(_glob(resource, r) for r in _list(statement["Resource"])):
        return False
    return all(
        _condition(operator, key, _list(wanted), keys)
        for operator, pairs in statement.get("Condition", {}).items()
        for key, wanted in pairs.items()
    )


def _condition(operator, key, wanted, keys):
    every = operator.startswith("ForAllValues:")
    plain = operator.removeprefix("ForAnyValue:").removeprefix("ForAllValues:")
    optional = plain.endswith("IfExists")
    plain = plain.removesuffix("IfExists")
    found = keys.get(_tag_key(key))
    if plain == "Null":
        return (found is None) == (str(wanted[0]).lower() == "true")
    if found is None:
        return optional or every or plain in ("StringNotEquals", "StringNotLike")
    negative = plain.startswith("StringNot")
    equal = (lambda a, b: a == b) if plain in ("StringEquals", "StringNotEquals") else _glob
    results = [any(equal(value, w) for w in wanted) for value in _list(found)]
    hit = all(results) if every or negative is False and len(results) == 1 else any(results)
    return hit != negative


def _tag_key(key):
    """RDS's own tag keys are the global ones under older names; tag names keep their case."""
    head, slash, name = key.partition("/")
    head = head.lower()
    if head in ("rds:db-tag", "rds:snapshot-tag", "rds:cluster-tag", "rds:cluster-snapshot-tag"):
        head = "aws:resourcetag"
    elif head == "rds:req-tag":
        head = "aws:requesttag"
    return head + slash + name


def _glob(text, pattern):
    # fnmatch reads brackets, IAM does not.
    return fnmatch.fnmatchcase(text, pattern.replace("[", "[[]"))


def _list(value):
    return value if isinstance(value, list) else [value]
