//! Each vault of the database: `vault.<name>.*`.

use super::host::{Host, Space, Want, device, space};
use super::keys::recovery_copy;
use super::{Line, PATIENCE, Status};
use crate::context::{Context, open_store, open_vault};
use crate::error::{EngineError, Result};
use crate::wal::archive::WalArchive;
use holdfast_core::policy;
use holdfast_core::size::ByteSize;
use holdfast_pg::server::Server;
use holdfast_vault::point::{Body, FailedRun, Point, Verified};
use holdfast_vault::probe::{PROBE_FOLDER, probe_conditional_create};
use holdfast_vault::{ClusterVault, Role, Store, Vault};
use std::path::{Path, PathBuf};

/// What a vault holds of the server's cluster; every part that could be read.
#[derive(Debug, Default)]
pub(super) struct Stock {
    pub vault: String,
    /// The server's cluster, or the newest one when the server is away.
    pub cluster: Option<ClusterVault>,
    /// False when the points could not be listed: nothing is known then.
    pub known: bool,
    pub newest: Option<Point>,
    pub archive: Option<WalArchive>,
    pub verified: Vec<Verified>,
    pub last_failure: Option<FailedRun>,
    /// System identifiers of the clusters that it knows.
    pub clusters: Vec<u64>,
}

pub(super) async fn check(
    ctx: &Context,
    v: &policy::Vault,
    server: Option<&Server>,
    host: &Host,
    lines: &mut Vec<Line>,
) -> Stock {
    let name = format!("vault.{}", v.name);
    let mut stock = Stock { vault: v.name.clone(), ..Stock::default() };
    let store = match open_store(v) {
        Ok(s) => s,
        Err(e) => {
            lines.push(Line::error(&format!("{name}.open"), Status::Fail, &e).or_hint(CHECK_URL));
            return stock;
        }
    };
    if let Some(dir) = store.local_path() {
        let data = host.data_places.first().map(|d| (d.as_path(), device(d)));
        lines.push(place(&name, dir, host.inside_data(dir), data, device(dir)));
    }
    if let Some(dir) = store.local_path().filter(|d| d.exists())
        && let Some((user, closed)) = shut_out(ctx, dir, host)
    {
        lines.push(access(&name, dir, &user, &closed));
    }
    let looked = look(ctx, v, &store, server, &mut stock, lines, &name);
    if tokio::time::timeout(PATIENCE, looked).await.is_err() {
        lines.push(Line::fail(
            &format!("{name}.open"),
            format!("the vault at {} did not answer within {} s", store.url(), PATIENCE.as_secs()),
            "check the network and `url` of the vault in the policy",
        ));
    }
    if let Some(dir) = store.local_path()
        && let Ok(s) = space(dir)
    {
        lines.push(free_space(&name, s, stock.newest.as_ref().map(|p| p.stored_bytes)));
    }
    stock
}

async fn look(
    ctx: &Context,
    v: &policy::Vault,
    store: &Store,
    server: Option<&Server>,
    stock: &mut Stock,
    lines: &mut Vec<Line>,
    name: &str,
) {
    let vault = match open_vault(v).await {
        Ok(vault) => {
            lines.push(Line::ok(
                &format!("{name}.open"),
                format!("the key opens the vault at {}", store.url()),
            ));
            lines.push(key_role(name, vault.keys().role));
            Some(vault)
        }
        Err(e) => {
            let line = Line::error(&format!("{name}.open"), Status::Fail, &e);
            lines.push(line.or_hint("set `key-file` of the vault to the key file that `holdfast init` made"));
            None
        }
    };
    // Without a vault there is nothing to list, and nothing may be written there.
    if vault.is_none() && Vault::describe(store).await.is_err() {
        return;
    }
    match store.list("keys").await {
        Ok(keys) => {
            lines.push(Line::ok(&format!("{name}.list"), "the vault can be listed"));
            let copies = keys.iter().filter(|l| l.name.ends_with(".recovery")).count();
            lines.push(recovery_copy(name, v.key_file.as_deref(), copies));
        }
        Err(e) => {
            lines.push(Line::error(&format!("{name}.list"), Status::Fail, &e.into()).or_hint(CHECK_URL))
        }
    }
    lines.push(match probe(store).await {
        Ok(()) => Line::ok(&format!("{name}.create"), "objects can be created, and each name only once"),
        Err(e) => Line::error(&format!("{name}.create"), Status::Fail, &e.into()).or_hint(CHECK_URL),
    });
    if let Some(vault) = vault
        && let Err(e) = take_stock(ctx, &vault, server, stock, lines, name).await
    {
        let line = Line::error(&format!("{name}.records"), Status::Fail, &e);
        lines.push(line.or_hint("run `holdfast check` to see everything that is damaged"));
    }
    if let Some(c) = &stock.cluster {
        // Points and WAL were listed by now.
        let _ = c.store().list(&c.path().runs()).await;
        super::versions::check(c.store(), name, lines).await;
    } else {
        super::versions::check(store, name, lines).await;
    }
}

const CHECK_URL: &str = "check `url` and `options` of the vault in the policy";

/// Probes, and leaves no folder of its own: one of root's would keep the server's user out.
async fn probe(store: &Store) -> holdfast_vault::Result<()> {
    let folder = store.local_path().map(|d| d.join(PROBE_FOLDER)).filter(|f| !f.exists());
    let result = probe_conditional_create(store).await;
    if let Some(f) = folder {
        let _ = std::fs::remove_dir(f);
    }
    result
}

/// Folders of a local vault in which the server's user, who runs `wal push`, may not write.
fn shut_out(ctx: &Context, dir: &Path, host: &Host) -> Option<(String, Vec<PathBuf>)> {
    let user = host.other_server_user()?;
    let below = |d: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(d).into_iter().flatten().flatten();
        entries.map(|e| e.path()).filter(|p| p.is_dir()).collect()
    };
    let mut folders = vec![dir.to_path_buf(), dir.join("db"), dir.join("db").join(ctx.db.name.as_str())];
    for cluster in folders.last().map(|d| below(d)).unwrap_or_default() {
        let wal = cluster.join("wal");
        folders.push(cluster);
        folders.extend(below(&wal));
        folders.push(wal);
    }
    let closed = folders.into_iter().filter(|f| f.exists() && !host.may(user, f, Want::Write)).collect();
    Some((user.name.clone(), closed))
}

fn access(name: &str, dir: &Path, user: &str, closed: &[PathBuf]) -> Line {
    let name = format!("{name}.access");
    match closed.first() {
        None => Line::ok(&name, format!("the server's user {user} can write the vault")),
        Some(f) => Line::fail(
            &name,
            format!(
                "the server runs as {user}, which cannot write `{}`: archive_command will fail",
                f.display()
            ),
            format!("run `chown -R {user} {}`, and holdfast as {user}", dir.display()),
        ),
    }
}

async fn take_stock(
    ctx: &Context,
    vault: &Vault,
    server: Option<&Server>,
    stock: &mut Stock,
    lines: &mut Vec<Line>,
    name: &str,
) -> Result<()> {
    let clusters = ctx.clusters(vault).await?;
    stock.clusters = clusters.iter().map(|c| c.record().system_identifier).collect();
    let mut damaged = Vec::new();
    let mut conflicts = Vec::new();
    for c in &clusters {
        let ours = match server {
            Some(s) => c.record().system_identifier == s.system_identifier,
            None => clusters.last().is_some_and(|l| l.path() == c.path()),
        };
        let survey = c.survey().await?;
        damaged.extend(survey.damaged.iter().map(ToString::to_string));
        let archive = match WalArchive::read(c).await {
            Ok(a) => Some(a),
            Err(e @ EngineError::Vault(holdfast_vault::VaultError::Damaged { .. })) => {
                damaged.push(e.to_string());
                None
            }
            Err(e) => return Err(e),
        };
        conflicts.extend(archive.iter().flat_map(|a| a.conflicts.clone()));
        if ours {
            stock.cluster = Some(c.clone());
            stock.newest = match survey.points.last() {
                Some(seen) => Some(c.point(&seen.facts.id).await?),
                None => None,
            };
            stock.archive = archive;
            stock.verified = c.verifications().await?;
            stock.last_failure = last_failure(c).await?;
        }
    }
    stock.known = true;
    lines.push(records(name, &damaged));
    lines.push(conflicting(name, &conflicts));
    Ok(())
}

/// The newest failed run; run ids sort by time.
async fn last_failure(c: &ClusterVault) -> Result<Option<FailedRun>> {
    let listed = c.store().list(&format!("{}/failed", c.path().folder())).await?;
    let Some(last) = listed.last() else { return Ok(None) };
    match c.vault().get_record(&last.name).await {
        Ok((Body::FailedRun(f), _)) => Ok(Some(f)),
        _ => Ok(None),
    }
}

/// `data`: the data directory and its device.
fn place(
    name: &str,
    dir: &Path,
    inside: Option<&PathBuf>,
    data: Option<(&Path, Option<u64>)>,
    vault_device: Option<u64>,
) -> Line {
    let name = format!("{name}.place");
    let shown = dir.display();
    if let Some(d) = inside {
        return Line::fail(
            &name,
            format!(
                "the vault `{shown}` lies in `{}`: it is lost with the database, and backs itself up",
                d.display()
            ),
            "move it and set `url` of the vault to a directory outside of the data directory",
        );
    }
    match data {
        Some((data, Some(device))) if vault_device == Some(device) => Line::warn(
            &name,
            format!(
                "the vault `{shown}` is on the same file system as `{}`: one broken disk takes both",
                data.display()
            ),
            "set `url` of the vault to another disk or an object store, or add a second vault",
        ),
        Some(_) => {
            Line::ok(&name, format!("the vault `{shown}` is on another file system than the database"))
        }
        None => Line::ok(&name, format!("the vault is the directory `{shown}`")),
    }
}

fn free_space(name: &str, s: Space, newest: Option<u64>) -> Line {
    let name = format!("{name}.space");
    let free = ByteSize(s.free);
    let hint = "make room, or shorten `keep` and run `holdfast expire` and `holdfast sweep`";
    let newest = newest.unwrap_or(0);
    if s.free < 1 << 30 {
        return Line::fail(&name, format!("only {free} are free in the vault"), hint);
    }
    if s.free < newest {
        let needs = ByteSize(newest);
        return Line::fail(
            &name,
            format!("{free} are free in the vault, less than the newest point took ({needs})"),
            hint,
        );
    }
    if s.free / 3 < newest {
        return Line::warn(
            &name,
            format!(
                "{free} are free in the vault: room for fewer than three points like the newest ({})",
                ByteSize(newest)
            ),
            hint,
        );
    }
    Line::ok(&name, format!("{free} are free in the vault"))
}

fn key_role(name: &str, role: Role) -> Line {
    let name = format!("{name}.key-role");
    match role {
        Role::Owner => Line::ok(&name, "this key adds, reads and releases backups"),
        Role::Host => Line::ok(&name, "this key adds backups, and cannot restore or verify them")
            .hint("keep the owner's key file where restores run"),
    }
}

fn records(name: &str, damaged: &[String]) -> Line {
    let name = format!("{name}.records");
    match damaged.first() {
        None => Line::ok(&name, "all records of recovery points authenticate"),
        Some(first) => Line::fail(
            &name,
            format!("{} damaged: {first}", super::count(damaged.len() as u64, "record")),
            "run `holdfast check` to see everything that is damaged",
        ),
    }
}

fn conflicting(name: &str, conflicts: &[String]) -> Line {
    let name = format!("{name}.wal-conflicts");
    match conflicts.first() {
        None => Line::ok(&name, "nobody else has written to the wal archive"),
        Some(first) => Line::fail(
            &name,
            format!(
                "{} with other content came for names that were taken: {first}",
                super::count(conflicts.len() as u64, "file")
            ),
            "find the other server that pushes here and turn its archive_mode off; see `holdfast wal status`",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vault_is_away_from_the_data() {
        let data = PathBuf::from("/data");
        let judge =
            |inside, device| place("vault.a", Path::new("/v"), inside, Some((&data, Some(1))), device);
        assert_eq!(judge(Some(&data), Some(1)).status, Status::Fail);
        assert_eq!(judge(None, Some(1)).status, Status::Warn);
        assert_eq!(judge(None, Some(2)).status, Status::Ok);
        assert_eq!(place("vault.a", Path::new("/v"), None, None, Some(1)).status, Status::Ok);
        assert_eq!(judge(None, Some(2)).name, "vault.a.place");
    }

    #[test]
    fn the_servers_user_writes_too() {
        assert_eq!(access("vault.a", Path::new("/v"), "postgres", &[]).status, Status::Ok);
        let l = access("vault.a", Path::new("/v"), "postgres", &["/v/db".into()]);
        assert!(l.status == Status::Fail && l.hint.unwrap().contains("chown -R postgres /v"));
    }

    #[test]
    fn room_is_measured_in_points() {
        const G: u64 = 1 << 30;
        let judge = |free, newest| free_space("vault.a", Space { free, total: 100 * G }, newest).status;
        assert_eq!(judge(G - 1, None), Status::Fail);
        assert_eq!(judge(G, None), Status::Ok);
        assert_eq!(judge(2 * G, Some(3 * G)), Status::Fail);
        assert_eq!(judge(8 * G, Some(3 * G)), Status::Warn);
        assert_eq!(judge(9 * G, Some(3 * G)), Status::Ok);
    }

    #[test]
    fn findings_fail_and_roles_do_not() {
        assert_eq!(key_role("vault.a", Role::Host).status, Status::Ok);
        assert!(
            key_role("vault.a", Role::Host).hint.is_some() && key_role("vault.a", Role::Owner).hint.is_none()
        );
        assert_eq!(
            (records("v", &[]).status, records("v", &["x".into()]).status),
            (Status::Ok, Status::Fail)
        );
        assert_eq!(
            (conflicting("v", &[]).status, conflicting("v", &["x".into()]).status),
            (Status::Ok, Status::Fail)
        );
    }
}
