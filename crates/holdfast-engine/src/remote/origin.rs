//! The running server, asked from elsewhere: [`RemoteOrigin`].

use crate::context::Context;
use crate::error::{EngineError, Result};
use holdfast_core::TimelineId;
use holdfast_pg::connect::Session;
use holdfast_pg::replication::Replication;
use holdfast_pg::server::{Server, archiver};

/// A server that is reached over the network only.
#[derive(Debug)]
pub struct RemoteOrigin {
    pub session: Session,
    pub server: Server,
    /// That the server writes or replays now; its last checkpoint may be of an older one.
    pub timeline: TimelineId,
    /// Permissions of the data directory.
    pub root_mode: u32,
    /// As the server tells it, if it does.
    pub data_directory: String,
    /// An archive command is set and does not fail.
    pub archiver_works: bool,
    /// Its archive command is one of ours. A push that fails just now may succeed in a moment.
    pub pushes: bool,
    /// WAL of this server comes into the archive by itself.
    pub in_archive: bool,
}

impl RemoteOrigin {
    /// Opens both kinds of session, and refuses what cannot be backed up.
    pub async fn inspect(ctx: &Context) -> Result<Self> {
        let conninfo = ctx.conninfo()?;
        let session = Session::connect(conninfo).await?;
        let server = Server::inspect(&session, ctx.allow_unsupported).await?;
        geometry(&server)?;
        let mut replication = Replication::connect(conninfo).await?;
        let timeline = replication.identify().await?.timeline;
        same_server(&mut replication, &server, timeline).await?;
        if !server.in_recovery {
            // SQL's side of it.
            let name = session.text("select pg_walfile_name(pg_current_wal_lsn())").await?;
            if name.get(..8).and_then(|t| TimelineId::from_hex(t).ok()) != Some(timeline) {
                return Err(different(session.at()));
            }
        }
        // Octal: 0700 or 0750.
        let mode = replication.show("data_directory_mode").await?;
        let root_mode = u32::from_str_radix(&mode, 8).unwrap_or(0o700) & 0o777;
        let data_directory = match server.data_directory.as_os_str().is_empty() {
            true => "(not told)".to_string(),
            false => server.data_directory.display().to_string(),
        };
        let archiver_works = server.in_recovery || (server.archiving() && !archiver(&session).await?.failing);
        let pushes = server.setting("archive_command").contains(" wal push");
        let in_archive = archiver_works && pushes;
        let pushes = pushes && server.archiving() && !server.in_recovery;
        warn_of_outside_config(ctx, &server);
        Ok(RemoteOrigin {
            session,
            server,
            timeline,
            root_mode,
            data_directory,
            archiver_works,
            pushes,
            in_archive,
        })
    }

    /// Another replication session, with the same server.
    pub async fn replication(&self, ctx: &Context) -> Result<Replication> {
        let mut r = Replication::connect(ctx.conninfo()?).await?;
        same_server(&mut r, &self.server, self.timeline).await?;
        Ok(r)
    }

    /// The server's clock.
    pub async fn now(&self) -> Result<jiff::Timestamp> {
        let sql = "select to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
        let text = self.session.text(sql).await?;
        text.parse().map_err(|_| EngineError::failed("the server's clock cannot be read", "run it again"))
    }
}

fn different(at: &str) -> EngineError {
    EngineError::refused(
        format!("the sessions with {at} lead to different servers"),
        "name one server in `source` of the database in the policy",
    )
}

/// Several hosts, or an address that moves: each session may reach another server.
async fn same_server(r: &mut Replication, server: &Server, timeline: TimelineId) -> Result<()> {
    let identity = r.identify().await?;
    let standby = r.show("in_hot_standby").await? == "on";
    if (identity.system_identifier, identity.timeline, standby)
        != (server.system_identifier, timeline, server.in_recovery)
    {
        return Err(different(r.at()));
    }
    Ok(())
}

/// Everything that is computed from blocks goes by these numbers, and they come over the network.
fn geometry(s: &Server) -> Result<()> {
    if plausible(s.block_size, s.segment_blocks) {
        return Ok(());
    }
    Err(EngineError::refused(
        format!(
            "the server says that it has {} blocks of {} bytes in a file",
            s.segment_blocks, s.block_size
        ),
        "no postgresql is built so; check `source` of the database in the policy",
    ))
}

/// What `configure` accepts: 1 to 32 kB, and files of up to a few TiB.
fn plausible(block_size: u32, segment_blocks: u32) -> bool {
    block_size.is_power_of_two()
        && (1 << 10..=32 << 10).contains(&block_size)
        && (1..=1 << 28).contains(&segment_blocks)
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

#[cfg(test)]
mod tests {
    use super::plausible;

    #[test]
    fn only_what_postgresql_is_built_with() {
        assert!(plausible(8192, 131_072) && plausible(1024, 1 << 20) && plausible(32_768, 1));
        for (block, segment) in
            [(0, 131_072), (512, 1), (8191, 131_072), (65_536, 1), (2 << 20, 1), (8192, 0)]
        {
            assert!(!plausible(block, segment), "{block} {segment}");
        }
        assert!(!plausible(8192, u32::MAX));
    }
}
