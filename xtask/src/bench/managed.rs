//! `managed`: `holdfast list` over 1,000 snapshots and recovery points in four regions.
//!
//! Against the strict AWS stand-in, which answers 100 (RDS) or 1,000 (AWS Backup) records a page at most. Beside it
//! what a script does: boto3's paginators, one region after the other. Without the dataset of the other rows:
//! `bench --only managed`.

use std::process::Command;

use anyhow::{Result, ensure};
use holdfast_testkit::{Aws, Holdfast, Scratch, tools};
use serde_json::json;

use super::Results;
use super::measure::measure;

const REGIONS: [&str; 4] = ["us-east-1", "us-west-2", "eu-west-1", "ap-northeast-1"];
/// In each region: 150 snapshots and 100 recovery points.
const SNAPSHOTS: u32 = 150;
const POINTS: u32 = 100;
pub const WHO: [&str; 2] = ["holdfast list", "boto3, region after region"];

/// What a careful script asks.
const SCRIPT: &str = "
import boto3
n = 0
for region in ['us-east-1', 'us-west-2', 'eu-west-1', 'ap-northeast-1']:
    rds, backup = boto3.client('rds', region_name=region), boto3.client('backup', region_name=region)
    for page in rds.get_paginator('describe_db_snapshots').paginate(SnapshotType='manual'):
        n += len(page['DBSnapshots'])
    for vault in backup.list_backup_vaults()['BackupVaultList']:
        pages = backup.get_paginator('list_recovery_points_by_backup_vault')
        for page in pages.paginate(BackupVaultName=vault['BackupVaultName']):
            n += len(page['RecoveryPoints'])
assert n == 1000, n
";

pub fn run(results: &mut Results, rounds: usize) -> Result<()> {
    let scratch = Scratch::new("bench-managed");
    let aws = Aws::standin(&scratch);
    let seed = json!({ "instances": [{ "DBInstanceIdentifier": "shop", "age": 864_000 }] });
    let _ = aws.control("seed", Some(seed));
    let snapshots = json!({ "source": "shop", "count": SNAPSHOTS, "regions": REGIONS });
    let points = json!({ "source": "shop", "vault": "main", "count": POINTS, "regions": REGIONS });
    let _ = aws.control("seed", Some(json!({ "snapshots": snapshots, "points": points })));
    let mut policy = "version = 1\n[databases.shop]\nsource = \"rds://us-east-1/shop\"\npolicy = \"p\"\n\
                      [policies.p]\n[policies.p.tiers.daily]\nschedule = \"0 6 * * *\"\nkeep = { last = 7 }\n"
        .to_string();
    for region in &REGIONS[1..] {
        policy += &format!("[policies.p.copies.{region}]\nto = \"{region}\"\nkeep = {{ last = 7 }}\n");
        policy += &format!("[vaults.{region}]\nurl = \"snapshots://{region}\"\n");
    }
    let path = scratch.write("holdfast.toml", &policy);
    let ours = Holdfast::new(&scratch, &path).envs(aws.env());
    for _ in 0..rounds {
        let m = measure(&mut ours.command(&["--json", "list", "shop"]))?;
        let found: serde_json::Value = serde_json::from_str(&m.stdout)?;
        let kept = found["managed"]["databases"][0]["kept"].as_array().map_or(0, Vec::len);
        // All are read; seeded snapshots of other regions say of no source that it is this one.
        let own = (SNAPSHOTS + POINTS * REGIONS.len() as u32) as usize;
        ensure!(kept >= own, "{kept} were listed, and {own} are of this database");
        results.add_run("managed", WHO[0], &m);
        let mut script = Command::new(tools::python());
        script.args(["-c", SCRIPT]).envs(aws.env());
        results.add_run("managed", WHO[1], &measure(&mut script)?);
    }
    for who in WHO {
        let wall = results.median("managed", who, "wall").unwrap_or_default();
        println!("managed: {who}: {wall:.2} s, the median of {rounds}");
    }
    Ok(())
}
