//! What the bucket of a vault does by itself: `vault.<name>.versions`, `.lifecycle`.

use super::{Line, count};
use holdfast_vault::store::versions::Hidden;
use holdfast_vault::store::xml::{LifecycleRule, Versioning};
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
    fn what_is_hidden_fails() {
        let judge = |blind, state, hidden: &[Hidden]| versions("vault.a", blind, state, hidden).status;
        let h = Hidden { name: "x".into(), original: "1".into(), over: Vec::new() };
        assert_eq!(judge(false, Some(Versioning::Enabled), &[]), Status::Ok);
        assert_eq!(judge(false, Some(Versioning::Suspended), &[]), Status::Warn);
        assert_eq!(judge(true, None, &[]), Status::Warn);
        assert_eq!(judge(false, None, &[h]), Status::Fail);
    }
}
