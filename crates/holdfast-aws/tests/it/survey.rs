//! Several regions at once.

use crate::common::{World, region};
use holdfast_core::managed::{ErrorKind, SnapshotKind, SurveyScope, Surveys};
use serde_json::json;
use std::io::Write;
use std::time::Instant;

#[tokio::test]
async fn a_thousand_backups_in_four_regions() {
    let w = World::new("survey").await;
    let names = ["us-east-1", "us-west-2", "eu-west-1", "ap-northeast-1"];
    w.aws.control(
        "seed",
        Some(json!({
            "snapshots": [
                {"source": "shop", "count": 100, "regions": names},
                {"source": "orders", "count": 50, "regions": names, "prefix": "c"},
            ],
            "points": {"source": "shop", "vault": "main", "count": 100, "regions": names},
        })),
    );
    let regions: Vec<_> = names.iter().map(|n| region(n)).collect();
    let begun = Instant::now();
    let found = w.cloud.survey(&regions, &SurveyScope::backups()).await;
    let took = begun.elapsed();
    assert_eq!(found.iter().map(|s| s.region.as_str()).collect::<Vec<_>>(), names);
    for s in &found {
        assert!(s.failures.is_empty(), "{:?}", s.failures);
        let manual = s.snapshots.iter().filter(|x| x.kind == SnapshotKind::Manual).count();
        assert_eq!((manual, s.points.len()), (150, 100), "{}", s.region);
    }
    // The budget of issue 4 is 3 s on an idle machine; here others may be building.
    assert!(took.as_secs_f64() < 60.0, "{took:?}");
    writeln!(std::io::stderr(), "survey of 1,000 backups in 4 regions: {took:?}").unwrap();
}

#[tokio::test]
async fn one_region_down_is_one_regions_failure() {
    let w = World::new("partial").await;
    w.fault(json!({"kind": "deny", "region": "eu-west-1", "action": "rds:*"}));
    w.fault(json!({"kind": "deny", "region": "us-east-1", "action": "backup:*"}));
    let regions = [region("us-east-1"), region("eu-west-1")];
    let found = w.cloud.survey(&regions, &SurveyScope::backups()).await;
    assert_eq!(found[0].databases.len(), 3);
    assert!(!found[0].snapshots.is_empty());
    // Seen of Backup: nothing, and it is said.
    assert_eq!(found[0].failures.len(), 1);
    assert_eq!(found[0].failures[0].action, "backup:ListBackupVaults");
    assert!(found[1].databases.is_empty() && found[1].failures.len() >= 4, "{:?}", found[1].failures);
    assert!(found[1].failures.iter().all(|e| matches!(e.kind, ErrorKind::Denied { .. })));
}
