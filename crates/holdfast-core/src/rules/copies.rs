//! Copies and what they are worth: VE6, VW4, VW5, VW10.

use super::{Case, Findings, Kept, Protected};
use crate::policy::LockMode;
use crate::policy::managed::Engine;
use std::collections::BTreeSet;

fn is_provider_key(key: &str) -> bool {
    key.contains("alias/aws/")
}

fn encrypted(p: &Protected<'_>) -> bool {
    p.seen.and_then(|s| s.encrypted).unwrap_or(p.managed.encrypted)
}

pub(super) fn ve6(case: &Case<'_>, out: &mut Findings<'_>) {
    for p in case.managed() {
        let policy = p.database.policy.as_str();
        let key = p.seen.and_then(|s| s.kms_key.as_deref()).or(p.managed.kms_key.as_deref());
        let keeps = p.keeps(case);
        for k in &keeps {
            let elsewhere = k.site.region != p.managed.region;
            let other_account = p.other_account(&k.site);
            let path = ["policies", policy, k.kind, k.name, if k.kind == "tiers" { "vaults" } else { "to" }];
            if k.kind == "tiers" {
                if elsewhere || other_account {
                    out.add(
                        &path,
                        &p.database.name,
                        format!(
                            "{} goes to {}, and snapshots are made in the region and account of their source",
                            k.label(),
                            k.site.region
                        ),
                        "Leave `vaults` out or name one there, and bring points elsewhere by a copy.",
                    );
                }
                continue;
            }
            let Some(vault) = k.site.vault else { continue };
            let aws_backup = k.site.is_aws_backup();
            if encrypted(&p) && elsewhere && !aws_backup && vault.kms_key.is_none() {
                out.add(
                    &path,
                    &p.database.name,
                    format!(
                        "{} takes an encrypted source to {} without a key of that region",
                        k.label(),
                        k.site.region
                    ),
                    format!("Keys do not leave their region: write `kms-key` in `[vaults.{}]`.", vault.name),
                );
            }
            if encrypted(&p) && other_account && !elsewhere && !aws_backup && vault.kms_key.is_none() {
                out.add(
                    &path,
                    &p.database.name,
                    format!(
                        "{} takes an encrypted source into another account without a key of it",
                        k.label()
                    ),
                    format!(
                        "The other account copies with a key of its own: write `kms-key` in `[vaults.{}]`.",
                        vault.name
                    ),
                );
            }
            if other_account && key.is_some_and(is_provider_key) {
                out.add(
                    &path,
                    &p.database.name,
                    format!("{} goes to another account, and the source is encrypted with the provider's own key, which cannot be shared", k.label()),
                    "Restore a snapshot under a key of your own first, and protect that database.",
                );
            }
            let between = |o: &Kept<'_>| {
                let there = o.kind == "copies" && !o.site.is_aws_backup();
                there && o.site.account == k.site.account && o.site.region == p.managed.region
            };
            let cluster = p.managed.engine.is_cluster();
            // "RDS, Aurora, DocumentDB … do not support a single copy action that performs both cross-Region AND
            // cross-account backup" (AWS Backup developer guide, feature availability by resource).
            if elsewhere && other_account && aws_backup {
                out.add(
                    &path,
                    &p.database.name,
                    format!(
                        "{} changes region and account in one step, which AWS Backup does not",
                        k.label()
                    ),
                    format!(
                        "Copy to a vault of that account in {}, or to one of the own account in {}.",
                        p.managed.region, k.site.region
                    ),
                );
            }
            if elsewhere && other_account && !aws_backup && cluster && !keeps.iter().any(between) {
                out.add(
                    &path,
                    &p.database.name,
                    format!("{} changes region and account in one step, which a copy does not", k.label()),
                    format!(
                        "Copy to a vault `snapshots://{}` of that account too: from there it goes on to {}.",
                        p.managed.region, k.site.region
                    ),
                );
            }
        }
        if let Some(r) = p.plan.pitr.as_ref().and_then(|t| t.replicate.as_ref())
            && encrypted(&p)
            && case.vault(&r.to).is_some_and(|v| v.kms_key.is_none())
        {
            out.add(
                &["policies", policy, "pitr", "replicate"],
                &p.database.name,
                "automated backups of an encrypted source are replicated without a key of the other region",
                format!("Write `kms-key` in `[vaults.{}]`.", r.to),
            );
        }
    }
    for v in case.policy.managed_vaults.values() {
        let Some(key) = &v.kms_key else { continue };
        let region = key.strip_prefix("arn:").and_then(|r| r.split(':').nth(2));
        if region.is_some_and(|r| r != v.place.region()) {
            out.add(
                &["vaults", &v.name, "kms-key"],
                format!("vault {}", v.name),
                format!("the key is in {}, the vault in {}", region.unwrap_or(""), v.place.region()),
                "Name a key of the vault's region; a replica of a multi-region key has an ARN of its own there.",
            );
        }
    }
}

pub(super) fn vw4(case: &Case<'_>, out: &mut Findings<'_>) {
    for p in case.managed() {
        let keeps = p.keeps(case);
        let regions: BTreeSet<&str> = keeps.iter().map(|k| k.site.region).collect();
        let replicated =
            p.plan.pitr.as_ref().is_some_and(|t| t.replicate.is_some()) && p.managed.engine == Engine::Rds;
        let mut same = Vec::new();
        if regions.iter().all(|r| *r == p.managed.region) && !replicated {
            same.push("region");
        }
        if !keeps.iter().any(|k| p.other_account(&k.site)) {
            same.push("account");
        }
        let own_key = |v: &crate::policy::ManagedVault| v.kms_key.is_some() || v.place.is_aws_backup();
        if !keeps.iter().any(|k| k.site.vault.is_some_and(own_key)) {
            same.push("key");
        }
        if let [init @ .., last] = same.as_slice() {
            let list =
                if init.is_empty() { last.to_string() } else { format!("{} and {last}", init.join(", ")) };
            out.add(
                &["policies", &p.database.policy, "copies"],
                &p.database.name,
                format!("all of its backups depend on the {list} of the database"),
                "Who takes over the account, or loses the key or the region, loses all of it: copy to a vault elsewhere.",
            );
        }
    }
    for d in case.policy.databases.values().filter(|d| d.managed.is_none()) {
        if let [only] = d.vaults() {
            out.add(
                &["databases", d.name.as_str()],
                &d.name,
                format!("all of its backups are in one place, vault `{only}`"),
                "Add a vault somewhere else, and `[policies.….copies.…]` to bring points there.",
            );
        }
    }
}

pub(super) fn vw5(case: &Case<'_>, out: &mut Findings<'_>) {
    let managed = case.policy.managed_vaults.values().filter_map(|v| Some((&v.name, v.lock?.mode)));
    let native = case.policy.vaults.values().filter_map(|v| Some((&v.name, v.lock?.mode)));
    for (name, _) in managed.chain(native).filter(|(_, mode)| *mode == LockMode::Governance) {
        out.add(
            &["vaults", name, "lock"],
            format!("vault {name}"),
            "the lock is governance: whoever has the right removes it, and then the backups",
            "A compliance lock (for AWS Backup: `mode = \"compliance\"` and `grace`) cannot be removed by anybody, root \
             included. Until then do not call it irreversible.",
        );
    }
}

pub(super) fn vw10(case: &Case<'_>, out: &mut Findings<'_>) {
    for p in case.managed() {
        let (engine, name) = (p.managed.engine, p.database.name.as_str());
        let policy = p.database.policy.as_str();
        if engine != Engine::Rds && p.plan.pitr.as_ref().is_some_and(|t| t.replicate.is_some()) {
            out.add(
                &["policies", policy, "pitr", "replicate"],
                name,
                format!(
                    "`replicate` is for RDS instances; for {engine} the provider has nothing of the kind"
                ),
                "Take it out, and copy a tier into the other region.",
            );
        }
        if let Some(class) = p.plan.verify.as_ref().and_then(|v| v.class.as_deref())
            && engine.is_cluster()
            && (class.ends_with(".micro") || class.ends_with(".small"))
        {
            out.add(
                &["policies", policy, "verify", "class"],
                name,
                format!("{engine} does not run on `{class}`"),
                "The smallest is `db.t4g.medium`; for Aurora also `db.serverless`.",
            );
        }
        for (place, at) in &p.managed.places {
            if at.capacity.is_some() && at.class.as_deref().is_some_and(|c| c != "db.serverless") {
                out.add(
                    &["databases", name, "places", place, "capacity"],
                    name,
                    "`capacity` is ignored by instances of a fixed class",
                    "Write `class = \"db.serverless\"`, or take `capacity` out.",
                );
            }
        }
        let copies = p.plan.copies.iter().map(|(n, c)| (["policies", policy, "copies", n], &c.to));
        let replicated = p.plan.pitr.as_ref().and_then(|t| t.replicate.as_ref());
        let replicated = replicated.map(|r| (["policies", policy, "pitr", "replicate"], &r.to));
        for (path, to) in copies.chain(replicated) {
            let region = p.site(case, Some(to)).region;
            if region == p.managed.region {
                continue;
            }
            let place = p.managed.place_in(region);
            if place.is_none_or(|at| at.subnet_group.is_none() || at.security_groups.is_empty()) {
                out.add(
                    &path,
                    name,
                    format!("a restore in {region} would get the provider's default network and security group"),
                    format!(
                        "Nothing can be carried over from another region: add `[databases.{name}.places.…]` with `region`, \
                         `subnet-group` and `security-groups`."
                    ),
                );
            }
        }
        let isolated = |r: &str| p.managed.place_in(r).is_some_and(|at| at.isolated.is_some());
        if p.plan.verify.is_some() && !isolated(&p.managed.region) {
            out.add(
                &["policies", policy, "verify"],
                name,
                "verification has no isolated place: its copy would be beside production",
                format!(
                    "Add `isolated = {{ subnet-group = \"…\" }}` to a `[databases.{name}.places.…]` of {}.",
                    p.managed.region
                ),
            );
        }
    }
}
