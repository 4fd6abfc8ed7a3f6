//! [`Networks`]: security groups, through EC2's query protocol.

use super::{Answer, Ask, Service, element, form, xml_error};
use crate::actions as act;
use crate::call::On;
use crate::cloud::AwsCloud;
use crate::convert::stamped;
use async_trait::async_trait;
use holdfast_core::managed::{
    ErrorKind, Networks, NewSecurityGroup, Operation, Outcome, Peer, Region, Result, SecurityGroup, Tags,
    tags,
};
use serde::Deserialize;

const EC2: Service = Service { name: "ec2", id: "EC2", global: None };
const VERSION: &str = "2016-11-15";

#[derive(Debug, Default, Deserialize)]
struct Reply {
    #[serde(rename = "securityGroupInfo", default)]
    groups: Items,
    #[serde(rename = "nextToken", default)]
    next: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Items {
    #[serde(rename = "item", default)]
    items: Vec<Item>,
}

#[derive(Debug, Deserialize)]
struct Item {
    #[serde(rename = "groupId")]
    id: String,
    #[serde(rename = "groupName", default)]
    name: String,
    #[serde(rename = "vpcId", default)]
    vpc: Option<String>,
    #[serde(rename = "tagSet", default)]
    tags: TagSet,
}

#[derive(Debug, Default, Deserialize)]
struct TagSet {
    #[serde(rename = "item", default)]
    items: Vec<TagItem>,
}

#[derive(Debug, Deserialize)]
struct TagItem {
    key: String,
    #[serde(default)]
    value: String,
}

fn pair(k: impl Into<String>, v: impl Into<String>) -> (String, String) {
    (k.into(), v.into())
}

impl AwsCloud {
    async fn ec2(&self, on: On<'_>, mut pairs: Vec<(String, String)>) -> Result<Answer> {
        let verb = on.action.0.split_once(':').map_or(on.action.0, |(_, v)| v);
        pairs.insert(0, pair("Action", verb));
        pairs.insert(1, pair("Version", VERSION));
        let ask = Ask {
            method: "POST",
            path: "/".into(),
            headers: vec![("content-type", "application/x-www-form-urlencoded; charset=utf-8".into())],
            body: form(&pairs),
        };
        let _permit = self.permit(on).await?;
        let mut answer = self.signed.send(on, EC2, &ask, xml_error).await?;
        answer.request_id = answer.request_id.or_else(|| element(&answer.body, "requestId"));
        Ok(answer)
    }

    async fn ec2_change(
        &self,
        on: On<'_>,
        op: Option<&Operation>,
        pairs: Vec<(String, String)>,
    ) -> Result<Answer> {
        self.logged(on, op, async {
            let answer = self.ec2(on, pairs).await?;
            let id = answer.request_id.clone();
            Ok((answer, id))
        })
        .await
    }

    async fn groups(&self, region: &Region, filters: &[(&str, &str)]) -> Result<Vec<SecurityGroup>> {
        let about = filters.first().map_or("security groups", |(_, v)| *v);
        let on = On::new(act::DESCRIBE_GROUPS, region, about);
        let mut found = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let mut pairs = vec![pair("MaxResults", "100")];
            for (n, (name, value)) in filters.iter().enumerate() {
                pairs.push(pair(format!("Filter.{}.Name", n + 1), *name));
                pairs.push(pair(format!("Filter.{}.Value.1", n + 1), *value));
            }
            pairs.extend(next.take().map(|t| pair("NextToken", t)));
            let answer = self.ec2(on, pairs).await?;
            let text = String::from_utf8_lossy(&answer.body);
            let reply: Reply = quick_xml::de::from_str(&text)
                .map_err(|e| on.refuse(ErrorKind::Other, format!("the answer cannot be read: {e}")))?;
            found.extend(reply.groups.items.into_iter().map(|i| SecurityGroup {
                region: region.clone(),
                id: i.id,
                name: i.name,
                vpc: i.vpc,
                tags: i.tags.items.into_iter().map(|t| (t.key, t.value)).collect::<Tags>(),
            }));
            next = reply.next.filter(|t| !t.is_empty());
            if next.is_none() {
                return Ok(found);
            }
        }
    }

    /// AWS lets a new group speak to everyone; an isolated one speaks to nobody.
    async fn silence(&self, region: &Region, group: &str) -> Result<()> {
        let on = On::new(act::REVOKE_EGRESS, region, group);
        let pairs = vec![
            pair("GroupId", group),
            pair("IpPermissions.1.IpProtocol", "-1"),
            pair("IpPermissions.1.IpRanges.1.CidrIp", "0.0.0.0/0"),
        ];
        match self.ec2_change(on, None, pairs).await {
            // Revoked already: InvalidPermission.NotFound.
            Err(e) if e.is_not_found() => Ok(()),
            other => other.map(drop),
        }
    }

    /// The VPC of a subnet group, or nothing if we may not look or it is gone.
    pub(crate) async fn vpc_if_known(&self, region: &Region, name: &str) -> Result<Option<String>> {
        match self.vpc_of_subnet_group(region, name).await {
            Ok(vpc) => Ok(Some(vpc)),
            Err(e) if e.is_not_found() || matches!(e.kind, ErrorKind::Denied { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

#[async_trait]
impl Networks for AwsCloud {
    async fn create_group(&self, new: &NewSecurityGroup, op: &Operation) -> Result<SecurityGroup> {
        let on = On::new(act::CREATE_GROUP, &new.region, &new.name);
        let all = stamped(&new.tags, op);
        let mut pairs = vec![
            pair("GroupName", &new.name),
            pair("GroupDescription", &new.description),
            pair("VpcId", &new.vpc),
            pair("TagSpecification.1.ResourceType", "security-group"),
        ];
        for (n, (key, value)) in all.iter().enumerate() {
            pairs.push(pair(format!("TagSpecification.1.Tag.{}.Key", n + 1), key));
            pairs.push(pair(format!("TagSpecification.1.Tag.{}.Value", n + 1), value));
        }
        let group = match self.ec2_change(on, Some(op), pairs).await {
            Ok(answer) => {
                let id = element(&answer.body, "groupId").ok_or_else(|| on.incomplete("group id"))?;
                self.fresh.note(format!("group/{}/{id}", new.region));
                SecurityGroup {
                    region: new.region.clone(),
                    id,
                    name: new.name.clone(),
                    vpc: Some(new.vpc.clone()),
                    tags: all,
                }
            }
            Err(e) if e.kind == ErrorKind::AlreadyExists => {
                let filters = [("group-name", new.name.as_str()), ("vpc-id", new.vpc.as_str())];
                let found = self
                    .groups(&new.region, &filters)
                    .await
                    .and_then(|all| all.into_iter().next().ok_or_else(|| on.refuse(ErrorKind::NotFound, "")));
                self.adopt(on, op, e, found, |g| &g.tags)?
            }
            Err(e) => return Err(e),
        };
        self.patiently(&format!("group/{}/{}", new.region, group.id), || {
            self.silence(&new.region, &group.id)
        })
        .await?;
        Ok(group)
    }

    async fn allow_in(&self, region: &Region, group: &str, peer: &Peer, port: u16) -> Result<()> {
        let on = On::new(act::AUTHORIZE_INGRESS, region, group);
        let mut pairs = vec![
            pair("GroupId", group),
            pair("IpPermissions.1.IpProtocol", "tcp"),
            pair("IpPermissions.1.FromPort", port.to_string()),
            pair("IpPermissions.1.ToPort", port.to_string()),
        ];
        pairs.push(match peer {
            Peer::Cidr(cidr) if cidr.contains(':') => pair("IpPermissions.1.Ipv6Ranges.1.CidrIpv6", cidr),
            Peer::Cidr(cidr) => pair("IpPermissions.1.IpRanges.1.CidrIp", cidr),
            Peer::Group(id) => pair("IpPermissions.1.Groups.1.GroupId", id),
        });
        match self.ec2_change(on, None, pairs).await {
            Err(e) if e.kind == ErrorKind::AlreadyExists => {
                self.record(on, None, e.request_id.clone(), Outcome::Adopted)
            }
            other => other.map(drop),
        }
    }

    async fn own_groups(&self, region: &Region) -> Result<Vec<SecurityGroup>> {
        self.groups(region, &[("tag-key", tags::OPERATION)]).await
    }

    async fn vpc_of_subnet_group(&self, region: &Region, name: &str) -> Result<String> {
        let on = On::new(act::DESCRIBE_SUBNET_GROUPS, region, name);
        let call = self.rds(region).describe_db_subnet_groups().db_subnet_group_name(name);
        let reply = self.read(on, call.send()).await?;
        let vpc = reply.db_subnet_groups().first().and_then(|g| g.vpc_id());
        vpc.map(str::to_string).ok_or_else(|| on.refuse(ErrorKind::NotFound, ""))
    }

    async fn delete_group(&self, region: &Region, group: &str) -> Result<()> {
        let on = On::new(act::DELETE_GROUP, region, group);
        match self.ec2_change(on, None, vec![pair("GroupId", group)]).await {
            Err(e) if e.is_not_found() => Ok(()),
            other => other.map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read() {
        let text = "<DescribeSecurityGroupsResponse><requestId>r</requestId><securityGroupInfo><item>\
                    <ownerId>1</ownerId><groupId>sg-1</groupId><groupName>verify</groupName><ipPermissions/>\
                    <vpcId>vpc-1</vpcId><tagSet><item><key>holdfast:operation</key><value>r1</value></item>\
                    <item><key>empty</key><value/></item></tagSet></item><item><groupId>sg-2</groupId></item>\
                    </securityGroupInfo></DescribeSecurityGroupsResponse>";
        let reply: Reply = quick_xml::de::from_str(text).unwrap();
        assert_eq!(reply.groups.items.len(), 2);
        assert_eq!(reply.groups.items[0].tags.items[0].value, "r1");
        assert_eq!(reply.groups.items[0].tags.items[1].value, "");
        let none: Reply = quick_xml::de::from_str("<R><securityGroupInfo/></R>").unwrap();
        assert!(none.groups.items.is_empty() && none.next.is_none());
    }
}
