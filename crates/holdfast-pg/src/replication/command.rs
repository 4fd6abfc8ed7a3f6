//! Commands that are answered with rows.

use super::wire::{Replication, Said, odd};
use crate::error::{PgError, Result};
use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use holdfast_core::{Lsn, TimelineId};
use postgres_protocol::message::backend::{DataRowBody, Message};
use postgres_protocol::message::frontend;

/// A row as text.
pub type Row = Vec<Option<String>>;

/// Answers of `IDENTIFY_SYSTEM`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub system_identifier: u64,
    pub timeline: TimelineId,
    pub flushed: Lsn,
}

pub(super) fn row(body: &DataRowBody) -> Result<Row> {
    let mut out = Vec::new();
    let mut ranges = body.ranges();
    while let Some(r) = ranges.next().map_err(|e| odd(e.to_string()))? {
        let bytes = r.map(|r| body.buffer().get(r).ok_or_else(|| odd("a column is outside of its row")));
        out.push(bytes.transpose()?.map(|b| String::from_utf8_lossy(b).into_owned()));
    }
    Ok(out)
}

/// How much one command may answer: no list of tablespaces is longer, and a server may be hostile.
#[derive(Debug)]
pub(super) struct Room(usize);

impl Default for Room {
    fn default() -> Self {
        Room(16 << 20)
    }
}

impl Room {
    /// Before a row of so many bytes is kept.
    pub(super) fn take(&mut self, bytes: usize) -> Result<()> {
        const OF_A_ROW: usize = 256;
        let left = self.0.checked_sub(bytes.saturating_add(OF_A_ROW));
        self.0 = left.ok_or_else(|| odd("the server's answer has no end"))?;
        Ok(())
    }
}

/// A column that must be there.
pub(super) fn column<T: std::str::FromStr>(row: &Row, n: usize, what: &str) -> Result<T> {
    let text = row.get(n).and_then(Option::as_ref).ok_or_else(|| odd(format!("there is no {what}")))?;
    text.parse().map_err(|_| odd(format!("`{text}` is no {what}")))
}

/// A text in a command.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

impl Replication {
    pub(super) async fn ask(&mut self, command: &str) -> Result<()> {
        let mut out = BytesMut::new();
        frontend::query(command, &mut out).map_err(|e| odd(e.to_string()))?;
        self.send(&out).await
    }

    /// Reads up to the server's readiness; its error, if there was one.
    pub(super) async fn until_ready(&mut self, mut failed: Option<PgError>, what: &str) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        let mut room = Room::default();
        loop {
            match self.message().await {
                Ok(Message::DataRow(d)) => {
                    room.take(d.buffer().len())?;
                    rows.push(row(&d)?);
                }
                Ok(Message::ErrorResponse(e)) => {
                    let said = Said::read(e.fields())?;
                    failed.get_or_insert(said.error(what));
                }
                Ok(Message::ReadyForQuery(_)) => return failed.map_or(Ok(rows), Err),
                Ok(_) => {}
                // A fatal error is followed by the end of the session: it is the reason.
                Err(e) => return Err(failed.unwrap_or(e)),
            }
        }
    }

    /// The rows that a command answers with.
    pub async fn rows(&mut self, command: &str) -> Result<Vec<Row>> {
        self.ask(command).await?;
        let what = command.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        self.until_ready(None, &what).await
    }

    async fn one(&mut self, command: &str) -> Result<Row> {
        let rows = self.rows(command).await?;
        rows.into_iter().next().ok_or_else(|| odd(format!("`{command}` has no answer")))
    }

    pub async fn identify(&mut self) -> Result<Identity> {
        let r = self.one("IDENTIFY_SYSTEM").await?;
        Ok(Identity {
            system_identifier: column(&r, 0, "system identifier")?,
            timeline: TimelineId(column(&r, 1, "timeline")?),
            flushed: column(&r, 2, "position")?,
        })
    }

    /// A setting's value. `name` is one of ours, not a user's.
    pub async fn show(&mut self, name: &str) -> Result<String> {
        let r = self.one(&format!("SHOW {name}")).await?;
        column(&r, 0, "setting")
    }

    /// A slot that keeps the server from removing WAL from now on, for as long as this session lives.
    pub async fn keep_wal(&mut self, slot: &str) -> Result<()> {
        self.rows(&format!("CREATE_REPLICATION_SLOT {slot} TEMPORARY PHYSICAL (RESERVE_WAL true)")).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Room;

    #[test]
    fn answers_have_an_end() {
        let mut empty = Room::default();
        assert!((0..100_000).any(|_| empty.take(0).is_err()));
        assert!(Room::default().take(64 << 20).is_err() && Room::default().take(usize::MAX).is_err());
        assert!(Room::default().take(4096).is_ok());
    }
}
