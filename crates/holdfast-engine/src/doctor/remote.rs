//! A database that is backed up over the replication protocol: `postgres.replication`, `postgres.summaries`.

use super::server::patient;
use super::{Line, Status};
use crate::context::Context;
use crate::error::EngineError;
use holdfast_pg::replication::Replication;
use holdfast_pg::server::Server;

const SESSION: &str = "postgres.replication";
const SUMMARIES: &str = "postgres.summaries";

pub(super) async fn check(ctx: &Context, server: Option<&Server>) -> Vec<Line> {
    let mut lines = vec![match session(ctx, server).await {
        Ok(line) => line,
        Err(e) => Line::error(SESSION, Status::Fail, &e),
    }];
    lines.extend(server.and_then(summaries));
    lines
}

async fn session(ctx: &Context, server: Option<&Server>) -> Result<Line, EngineError> {
    let conninfo = ctx.conninfo()?;
    let mut s = patient(Replication::connect(conninfo)).await?;
    let identity = patient(s.identify()).await?;
    if server.is_some_and(|k| k.system_identifier != identity.system_identifier) {
        return Ok(Line::fail(
            SESSION,
            "replication and other sessions lead to different clusters",
            format!("name one server in `source` of [databases.{}] in the policy", ctx.db.name),
        ));
    }
    Ok(Line::ok(SESSION, format!("the server at {} takes replication sessions of this user", s.at())))
}

/// Without them an incremental brings everything over the network.
fn summaries(s: &Server) -> Option<Line> {
    if s.version_num < crate::remote::SUMMARIES_SINCE {
        return None;
    }
    Some(match s.setting("summarize_wal") {
        "on" => Line::ok(SUMMARIES, "summarize_wal is on: incremental backups send what changed"),
        _ => Line::warn(
            SUMMARIES,
            "summarize_wal is off: incremental backups send everything over the network",
            "alter system set summarize_wal = on; select pg_reload_conf();",
        ),
    })
}
