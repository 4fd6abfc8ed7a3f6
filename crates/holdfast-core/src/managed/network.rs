//! Security groups: the isolated one of a verification is made, used and removed by the run.

use super::Operation;
use super::error::Result;
use super::source::Region;
use super::tags::Tags;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// Who may connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Peer {
    /// `10.1.2.3/32`.
    Cidr(String),
    /// Members of a security group.
    Group(String),
}

/// A security group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityGroup {
    pub region: Region,
    pub id: String,
    pub name: String,
    pub vpc: Option<String>,
    pub tags: Tags,
}

/// A security group to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewSecurityGroup {
    pub region: Region,
    pub vpc: String,
    pub name: String,
    pub description: String,
    pub tags: Tags,
}

/// Security groups.
#[async_trait]
pub trait Networks: Send + Sync {
    /// Makes a group that lets nothing in, and nothing out: AWS's rule "everything may go out" is revoked. Adopts
    /// its own.
    async fn create_group(&self, new: &NewSecurityGroup, op: &Operation) -> Result<SecurityGroup>;

    /// Lets `peer` in at one TCP port. Allowed already is success.
    async fn allow_in(&self, region: &Region, group: &str, peer: &Peer, port: u16) -> Result<()>;

    /// The groups that Holdfast made, for the reaper.
    async fn own_groups(&self, region: &Region) -> Result<Vec<SecurityGroup>>;

    /// The VPC of a DB subnet group.
    async fn vpc_of_subnet_group(&self, region: &Region, name: &str) -> Result<String>;

    /// Deletes a group. Gone already is success; in use is `WrongState`.
    async fn delete_group(&self, region: &Region, group: &str) -> Result<()>;
}
