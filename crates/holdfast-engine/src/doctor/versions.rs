//! What the bucket of a vault does by itself: `vault.<name>.versions`, `.lifecycle`, `.lock`.

use super::{Line, count};
use holdfast_vault::store::lock::LockRule;
use holdfast_vault::store::versions::Hidden;
use holdfast_vault::store::xml::{LifecycleRule, LockConfiguration, Versioning};
use holdfast_vault::{Store, StoreError, StoreErrorKind};

/// Asks the bucket; nothing where the vault is not in S3. `prefix` is that of the vault in the bucket.
pub(super) async fn check(store: &Store, name: &str, lines: &mut Vec<Line>) {
    let Some(s3) = store.s3() else { return };
    let kept = store.keeps_versions().await.unwrap_or(false);
    if kept || store.blind() {
        let state = s3.versioning().await.ok();
        lines.push(versions(name, store.blind(), state, &store.hidden("")));
    }
    match s3.lifecycle().await {
        Ok(rules) => lines.push(lifecycle(name, &store.key_prefix(), &rules)),
        Err(e) if kept => lines.push(unasked(name, &e)),
        Err(_) => {}
    }
    if let Some(rule) = store.lock_rule() {
        lines.push(match s3.lock_configuration().await {
            Ok(c) => lock(name, &rule, c),
            Err(e) => Line::warn(
                &format!("{name}.lock"),
                format!("whether the bucket locks cannot be asked: {e}"),
                "allow s3:GetBucketObjectLockConfiguration on the bucket",
            ),
        });
    }
}

fn lock(name: &str, rule: &LockRule, bucket: Option<LockConfiguration>) -> Line {
    let name = format!("{name}.lock");
    let Some(c) = bucket.filter(|c| c.enabled) else {
        return Line::warn(
            &name,
            "the policy asks for locks, and the bucket knows no Object Lock: nothing is locked",
            "turn Object Lock on for the bucket, or take `lock` out of the vault in the policy",
        );
    };
    let days = rule.period.as_hours() / 24;
    match c.default {
        // Everything waits for the longest lock of what it shares a pack with.
        Some((_, d)) if i64::from(d) > 4 * days || days > 4 * i64::from(d) => Line::warn(
            &name,
            format!(
                "the bucket locks everything for {d} days, the policy for {days}: more than 4 times apart"
            ),
            "use a vault of its own for each, or take the default retention off the bucket",
        ),
        _ => Line::ok(&name, format!("points are locked for {days} days ({:?})", rule.mode).to_lowercase()),
    }
}

fn versions(name: &str, blind: bool, state: Option<Versioning>, hidden: &[Hidden]) -> Line {
    let name = format!("{name}.versions");
    if blind {
        return Line::warn(
            &name,
            "the bucket keeps versions, and this role may not list them: somebody could hide objects from it",
            "allow s3:ListBucketVersions and s3:GetObjectVersion on the bucket",
        );
    }
    if let Some(h) = hidden.first() {
        return Line::fail(
            &name,
            format!(
                "something lies over {}, the first is {}; the originals are what is read",
                count(hidden.len() as u64, "object"),
                h.name
            ),
            "find out who can write there; `holdfast check --undelete` takes it away",
        );
    }
    match state {
        Some(Versioning::Suspended) => Line::warn(
            &name,
            "versioning is suspended: what is overwritten now is lost",
            "turn the bucket's versioning on again",
        ),
        _ => Line::ok(&name, "the bucket keeps versions, and nothing lies over what was listed"),
    }
}

fn lifecycle(name: &str, prefix: &str, rules: &[LifecycleRule]) -> Line {
    let name = format!("{name}.lifecycle");
    let reaches = |r: &&LifecycleRule| {
        r.enabled
            && !r.tagged
            && !r.harm.is_empty()
            && (r.prefix.starts_with(prefix) || prefix.starts_with(&r.prefix))
    };
    match rules.iter().find(reaches) {
        Some(r) => Line::fail(
            &name,
            format!("the bucket's lifecycle rule `{}` {} of this vault", r.id, r.harm.join(", ")),
            "take the vault's prefix out of the rule; rules that abort unfinished multipart uploads may stay",
        ),
        None => Line::ok(&name, "no lifecycle rule of the bucket touches the vault"),
    }
}

fn unasked(name: &str, e: &StoreError) -> Line {
    let name = format!("{name}.lifecycle");
    match e.kind {
        StoreErrorKind::Denied => Line::warn(
            &name,
            "this role may not read the bucket's lifecycle rules, one of which could remove originals",
            "allow s3:GetLifecycleConfiguration on the bucket, or look yourself",
        ),
        _ => Line::ok(&name, "the bucket knows no lifecycle rules"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn rules_that_reach_the_vault_fail() {
        let rule = |prefix: &str, enabled, tagged, harm: &[&'static str]| LifecycleRule {
            id: "r".into(),
            prefix: prefix.into(),
            enabled,
            tagged,
            harm: harm.to_vec(),
        };
        let judge = |r| lifecycle("vault.a", "pg/", &[r]).status;
        for prefix in ["", "pg", "pg/", "pg/db/x"] {
            assert_eq!(judge(rule(prefix, true, false, &["expires objects"])), Status::Fail, "{prefix}");
        }
        for r in [
            rule("other/", true, false, &["expires objects"]),
            rule("", false, false, &["expires objects"]),
            rule("", true, true, &["expires objects"]),
            rule("", true, false, &[]),
        ] {
            assert_eq!(judge(r.clone()), Status::Ok, "{r:?}");
        }
    }

    #[test]
    fn locks_are_judged_by_the_bucket() {
        use holdfast_vault::store::xml::LockMode;
        let rule = LockRule { mode: LockMode::Governance, period: jiff::SignedDuration::from_hours(240) };
        let judge = |c| lock("vault.a", &rule, c).status;
        let bucket = |days| LockConfiguration { enabled: true, default: Some((LockMode::Governance, days)) };
        assert_eq!(judge(None), Status::Warn);
        assert_eq!(judge(Some(LockConfiguration { enabled: true, default: None })), Status::Ok);
        assert_eq!((judge(Some(bucket(40))), judge(Some(bucket(41)))), (Status::Ok, Status::Warn));
        assert_eq!((judge(Some(bucket(3))), judge(Some(bucket(2)))), (Status::Ok, Status::Warn));
    }

    #[test]
    fn what_is_hidden_fails() {
        let judge = |blind, state, hidden: &[Hidden]| versions("vault.a", blind, state, hidden).status;
        let h = Hidden { name: "x".into(), original: "1".into(), over: Vec::new() };
        assert_eq!(judge(false, Some(Versioning::Enabled), &[]), Status::Ok);
        assert_eq!(judge(false, Some(Versioning::Suspended), &[]), Status::Warn);
        assert_eq!(judge(true, None, &[]), Status::Warn);
        assert_eq!(judge(false, None, &[h]), Status::Fail);
    }
}
