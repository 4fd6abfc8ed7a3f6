//! `holdfast key export|passphrase|recover`

use super::{Done, context};
use crate::args::{Cli, KeyCommand};
use crate::{failure, output};
use holdfast_engine::EngineError;
use holdfast_engine::context::{keys_by_passphrase, open_store, open_vault, passphrase};
use holdfast_vault::Keys;
use serde_json::json;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

pub async fn run(cli: &Cli, k: &KeyCommand) -> Done {
    match k {
        KeyCommand::Export { role, to, db } => {
            let (ctx, _) = context(cli, db.as_deref())?;
            let vault = open_vault(&ctx.first_vault()?).await?;
            let keys: Keys = match role.as_str() {
                "host" => vault.keys().for_host(),
                "owner" => (**vault.keys()).clone(),
                other => {
                    return Err(failure::usage(
                        format!("`{other}` is no role"),
                        "use --role host or --role owner",
                    ));
                }
            };
            write_key(to, &keys)?;
            done(cli, to, role)
        }
        KeyCommand::Passphrase { passphrase_file, db } => {
            let (ctx, _) = context(cli, db.as_deref())?;
            let vault = open_vault(&ctx.first_vault()?).await?;
            let name = store_recovery(&vault, passphrase_file).await?;
            if cli.json {
                output::json(&json!({ "stored": name }));
            } else {
                output::line(&format!(
                    "a copy of the keys is in the vault as {name}; the passphrase opens it"
                ));
            }
            Ok(0)
        }
        KeyCommand::Recover { passphrase_file, to, db } => {
            let (ctx, _) = context(cli, db.as_deref())?;
            let store = open_store(&ctx.first_vault()?)?;
            let keys = keys_by_passphrase(&store, &passphrase(passphrase_file)?).await?;
            write_key(to, &keys)?;
            done(cli, to, "owner")
        }
    }
}

fn done(cli: &Cli, to: &Path, role: &str) -> Done {
    if cli.json {
        output::json(&json!({ "file": to, "role": role }));
    } else {
        output::line(&format!("wrote the keys of role {role} to {}", to.display()));
    }
    Ok(0)
}

/// Writes a key file that did not exist, readable by its owner only.
pub fn write_key(to: &Path, keys: &Keys) -> anyhow::Result<()> {
    if let Some(dir) = to.parent() {
        std::fs::create_dir_all(dir).map_err(EngineError::io("make the directory", dir))?;
    }
    let mut f =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(|e| {
            if e.kind() == std::io::ErrorKind::AlreadyExists {
                failure::refused(
                    format!("`{}` exists already", to.display()),
                    "a key file is never written over; choose another name",
                )
            } else {
                EngineError::io("write", to)(e).into()
            }
        })?;
    f.write_all(keys.to_text().expose_bytes())
        .and_then(|()| f.sync_all())
        .map_err(EngineError::io("write", to))?;
    if let Some(dir) = to.parent() {
        holdfast_engine::state::sync_dir(dir).map_err(EngineError::io("make durable", dir))?;
    }
    Ok(())
}

/// Stores a copy of the keys in the vault, wrapped by the passphrase in `file`.
pub async fn store_recovery(vault: &holdfast_vault::Vault, file: &Path) -> anyhow::Result<String> {
    if !vault.keys().can_read() {
        return Err(failure::refused(
            "this key file does not hold all keys",
            "use the owner's key file for this",
        ));
    }
    let text = holdfast_vault::passphrase::wrap(vault.keys(), &passphrase(file)?, vault.id())?;
    let epoch = vault.keys().newest()?.number;
    let tag = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let name = holdfast_vault::names::recovery(epoch, &tag);
    vault.store().create(&name, text.into()).await?;
    Ok(name)
}
