//! What operations ask of a store: requests of the whole program, counted on their way. The bounds are what was
//! counted when they were written, with little room: a change that doubles one of them fails here, and says of
//! what.

use crate::common::{DB, Site};
use crate::copies;
use crate::retention::keep;
use holdfast_testkit::{FaultProxy, PgVersion, Scratch, Store};
use std::collections::BTreeMap;

type Counts = BTreeMap<String, u64>;

/// `VERB what`, of the vault in the folder `vault`; without what its descriptor and keys cost.
fn counts(proxy: &FaultProxy, vault: &str) -> Counts {
    let mut out = Counts::new();
    for s in proxy.requests() {
        // Names are in its body.
        if s.method == "POST" && s.target.contains("?delete") {
            *out.entry("POST delete".into()).or_default() += 1;
            continue;
        }
        let Some((_, rest)) = s.target.split_once(&format!("{vault}/")).or_else(|| {
            let encoded = format!("prefix={vault}%2F");
            s.target.split_once(&encoded)
        }) else {
            continue;
        };
        let listing = s.target.contains("list-type=2");
        let kinds = ["runs", "points", "leases", "wal", "notes", "condemned", "failed", "index", "locks"];
        let has = |k: &&&str| {
            ["/", "%2F"].iter().any(|slash| {
                rest.contains(&format!("{slash}{k}{slash}")) || rest.ends_with(&format!("{slash}{k}"))
            })
        };
        let kind = match kinds.iter().find(has) {
            Some(k) => *k,
            None if rest.starts_with("holdfast.vault") || rest.starts_with("keys") => continue,
            None => "other",
        };
        let verb = if listing { "LIST" } else { s.method.as_str() };
        *out.entry(format!("{verb} {kind}")).or_default() += 1;
    }
    out
}

/// Two vaults in one bucket behind a proxy; the archiver goes another way, and brings nothing to the second.
struct Counted {
    site: Site,
    proxy: FaultProxy,
    _store: Store,
}

fn counted(name: &str) -> Counted {
    let scratch = Scratch::new(name);
    let store = Store::ministack(&scratch, &["backups"]);
    let proxy = FaultProxy::start(&store.endpoint());
    let mut site = crate::s3::site(&scratch, PgVersion::V17, store.env());
    site.hf = site.hf.clone().envs(store.env_for(&proxy.endpoint()));
    // One pack at a time.
    copies::extend(&site, "[tuning]\nworkers = 1\n");
    site.sql("create table t as select g, repeat(md5(g::text), 8) as pad from generate_series(1, 20000) g");
    site.sql("vacuum t; checkpoint");
    site.pg.wait_archived();
    Counted { site, proxy, _store: store }
}

impl Counted {
    fn count(&self, vault: &str, what: impl FnOnce(&Site)) -> Counts {
        self.proxy.reset_counts();
        what(&self.site);
        counts(&self.proxy, vault)
    }
}

/// What the run did because the archiver was late is not its own: for 200 ms it looks for its last segment every 50, then
/// it stores it itself (`backup/need.rs`). A busy machine has no archiver that quick.
fn without_the_archiver(mut found: Counts) -> Counts {
    let stored = found.remove("PUT wal").unwrap_or(0);
    if let Some(n) = found.get_mut("GET wal").filter(|_| stored > 0) {
        // Looks that a quick one would not have seen, the last of them after the store had said no.
        *n = n.saturating_sub(5).max(3);
    }
    assert!(stored <= 1, "one segment at most");
    found
}

/// No kind of request more often than `bounds` (`VERB what N`, …) says, and none that is not named there.
#[track_caller]
fn at_most(what: &str, found: &Counts, bounds: &str) {
    let bound = |b: &str| {
        let (kind, n) = b.trim().rsplit_once(' ').expect("a kind and a number");
        (kind.to_owned(), n.parse().expect("a number"))
    };
    let bounds: Counts = bounds.split(',').map(bound).collect();
    for (kind, n) in found {
        let most = bounds.get(kind).copied().unwrap_or(0);
        assert!(*n <= most, "{what}: {n} × {kind}, at most {most}: {found:?}");
    }
    // A bound that is far above what is needed sees no doubling.
    let (found, most): (u64, u64) = (found.values().sum(), bounds.values().sum());
    assert!(most < 2 * found, "{what}: bounds of {most} are too wide for {found} requests");
}

#[test]
fn of_a_backup() {
    let c = counted("requests-backup");
    let full = without_the_archiver(c.count("prod", |site| drop(site.backup(&["--full"]))));
    at_most(
        "a full",
        &full,
        "GET other 1, GET wal 7, LIST leases 1, LIST points 1, PUT leases 1, PUT points 1, \
         PUT runs 2",
    );
    let idle = without_the_archiver(c.count("prod", |site| drop(site.backup(&[]))));
    at_most(
        "an incremental of nothing",
        &idle,
        "GET other 1, GET points 2, GET runs 2, GET wal 8, HEAD condemned 2, HEAD points 1, \
         LIST leases 1, LIST notes 1, LIST points 2, PUT leases 1, PUT points 1, PUT runs 1",
    );
    c.site.sql("update t set pad = 'x' where g % 500 = 0");
    c.site.pg.wait_archived();
    let few = without_the_archiver(c.count("prod", |site| drop(site.backup(&[]))));
    at_most(
        "an incremental of a little",
        &few,
        "GET other 1, GET points 3, GET runs 4, GET wal 9, HEAD condemned 2, HEAD points 1, \
         LIST leases 1, LIST notes 1, LIST points 2, PUT leases 1, PUT points 1, PUT runs 2",
    );
}

#[test]
fn of_a_copy() {
    let c = counted("requests-copy");
    let site = &c.site;
    let key = site.scratch.path("hf.key").display().to_string();
    copies::extend(
        site,
        &format!(
            "[vaults.dr]\nurl = \"s3://backups/dr\"\nkey-file = \"{key}\"\n\n[policies.standard.copies.dr]\n\
             to = \"dr\"\nkeep = {{ last = 9 }}\n"
        ),
    );
    let conninfo = site.pg.conninfo();
    let args =
        ["init", "--name", DB, "--conninfo", &conninfo, "--vault", "s3://backups/dr", "--key-file", &key];
    let _ = site.hf.run(&[&args[..], &["--yes"]].concat()).ok();
    // Its segments come by copies only.
    site.archive_with(&site.archive_command.replace(" wal push", " --vault main wal push"));
    let _ = site.backup(&["--full"]);
    // A copy takes what the archiver adds at the end of a backup, too: not in the one that finds nothing new.
    site.pg.wait_archived();
    let copy = |site: &Site| drop(site.hf.run(&["copy", DB, "--to", "dr"]).ok());
    let first = c.count("dr", copy);
    at_most(
        "the first copy, in the target",
        &first,
        "GET leases 1, GET notes 1, GET other 2, GET points 3, GET runs 4, GET wal 13, \
         HEAD condemned 2, HEAD wal 1, LIST index 3, LIST notes 2, LIST other 1, LIST points 3, \
         LIST runs 1, LIST wal 16, PUT leases 1, PUT notes 1, PUT points 1, PUT runs 2, PUT wal 12",
    );
    let nothing = [c.count("prod", copy), c.count("dr", copy)];
    at_most(
        "nothing new, in the source",
        &nothing[0],
        "GET other 1, GET points 1, LIST index 2, LIST notes 1, LIST other 1, LIST points 1, \
         LIST wal 12",
    );
    at_most(
        "nothing new, in the target",
        &nothing[1],
        "GET notes 2, GET other 2, GET points 2, LIST index 3, LIST notes 2, LIST other 1, \
         LIST points 2, LIST wal 17",
    );
    site.sql("update t set pad = 'x' where g % 500 = 0");
    let _ = site.backup(&[]);
    let next = c.count("dr", copy);
    at_most(
        "one more incremental, in the target",
        &next,
        "GET leases 1, GET notes 4, GET other 2, GET points 7, GET runs 8, GET wal 5, \
         HEAD condemned 4, HEAD points 1, HEAD wal 1, LIST index 3, LIST notes 3, LIST other 1, \
         LIST points 3, LIST runs 1, LIST wal 17, PUT leases 1, PUT notes 1, PUT points 1, \
         PUT runs 2, PUT wal 3",
    );
}

#[test]
fn of_a_sweep() {
    let c = counted("requests-sweep");
    let site = &c.site;
    keep(site, "last = 9", "");
    for n in 0..4 {
        site.sql(&format!("update t set pad = 'x{n}' where g % 20 = {n}"));
        let _ = site.backup(&["--full"]);
    }
    site.pg.wait_archived();
    let sweep = |site: &Site| {
        std::thread::sleep(std::time::Duration::from_millis(2100));
        drop(site.hf.run(&["sweep"]).ok());
    };
    let nothing = c.count("prod", sweep);
    at_most(
        "nothing to remove",
        &nothing,
        "GET other 1, GET points 12, GET runs 16, HEAD other 1, LIST condemned 2, LIST failed 2, \
         LIST index 1, LIST leases 2, LIST locks 2, LIST notes 3, LIST other 1, LIST points 5, \
         LIST runs 2, LIST wal 3, PUT other 1, POST delete 1",
    );
    keep(site, "last = 2, at-least = 1", "");
    let expired = c.count("prod", |site| drop(site.hf.run(&["expire", "--apply"]).ok()));
    at_most(
        "expiring two points",
        &expired,
        "GET other 1, GET points 8, GET runs 4, HEAD other 1, HEAD points 2, LIST condemned 1, \
         LIST failed 1, LIST index 1, LIST leases 1, LIST locks 1, LIST notes 2, LIST other 1, \
         LIST points 3, LIST runs 1, LIST wal 3, PUT notes 2, PUT other 1, POST delete 1",
    );
    let removed = c.count("prod", sweep);
    at_most(
        "two points with their packs",
        &removed,
        "GET notes 2, GET other 1, GET points 12, GET runs 8, HEAD other 1, HEAD points 4, \
         LIST condemned 2, LIST failed 2, LIST index 1, LIST leases 2, LIST locks 2, LIST notes 3, \
         LIST other 1, LIST points 5, LIST runs 2, LIST wal 3, PUT condemned 2, PUT other 1, \
         POST delete 9",
    );
    let list = c.count("prod", |site| drop(site.hf.run(&["list"]).ok()));
    at_most(
        "a listing",
        &list,
        "GET other 1, GET points 2, LIST failed 1, LIST notes 1, LIST other 1, LIST points 1",
    );
}
