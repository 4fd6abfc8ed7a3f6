//! The running server that is backed up, and its files.

use crate::context::Context;
use crate::error::{EngineError, Result};
use holdfast_pg::connect::Session;
use holdfast_pg::datadir::{Layout, read_control};
use holdfast_pg::server::{Server, archiver};
use holdfast_pgformat::control::ControlFile;
use std::path::PathBuf;

/// The running server and its files.
#[derive(Debug)]
pub struct Origin {
    pub session: Session,
    pub server: Server,
    pub data_dir: PathBuf,
    pub control: ControlFile,
    pub layout: Layout,
    pub archiver_works: bool,
}

impl Origin {
    /// Asks the server, reads its control file, and refuses what cannot be backed up.
    pub async fn inspect(ctx: &Context) -> Result<Self> {
        let session = Session::connect(ctx.conninfo()?).await?;
        let server = Server::inspect(&session, ctx.allow_unsupported).await?;
        let data_dir = ctx.db.data_directory.clone().unwrap_or_else(|| server.data_directory.clone());
        if data_dir.as_os_str().is_empty() {
            return Err(EngineError::refused(
                "the server does not tell its data directory to this user",
                "grant pg_read_all_settings to it, or set `data-directory` in the policy",
            ));
        }
        let (_, control) = read_control(&data_dir)?;
        if control.system_identifier != server.system_identifier {
            return Err(EngineError::refused(
                format!(
                    "`{}` is not the data directory of the server at {}",
                    data_dir.display(),
                    session.at()
                ),
                "check `source` and `data-directory` of the database in the policy",
            ));
        }
        is_running_here(&session, &data_dir, &control).await?;
        // A copy in recovery is none: it has recovery.signal, stops somewhere, and its history is its own.
        if server.in_recovery && !data_dir.join("standby.signal").exists() {
            return Err(EngineError::refused(
                "the server is in recovery and is no standby",
                "wait until its recovery has ended, or point `source` at the primary or a standby",
            ));
        }
        let layout = Layout::read(&data_dir)?;
        // A standby's WAL is archived by its primary, unless it is told to do so too.
        let archiver_works = server.in_recovery || (server.archiving() && !archiver(&session).await?.failing);
        Ok(Origin { session, server, data_dir, control, layout, archiver_works })
    }
}

/// A standby's or a clone's directory has the same system identifier: only the server that we talk to
/// may be running on this one. Its pid file says when that server started (line 3, seconds).
async fn is_running_here(session: &Session, data_dir: &std::path::Path, control: &ControlFile) -> Result<()> {
    let elsewhere = || {
        EngineError::refused(
            format!("the server at {} does not run on `{}` of this host", session.at(), data_dir.display()),
            "run holdfast on the server's own host, and check `source` and `data-directory` in the policy; without \
             access to its files set `method = \"remote\"`, or give --remote",
        )
    };
    if control.state != holdfast_pgformat::control::DbState::InProduction
        && control.state != holdfast_pgformat::control::DbState::InArchiveRecovery
    {
        return Err(elsewhere());
    }
    let started = session
        .text("select extract(epoch from pg_postmaster_start_time())::bigint::text")
        .await?
        .parse::<i64>()
        .map_err(|_| elsewhere())?;
    let pid_file = data_dir.join("postmaster.pid");
    let text = std::fs::read_to_string(&pid_file).map_err(|_| elsewhere())?;
    let here = text.lines().nth(2).and_then(|l| l.trim().parse::<i64>().ok()).ok_or_else(elsewhere)?;
    // The file's time is taken a moment earlier than the server's own.
    if (started - here).abs() > 5 { Err(elsewhere()) } else { Ok(()) }
}
