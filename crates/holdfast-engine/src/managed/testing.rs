//! Databases for unit tests, as a describe shows them.

use super::observed::Observed;
use holdfast_core::managed::{
    AutomatedBackup, AutomatedKind, BackupSettings, Database, Engine, Instance, Member, RestorableWindow,
    Scaling, Snapshot, SnapshotKind, SnapshotRef, Source, Status, Storage, Tags,
};

pub fn observed_instance(source: &str) -> Observed {
    Observed::new(database(source.parse().unwrap()), Vec::new())
}

/// With a provisioned writer and a serverless reader; the reader comes first by name.
pub fn observed_cluster(source: &str) -> Observed {
    let mut d = database(source.parse().unwrap());
    d.scaling = Some(Scaling { min: 0.5, max: 4.0, pause_after: None });
    let instance = |id: &str, class: &str, tier| Instance {
        id: id.into(),
        cluster: Some(d.source.id.clone()),
        arn: format!("arn:aws:rds:us-east-1:123456789012:db:{id}"),
        resource_id: format!("db-{id}"),
        status: Status::new("available"),
        class: class.into(),
        parameter_group: Some("default.aurora-postgresql17".into()),
        endpoint: None,
        availability_zone: None,
        public: false,
        promotion_tier: Some(tier),
        tags: Tags::default(),
    };
    let instances = vec![instance("a-reader", "db.serverless", 5), instance("writer", "db.r6g.large", 0)];
    d.members = instances
        .iter()
        .map(|i| Member { id: i.id.clone(), writer: i.id == "writer", promotion_tier: i.promotion_tier })
        .collect();
    Observed::new(d, instances)
}

fn database(source: Source) -> Database {
    let cluster = source.engine.is_cluster();
    let kind = if cluster { "cluster" } else { "db" };
    Database {
        resource_id: format!("{kind}-{}", source.id.to_uppercase()),
        arn: format!("arn:aws:rds:{}:123456789012:{kind}:{}", source.region, source.id),
        engine_name: match source.engine {
            Engine::Rds => "postgres",
            Engine::Aurora => "aurora-postgresql",
            Engine::DocumentDb => "docdb",
        }
        .into(),
        engine_version: "17.4".into(),
        engine_mode: None,
        status: Status::new("available"),
        created: None,
        endpoint: None,
        reader: None,
        class: (!cluster).then(|| "db.r6g.large".into()),
        storage: Storage { allocated_gib: Some(100), kind: Some("gp3".into()), ..Storage::default() },
        multi_az: !cluster,
        availability_zone: Some("us-east-1a".into()),
        vpc: Some("vpc-1".into()),
        subnet_group: Some("private".into()),
        security_groups: vec!["sg-1".into()],
        parameter_group: Some("shop-17".into()),
        option_group: (!cluster).then(|| "shop-opt".into()),
        public: false,
        port: Some(5433),
        iam_auth: true,
        log_exports: vec!["postgresql".into()],
        database_name: None,
        master_user: Some("postgres".into()),
        master_secret: None,
        deletion_protection: true,
        scaling: None,
        members: Vec::new(),
        backup: BackupSettings {
            retention_days: 7,
            window: None,
            copy_tags: true,
            owned_by_aws_backup: false,
        },
        maintenance_window: None,
        window: Some(RestorableWindow {
            earliest: Some("2026-11-14T00:00:00Z".parse().unwrap()),
            latest: "2026-11-21T09:55:00Z".parse().unwrap(),
        }),
        pending: Vec::new(),
        replica_of: None,
        tags: Tags::default().with("team", "web").with("holdfast:database", "shop"),
        source,
    }
}

pub fn snapshot(id: &str) -> Snapshot {
    let at = SnapshotRef { engine: Engine::Rds, region: "us-east-1".parse().unwrap(), id: id.into() };
    Snapshot {
        arn: format!("arn:aws:rds:us-east-1:123456789012:snapshot:{id}"),
        at,
        kind: SnapshotKind::Manual,
        status: Status::new("available"),
        percent: 100,
        created: None,
        taken: Some("2026-11-20T03:10:00Z".parse().unwrap()),
        source_id: "shop".into(),
        source_resource_id: Some("db-SHOP".into()),
        copied_from: None,
        copied_from_region: None,
        size_gib: 100,
        full_bytes: None,
        engine_name: "postgres".into(),
        engine_version: "17.4".into(),
        encrypted: false,
        key: None,
        option_group: None,
        port: Some(5432),
        vpc: None,
        storage_kind: None,
        tags: Tags::default(),
    }
}

/// In us-east-1, or replicated from there to us-west-2.
pub fn automated(id: &str, kind: AutomatedKind) -> AutomatedBackup {
    let here = if kind == AutomatedKind::Replicated { "us-west-2" } else { "us-east-1" };
    AutomatedBackup {
        at: format!("rds://{here}/{id}").parse().unwrap(),
        arn: Some(format!("arn:aws:rds:{here}:123456789012:auto-backup:ab-{id}")),
        resource_id: format!("db-{}", id.to_uppercase()),
        source_arn: format!("arn:aws:rds:us-east-1:123456789012:db:{id}"),
        source_region: "us-east-1".parse().unwrap(),
        kind,
        status: Status::new("retained"),
        window: Some(RestorableWindow { earliest: None, latest: "2026-11-21T09:55:00Z".parse().unwrap() }),
        retention_days: 7,
        size_gib: Some(100),
        engine_version: "17.4".into(),
        encrypted: false,
        key: None,
        source_created: None,
        vpc: None,
        option_group: None,
        port: None,
        replicas: Vec::new(),
        recovery_point: None,
        tags: Tags::default(),
    }
}
