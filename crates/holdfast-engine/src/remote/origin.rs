//! The running server, asked from elsewhere: [`RemoteOrigin`].

use crate::context::Context;
use crate::error::{EngineError, Result};
use holdfast_pg::connect::Session;
use holdfast_pg::replication::Replication;
use holdfast_pg::server::{Server, archiver};

/// A server that is reached over the network only.
#[derive(Debug)]
pub struct RemoteOrigin {
    pub session: Session,
    pub server: Server,
    /// Permissions of the data directory.
    pub root_mode: u32,
    /// As the server tells it, if it does.
    pub data_directory: String,
    /// An archive command is set and does not fail.
    pub archiver_works: bool,
    /// WAL of this server comes into the archive by itself.
    pub in_archive: bool,
}

impl RemoteOrigin {
    /// Opens both kinds of session, and refuses what cannot be backed up.
    pub async fn inspect(ctx: &Context) -> Result<Self> {
        let conninfo = ctx.conninfo()?;
        let session = Session::connect(conninfo).await?;
        let server = Server::inspect(&session, ctx.allow_unsupported).await?;
        let mut replication = Replication::connect(conninfo).await?;
        let identity = replication.identify().await?;
        if identity.system_identifier != server.system_identifier {
            return Err(EngineError::refused(
                format!("the sessions with {} lead to different clusters", session.at()),
                "name one server in `source` of the database in the policy",
            ));
        }
        // Octal: 0700 or 0750.
        let mode = replication.show("data_directory_mode").await?;
        let root_mode = u32::from_str_radix(&mode, 8).unwrap_or(0o700) & 0o777;
        let data_directory = match server.data_directory.as_os_str().is_empty() {
            true => "(not told)".to_string(),
            false => server.data_directory.display().to_string(),
        };
        let archiver_works = server.in_recovery || (server.archiving() && !archiver(&session).await?.failing);
        let in_archive = archiver_works && server.setting("archive_command").contains(" wal push");
        warn_of_outside_config(ctx, &server);
        Ok(RemoteOrigin { session, server, root_mode, data_directory, archiver_works, in_archive })
    }

    /// The server's clock.
    pub async fn now(&self) -> Result<jiff::Timestamp> {
        let sql = "select to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
        let text = self.session.text(sql).await?;
        text.parse().map_err(|_| EngineError::failed("the server's clock cannot be read", "run it again"))
    }
}

/// Debian keeps them in /etc/postgresql; no base backup has them.
fn warn_of_outside_config(ctx: &Context, s: &Server) {
    let file = s.setting("config_file");
    if !file.is_empty()
        && !s.data_directory.as_os_str().is_empty()
        && !std::path::Path::new(file).starts_with(&s.data_directory)
    {
        ctx.monitor
            .info(format!("`{file}` lies outside of the data directory and is not part of this point"));
    }
}
