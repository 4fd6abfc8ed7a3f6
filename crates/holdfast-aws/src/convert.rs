//! Between the SDK's plain types and ours: times, numbers, tags, ARNs.

use aws_smithy_types::DateTime;
use holdfast_core::managed::{Operation, Region, RestorableWindow, Tags};
use jiff::Timestamp;

pub(crate) fn time(t: &DateTime) -> Option<Timestamp> {
    Timestamp::new(t.secs(), i32::try_from(t.subsec_nanos()).unwrap_or(0)).ok()
}

pub(crate) fn when(t: Option<&DateTime>) -> Option<Timestamp> {
    t.and_then(time)
}

/// Whole seconds: AWS knows no smaller ones in a restore.
pub(crate) fn seconds(t: Timestamp) -> DateTime {
    DateTime::from_secs(t.as_second())
}

pub(crate) fn window(earliest: Option<&DateTime>, latest: Option<&DateTime>) -> Option<RestorableWindow> {
    Some(RestorableWindow { earliest: when(earliest), latest: when(latest)? })
}

pub(crate) fn number<T, U: TryFrom<T>>(n: Option<T>) -> Option<U> {
    n.and_then(|v| U::try_from(v).ok())
}

pub(crate) fn signed<T: TryInto<i32>>(n: Option<T>) -> Option<i32> {
    n.and_then(|v| v.try_into().ok())
}

pub(crate) fn text(s: Option<&str>) -> String {
    s.unwrap_or_default().to_string()
}

pub(crate) fn rds_tags(tags: &[aws_sdk_rds::types::Tag]) -> Tags {
    tags.iter().filter_map(|t| Some((t.key()?, t.value().unwrap_or_default()))).collect()
}

pub(crate) fn to_rds_tags(tags: &Tags) -> Option<Vec<aws_sdk_rds::types::Tag>> {
    let list: Vec<_> =
        tags.iter().map(|(k, v)| aws_sdk_rds::types::Tag::builder().key(k).value(v).build()).collect();
    (!list.is_empty()).then_some(list)
}

/// The tags of something that an operation makes.
pub(crate) fn stamped(tags: &Tags, op: &Operation) -> Tags {
    tags.clone().with(holdfast_core::managed::tags::OPERATION, op.as_str())
}

/// A part of `arn:partition:service:region:account:resource`.
pub(crate) fn arn_part(arn: &str, n: usize) -> Option<&str> {
    arn.splitn(6, ':').nth(n).filter(|p| !p.is_empty())
}

pub(crate) fn arn_region(arn: &str) -> Option<Region> {
    arn_part(arn, 3)?.parse().ok()
}

/// The name in `…:db:NAME`, `…:cluster:NAME`, `…:snapshot:NAME`.
pub(crate) fn arn_name(arn: &str) -> Option<&str> {
    arn_part(arn, 5).map(|r| r.split_once(':').map_or(r, |(_, name)| name))
}

/// What AWS takes as an idempotency token or creator request id: up to 50 letters and digits (AWS Backup), 32 to 64
/// (Secrets Manager). The operation's own name may be longer and have other characters, so it is its digest.
pub(crate) fn token(op: &Operation) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, op.as_str().as_bytes());
    digest.as_ref().iter().take(24).map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_are_taken_apart() {
        let arn = "arn:aws:rds:eu-west-1:123456789012:snapshot:awsbackup:job-1";
        assert_eq!(arn_region(arn).unwrap().as_str(), "eu-west-1");
        assert_eq!(arn_name(arn), Some("awsbackup:job-1"));
        assert_eq!(arn_name("not an arn"), None);
    }

    #[test]
    fn tokens_fit_and_follow_from_the_operation() {
        let op = |s: &str| Operation::new(s).unwrap();
        assert_eq!(token(&op("a/b:c")), token(&op("a/b:c")));
        assert_ne!(token(&op("a")), token(&op("b")));
        assert_eq!(token(&op("a")).len(), 48);
    }
}
