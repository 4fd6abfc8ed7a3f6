//! Run as root: what the server's user does too is done as that user.
//!
//! `backup`, `copy`, `wal` and `verify` write to the vault and to the state directory, where the server's own
//! `wal push` must be able to go on. Root therefore becomes the owner of the data directory before
//! anything is written, if that user can read the keys (it must, to archive). `restore` stays root: it
//! makes the target and gives it away.

use crate::args::{Cli, Command, WalCommand};
use crate::policy;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;

/// Starts the same command again as the owner of the data directory. Returns if there is no reason to.
pub fn step_down(cli: &Cli) {
    let wanted = match &cli.command {
        Command::Backup(a) => a.database.as_deref(),
        Command::Verify(a) => a.target.as_deref(),
        Command::Copy(a) => Some(a.target.as_str()),
        Command::Wal(WalCommand::Push { db, .. } | WalCommand::Get { db, .. }) => db.as_deref(),
        Command::Wal(WalCommand::Adopt { database, .. }) => database.as_deref(),
        _ => return,
    };
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // Whatever is wrong with the policy, the command itself says it better.
    let Ok(Ok(p)) = policy::locate(cli.config.as_deref()).map(|path| policy::read(&path)) else { return };
    let named = p.databases.iter().find(|(k, _)| Some(k.as_str()) == wanted);
    let Some((_, db)) = named.or_else(|| p.databases.iter().next()) else { return };
    let Some(data_dir) = db.data_directory.as_ref().and_then(|d| std::fs::metadata(d).ok()) else { return };
    let (uid, gid) = (data_dir.uid(), data_dir.gid());
    let reads = |m: &std::fs::Metadata| {
        (m.uid() == uid && m.mode() & 0o400 != 0)
            || (m.gid() == gid && m.mode() & 0o040 != 0)
            || m.mode() & 0o004 != 0
    };
    let secrets = p.vaults_of(db).flat_map(|v| v.key_file.iter().chain(&v.passphrase_file));
    if uid == 0 || !secrets.into_iter().all(|f| std::fs::metadata(f).is_ok_and(|m| reads(&m))) {
        return;
    }
    let Ok(exe) = std::env::current_exe() else { return };
    // Returns only if that user may not run the program: then root does it.
    let _ = std::process::Command::new(exe).args(std::env::args_os().skip(1)).uid(uid).gid(gid).exec();
}
