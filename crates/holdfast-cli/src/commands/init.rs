//! `holdfast init`: from nothing to a policy, a vault, a key, and the lines that the server needs.
//!
//! Safe to run again: an existing key file is used, an existing vault is joined (if the key opens it),
//! and an existing policy gets the database added.

use super::key::{store_recovery, write_key};
use super::{Done, program};
use crate::args::{Cli, InitArgs};
use crate::policy::{place_for_new, variable};
use crate::{failure, output};
use holdfast_core::policy::{NewDatabase, NewPolicy, Policy, add_database, render_new};
use holdfast_core::{ClusterId, DatabaseName};
use holdfast_engine::EngineError;
use holdfast_engine::restore::settings::shell_quote;
use holdfast_engine::state::write_atomic;
use holdfast_engine::wal::fanout;
use holdfast_pg::connect::Session;
use holdfast_pg::server::Server;
use holdfast_vault::point::Cluster;
use holdfast_vault::{Cipher, ClusterPath, Keys, Store, Vault, VaultError};
use serde_json::json;
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

pub async fn run(cli: &Cli, a: &InitArgs) -> Done {
    let path = place_for_new(cli.config.as_deref())?;
    let existing = match std::fs::read_to_string(&path) {
        Ok(text) => Some((Policy::parse_with(&text, &path, &variable)?, text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(EngineError::io("read", &path)(e).into()),
    };
    let name: DatabaseName = ask(a, "name of the database", a.name.as_deref(), Some("main"), "--name")?
        .parse()
        .map_err(|e: holdfast_core::id::IdError| failure::usage(e.to_string(), "--name orders"))?;
    let default = "host=/run/postgresql port=5432 user=postgres";
    let conninfo = ask(a, "conninfo of the server", a.conninfo.as_deref(), Some(default), "--conninfo")?;
    let server = inspect(cli, &conninfo).await?;

    let dir = path.parent().unwrap_or(Path::new("/")).to_path_buf();
    let vault_url = vault_url(cli, a, existing.as_ref().map(|(p, _)| p))?;
    let key_file = match &a.key_file {
        Some(k) => std::path::absolute(k)?,
        None => existing
            .as_ref()
            .and_then(|(p, _)| p.vaults.values().find(|v| same_url(&v.url, &vault_url)))
            .and_then(|v| v.key_file.clone())
            .unwrap_or_else(|| dir.join("holdfast.key")),
    };
    let (keys, made_key) = load_or_make(&key_file)?;
    let cipher = if a.no_encryption { Cipher::None } else { Cipher::Aes256Gcm };
    let options = existing
        .as_ref()
        .and_then(|(p, _)| p.vaults.values().find(|v| same_url(&v.url, &vault_url)))
        .map(|v| v.options.clone())
        .unwrap_or_default();
    let (vault, made_vault) = open_or_create(&vault_url, &options, keys, cipher).await?;
    if let Some(f) = &a.passphrase_file {
        store_recovery(&vault, f).await?;
    }
    register(&vault, &name, &server, existing.as_ref().map(|(p, _)| p)).await?;
    let text = policy_text(existing, &path, &name, &conninfo, &vault_url, &key_file, &server)?;
    write_atomic(&path, text.as_bytes(), 0o644)?;
    give_to_server(&server, &key_file, &vault)?;

    let archive_command = format!(
        "{} --config {} wal push --db {} %p",
        shell_quote(&program()?.display().to_string()),
        shell_quote(&path.display().to_string()),
        name
    );
    report(cli, a, &path, &vault, &key_file, (made_key, made_vault), &archive_command, &server, &conninfo)
}

/// The value of an option, or the user's answer.
fn ask(
    a: &InitArgs,
    what: &str,
    given: Option<&str>,
    default: Option<&str>,
    option: &str,
) -> anyhow::Result<String> {
    if let Some(g) = given {
        return Ok(g.to_string());
    }
    if a.yes || !std::io::stdin().is_terminal() {
        return Err(failure::usage(
            format!("{option} is missing"),
            format!("give {option}, or run it on a terminal to be asked"),
        ));
    }
    let mut err = std::io::stderr().lock();
    let hint = default.map(|d| format!(" [{d}]")).unwrap_or_default();
    let _ = write!(err, "{what}{hint}: ");
    let _ = err.flush();
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    let answer = answer.trim();
    match (answer.is_empty(), default) {
        (true, Some(d)) => Ok(d.to_string()),
        (true, None) => Err(failure::usage(format!("{what} is needed"), format!("give {option}"))),
        _ => Ok(answer.to_string()),
    }
}

async fn inspect(cli: &Cli, conninfo: &str) -> anyhow::Result<Server> {
    let s = Session::connect(conninfo).await.map_err(EngineError::from)?;
    let server = Server::inspect(&s, cli.allow_unsupported).await.map_err(EngineError::from)?;
    if server.data_directory.as_os_str().is_empty() {
        return Err(failure::refused(
            "this user may not see where the data directory is",
            "connect as a superuser, or grant pg_read_all_settings to it",
        ));
    }
    Ok(server)
}

/// `--vault` names a vault of an existing policy, or (as scripts do) is the url itself.
fn vault_url(cli: &Cli, a: &InitArgs, existing: Option<&Policy>) -> anyhow::Result<String> {
    let given = a.vault_url.clone().or_else(|| cli.vault.clone());
    if let (Some(p), Some(g)) = (existing, &given)
        && let Some(v) = p.vaults.get(g)
    {
        return Ok(v.url.clone());
    }
    if let (Some(p), None) = (existing, &given)
        && let Some(v) = p.vaults.values().next()
    {
        return Ok(v.url.clone());
    }
    let text =
        ask(a, "url of the vault", given.as_deref(), Some("file:///var/lib/holdfast/vault"), "--vault")?;
    // A bare path is what people type.
    if text.starts_with('/') {
        return Ok(format!("file://{text}"));
    }
    Ok(text)
}

fn same_url(a: &str, b: &str) -> bool {
    let bare = |u: &str| u.split('?').next().unwrap_or(u).trim_end_matches('/').to_string();
    bare(a) == bare(b)
}

fn load_or_make(path: &PathBuf) -> anyhow::Result<(Keys, bool)> {
    match std::fs::read(path) {
        Ok(b) => {
            let secret = holdfast_core::Secret::new(b);
            Ok((Keys::parse(secret.expose_bytes()).map_err(EngineError::from)?, false))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let keys = Keys::generate().map_err(EngineError::from)?;
            write_key(path, &keys)?;
            Ok((keys, true))
        }
        Err(e) => Err(EngineError::io("read the key file", path)(e).into()),
    }
}

async fn open_or_create(
    url: &str,
    options: &std::collections::BTreeMap<String, String>,
    keys: Keys,
    cipher: Cipher,
) -> anyhow::Result<(Vault, bool)> {
    let store = Store::open(url, options).map_err(EngineError::from)?;
    match Vault::open(store.clone(), keys.clone()).await {
        Ok(v) => {
            v.mend_descriptor().await.map_err(EngineError::from)?;
            Ok((v, false))
        }
        Err(VaultError::NoVault(_)) => {
            Ok((Vault::create(store, keys, cipher).await.map_err(EngineError::from)?, true))
        }
        Err(e) => Err(EngineError::from(e).into()),
    }
}

/// What root made here, the server's own `wal push` must be able to use.
fn give_to_server(server: &Server, key_file: &Path, vault: &Vault) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let (uid, gid) = holdfast_pg::datadir::owner(&server.data_directory).map_err(EngineError::from)?;
    let mut todo: Vec<PathBuf> = vec![key_file.to_path_buf()];
    todo.extend(vault.store().local_path().map(Path::to_path_buf));
    while let Some(path) = todo.pop() {
        let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
        if std::os::unix::fs::MetadataExt::uid(&meta) == 0 {
            std::os::unix::fs::lchown(&path, Some(uid), Some(gid))
                .map_err(EngineError::io("set the owner of", &path))?;
        }
        if meta.is_dir() {
            todo.extend(std::fs::read_dir(&path).into_iter().flatten().flatten().map(|e| e.path()));
        }
    }
    Ok(())
}

/// The vault hears of the cluster now, so that a stray `wal push` of another one is refused.
/// A further vault of a database gets the digest secret of the others, so that copies compare blocks unread.
async fn register(
    vault: &Vault,
    name: &DatabaseName,
    server: &Server,
    policy: Option<&Policy>,
) -> anyhow::Result<()> {
    let cluster = ClusterId::from_system_identifier(server.system_identifier);
    let path = ClusterPath { database: name.clone(), cluster: cluster.clone() };
    let secret = match policy.and_then(|p| Some((p, p.databases.get(name)?))) {
        Some((p, db)) => fanout::digest_secret(p, db, vault, &path).await,
        None => None,
    };
    vault
        .ensure_cluster(path, || Cluster {
            database: name.clone(),
            cluster,
            system_identifier: server.system_identifier,
            major: server.version.major.number() as u16,
            block_size: server.block_size,
            wal_segment_size: server.wal_segment_size,
            created_at: jiff::Timestamp::now(),
            digest_secret: secret.unwrap_or_default(),
        })
        .await
        .map_err(EngineError::from)?;
    Ok(())
}

fn policy_text(
    existing: Option<(Policy, String)>,
    path: &Path,
    name: &DatabaseName,
    conninfo: &str,
    vault_url: &str,
    key_file: &Path,
    server: &Server,
) -> anyhow::Result<String> {
    let data_dir = server.data_directory.display().to_string();
    let bin = bin_dir(server);
    let database = NewDatabase {
        name,
        source: conninfo,
        policy: None,
        data_directory: Some(&data_dir),
        bin_dir: bin.as_deref(),
    };
    let text = match existing {
        None => {
            let vault_name = if vault_url.starts_with("file:") { "local" } else { "main" };
            render_new(&NewPolicy {
                database,
                vault_name,
                vault_url,
                key_file: &key_file.display().to_string(),
                state_dir: None,
            })
        }
        Some((p, text)) => match p.databases.get(name) {
            // Run again for the same database: nothing to add.
            Some(_) => text,
            None => add_database(&text, path, &database, &variable)?,
        },
    };
    Policy::parse_with(&text, path, &variable)?;
    Ok(text)
}

/// Where the server's programs are, if that is not where they are looked for anyway.
fn bin_dir(server: &Server) -> Option<String> {
    let pid = std::fs::read_to_string(server.data_directory.join("postmaster.pid")).ok()?;
    let exe = std::fs::read_link(format!("/proc/{}/exe", pid.lines().next()?.trim())).ok()?;
    let bin = exe.parent()?;
    let usual = format!("/usr/lib/postgresql/{}/bin", server.version.major.number());
    (bin != Path::new(&usual)).then(|| bin.display().to_string())
}

#[allow(clippy::too_many_arguments)]
fn report(
    cli: &Cli,
    a: &InitArgs,
    path: &Path,
    vault: &Vault,
    key_file: &Path,
    (made_key, made_vault): (bool, bool),
    archive_command: &str,
    server: &Server,
    conninfo: &str,
) -> Done {
    let user = holdfast_pg::connect::config(conninfo)
        .ok()
        .and_then(|c| c.get_user().map(str::to_string))
        .unwrap_or_default();
    let grants: Vec<String> = if server.is_superuser {
        Vec::new()
    } else {
        vec![
            format!("grant pg_read_all_settings, pg_monitor to \"{user}\";"),
            format!("grant execute on function pg_backup_start(text, boolean) to \"{user}\";"),
            format!("grant execute on function pg_backup_stop(boolean) to \"{user}\";"),
            format!("grant execute on function pg_switch_wal() to \"{user}\";"),
            format!("grant execute on function pg_create_restore_point(text) to \"{user}\";"),
        ]
    };
    let settings = [
        ("wal_level", "replica", server.setting("wal_level") != "minimal"),
        ("archive_mode", "on", matches!(server.setting("archive_mode"), "on" | "always")),
        ("archive_timeout", "60", server.setting("archive_timeout") != "0"),
    ];
    if cli.json {
        output::json(&json!({
            "policy": path, "vault": vault.store().url(), "vault_created": made_vault, "key_file": key_file,
            "key_created": made_key, "encrypted": vault.cipher() == Cipher::Aes256Gcm,
            "data_directory": server.data_directory, "system_identifier": server.system_identifier.to_string(),
            "archive_command": archive_command, "grants": grants, "passphrase": a.passphrase_file.is_some(),
        }));
        return Ok(0);
    }
    output::line(&format!("policy   {}", path.display()));
    output::line(&format!(
        "vault    {} ({})",
        vault.store().url(),
        if made_vault { "made" } else { "joined" }
    ));
    output::line(&format!("key      {} ({})", key_file.display(), if made_key { "made" } else { "used" }));
    if vault.cipher() == Cipher::None {
        output::line("         the vault is NOT encrypted");
    }
    output::line(&format!(
        "server   postgresql {} in {}",
        server.version.major.number(),
        server.data_directory.display()
    ));
    output::line("");
    output::line("the server needs this in postgresql.conf (archive_mode and wal_level need a restart):");
    for (k, v, fine) in settings {
        output::line(&format!("  {k} = {v}{}", if fine { "    # is fine already" } else { "" }));
    }
    output::line(&format!("  archive_command = '{}'", archive_command.replace('\'', "''")));
    if !grants.is_empty() {
        output::line("");
        output::line("and a superuser runs, once:");
        for g in &grants {
            output::line(&format!("  {g}"));
        }
    }
    output::line("");
    if made_key {
        output::line("keep a copy of the key file somewhere else: without it nobody can read the backups");
    }
    output::line("then: `holdfast doctor`, `holdfast backup`");
    Ok(0)
}
