"""What calls to moto's services are about: their action and resources, for permissions and faults.

Only as far as backup tools go: security groups, keys, secrets, DNS records. Other calls are about
`*`, and those of S3 are named by their HTTP method.
"""

import json

from . import keys, moto_bridge
from .wire import models, restjson


def action(service, request, form):
    """The operation's name as policies spell it."""
    if form.get("Action"):
        return form["Action"]
    target = request.headers.get("X-Amz-Target", "")
    if target:
        return target.rpartition(".")[2]
    if service == "route53":
        found = restjson.find(models.service_model("route53"), request.method, request.path, request.query)
        if found:
            return found[0].name
    return request.method


def subjects(service, name, request, form, region, account):
    if service == "ec2":
        group = f"arn:aws:ec2:{region}:{account}:security-group/"
        if name == "CreateSecurityGroup":
            vpc = [f"arn:aws:ec2:{region}:{account}:vpc/{form['VpcId']}"] if form.get("VpcId") else []
            return [group + "*", *vpc]
        return [group + form["GroupId"]] if form.get("GroupId") else ["*"]
    if service == "route53":
        parts = request.path.strip("/").split("/")[1:]
        return [f"arn:aws:route53:::{parts[0]}/{parts[1]}"] if len(parts) > 1 else ["*"]
    if service == "sts" and form.get("RoleArn"):
        return [form["RoleArn"]]
    if service in ("kms", "secretsmanager"):
        document = _json(request.body)
        if document.get("KeyId"):
            return [_key(document["KeyId"], region, account)]
        if document.get("SecretId"):
            return [_secret(document["SecretId"], region, account)]
        if name == "CreateSecret":
            return [f"arn:aws:secretsmanager:{region}:{account}:secret:{document.get('Name')}-*"]
    return ["*"]


def request_tags(service, form):
    """Tags that an EC2 call wants to put on what it makes."""
    tags, number = {}, 1
    while service == "ec2" and f"TagSpecification.1.Tag.{number}.Key" in form:
        tags[form[f"TagSpecification.1.Tag.{number}.Key"]] = form.get(f"TagSpecification.1.Tag.{number}.Value", "")
        number += 1
    return tags


def tags_of(arn):
    """Tags of a security group (for aws:ResourceTag)."""
    parts = arn.split(":")
    if parts[2:3] != ["ec2"] or not parts[5].startswith("security-group/") or parts[5].endswith("/*"):
        return {}
    name = parts[5].partition("/")[2]
    backend = moto_bridge.backend("ec2", parts[4], parts[3])
    return {tag["key"]: tag["value"] for tag in backend.describe_tags(filters={"resource-id": [name]})}


def _json(body):
    try:
        document = json.loads(body or b"{}")
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _key(name, region, account):
    if name.startswith("arn:") and ":key/" in name:
        return name
    key = keys.find(account, region, name)
    return key.arn if key else f"arn:aws:kms:{region}:{account}:key/{name}"


def _secret(name, region, account):
    if name.startswith("arn:"):
        return name
    found = moto_bridge.backend("secretsmanager", account, region).secrets.get(name)
    return found.arn if found else f"arn:aws:secretsmanager:{region}:{account}:secret:{name}"
