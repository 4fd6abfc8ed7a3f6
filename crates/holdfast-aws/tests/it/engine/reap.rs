//! The reaper: what is past its end goes, everything else stays.

use super::Site;
use holdfast_core::managed::{NewSecurityGroup, NewSnapshot, Operation, SnapshotRef, Tags, tags};
use holdfast_engine::managed::reap::{self, Thing};
use holdfast_engine::managed::restore::{self, Request, What};
use jiff::{SignedDuration, Timestamp};

fn ends(hours: i64) -> Tags {
    let end = Timestamp::now() + SignedDuration::from_hours(hours);
    Tags::default().with(tags::EXPIRES, &end.to_string())
}

#[tokio::test]
async fn only_what_is_over_and_ours_goes() {
    let s = Site::new("engine-reap", "aurora://us-east-1/orders").await;
    // Two restores: one is past its end of life, one is not.
    for (id, hours) in [("past", -1), ("future", 1)] {
        let what = What::Moment { at: restore::At::Latest, backup: None };
        let mut r = Request { to: id.into(), what, tags: ends(hours), ..Request::default() };
        r.set.instances = Some(1);
        r.set.deletion_protection = Some(false);
        let plan = restore::plan(&s.m, &r).await.unwrap();
        restore::run(&s.m, &plan).await.unwrap();
    }
    // A stranger's end of life means nothing to us.
    let orders = s.m.cloud.describe(&s.m.source).await.unwrap();
    s.m.cloud.add_tags(&s.m.source.region, &orders.arn, &ends(-5)).await.unwrap();
    let op = Operation::new("made-by-hand").unwrap();
    let new = NewSnapshot { id: "old".into(), tags: ends(-1) };
    s.m.cloud.create_snapshot(&s.m.source, &new, &op).await.unwrap();
    let at = SnapshotRef { engine: s.m.source.engine, region: s.m.source.region.clone(), id: "old".into() };
    while !s.m.cloud.snapshot(&at).await.unwrap().status.is_available() {}
    let west = "us-west-2".parse().unwrap();
    let vpc = s.m.cloud.vpc_of_subnet_group(&s.m.source.region, "default").await.unwrap();
    let group = NewSecurityGroup {
        region: s.m.source.region.clone(),
        vpc,
        name: "left-over".into(),
        description: "x".into(),
        tags: ends(-1),
    };
    let group = s.m.cloud.create_group(&group, &op).await.unwrap();

    let regions = [s.m.source.region.clone(), west];
    let reaper = s.reaper();
    let plan = reap::plan(&reaper, &regions, Timestamp::now()).await.unwrap();
    let mut names: Vec<String> = plan.remove.iter().map(|l| l.thing.to_string()).collect();
    names.sort();
    // A snapshot is a backup, and no rubbish.
    assert_eq!(names.len(), 2, "{plan}");
    assert!(names[0].contains("database aurora://us-east-1/past"), "{names:?}");
    assert!(names[1].contains(&group.id), "{names:?}");
    assert!(
        plan.stays.iter().any(|l| matches!(&l.thing, Thing::Database { source } if source.id == "future"))
    );
    let report = reap::run(&reaper, &plan).await.unwrap();
    assert_eq!((report.removed.len(), report.failed.len()), (2, 0), "{report:?}");
    assert_eq!(s.made(), ["future", "future-1"]);
    // Done twice it is done.
    let again = reap::run(&reaper, &plan).await.unwrap();
    assert_eq!((again.removed.len(), again.failed.len()), (2, 0), "{again:?}");
    let plan = reap::plan(&reaper, &regions, Timestamp::now()).await.unwrap();
    assert!(plan.remove.is_empty(), "{plan}");
}
