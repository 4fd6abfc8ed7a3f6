//! Many incrementals that touch the same leaf of the manifest: its maps are gathered again, and every
//! point stays what it was.

use crate::common::{Site, fingerprint, text};
use holdfast_testkit::PgVersion;
use holdfast_vault::point::Point;
use holdfast_vault::reader::{PackSet, PointReader};
use holdfast_vault::{Keys, Store, Vault};

/// The most chunks that a leaf of the point names.
fn chunks(site: &Site, id: &str) -> usize {
    let rt = tokio::runtime::Runtime::new().expect("a runtime");
    rt.block_on(async {
        let key = std::fs::read(site.scratch.path("hf.key")).expect("read the key");
        let url = format!("file://{}", site.scratch.path("vault").display());
        let store = Store::open(&url, &Default::default()).expect("open the store");
        let vault = Vault::open(store, Keys::parse(&key).expect("a key")).await.expect("open the vault");
        let db = vault.databases().await.expect("databases").remove(0);
        let path = vault.clusters(&db).await.expect("clusters").remove(0);
        let cluster = vault.cluster(path).await.expect("a cluster");
        let (points, _) = cluster.points().await.expect("points");
        let point: Point = points.into_iter().find(|p| p.id.as_str() == id).expect("the point");
        let reader = PointReader::open(PackSet::new(cluster), &point).await.expect("open the point");
        let mut most = 0;
        for leaf in reader.root().groups.iter().flat_map(|g| &g.leaves) {
            most = most.max(reader.leaf(leaf).await.expect("a leaf").chunks.len());
        }
        most
    })
}

#[test]
fn small_files_are_gathered_again() {
    let site = Site::new("scattered", PgVersion::V17);
    for n in 0..20 {
        site.sql(&format!("create table t{n} as select g, repeat('x', 100) from generate_series(1, 200) g"));
    }
    // One that is too large to be gathered: it keeps its layers.
    site.sql("create table large as select g, repeat('l', 500) from generate_series(1, 20000) g");
    let _ = site.backup(&["--full"]);
    let mut moments = Vec::new();
    for n in 0..12 {
        site.sql(&format!("insert into t{n} values (0, 'run {n}'); update large set g = -g where g = {n}"));
        let id = text(&site.backup(&["--incremental"])["id"]).to_owned();
        let most = chunks(&site, &id);
        // Two for each layer of the large one, of which there are at most eight, and two for the rest;
        // ungathered it would be 26 in the end.
        assert!(most <= 18, "{most} chunks after run {n}");
        moments.push((id, site.sql("select pg_current_wal_insert_lsn()"), fingerprint(&site.pg, "postgres")));
    }
    site.sql("select pg_switch_wal()");
    site.pg.wait_archived();
    let _ = site.hf.run(&["check"]).ok();
    for (n, (id, lsn, rows)) in moments.iter().enumerate().step_by(5) {
        let copy = site.restore_and_start(&format!("copy{n}"), &["--point", id, "--lsn", lsn]);
        assert_eq!(&fingerprint(&copy, "postgres"), rows, "point {id}");
    }
}
