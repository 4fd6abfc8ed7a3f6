//! `BASE_BACKUP` as 15 and later speak it: one copy in which archives, the manifest and progress come by
//! turns (PostgreSQL docs, "Streaming Replication Protocol"; src/backend/backup/basebackup_copy.c).
//!
//! Use: [`Replication::base_backup`], then [`Replication::piece`] until it gives `None`, then
//! [`Replication::end_backup`]. An error of the server ends the copy; the session can be used on.

use super::command::{Room, Row, column, quoted, row};
use super::wire::{Replication, Said, odd, take_text};
use crate::error::{PgError, Result};
use bytes::{Buf, Bytes, BytesMut};
use holdfast_core::{Lsn, TimelineId};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct BaseBackup {
    pub label: String,
    pub fast: bool,
    /// The WAL from start to stop comes at the end of the main archive.
    pub wal: bool,
    /// A manifest was uploaded.
    pub incremental: bool,
    /// Bytes per second; 0 = no limit.
    pub max_rate: u64,
}

/// `MAX_RATE` in kB, in the server's limits (32 kB to 1 GB).
fn rate_kb(bytes: u64) -> u64 {
    (bytes / 1024).clamp(32, 1 << 20)
}

impl BaseBackup {
    fn command(&self) -> String {
        let mut options = vec![
            format!("LABEL {}", quoted(&self.label)),
            "PROGRESS true".into(),
            format!("CHECKPOINT {}", quoted(if self.fast { "fast" } else { "spread" })),
            format!("WAL {}", self.wal),
            // The archiver is waited for elsewhere, if at all.
            "WAIT false".into(),
            "MANIFEST 'yes'".into(),
            "MANIFEST_CHECKSUMS 'CRC32C'".into(),
            "TABLESPACE_MAP true".into(),
            // The server would end the whole backup for one bad page; ours are judged as they come.
            "VERIFY_CHECKSUMS false".into(),
        ];
        if self.incremental {
            options.push("INCREMENTAL".into());
        }
        if self.max_rate > 0 {
            options.push(format!("MAX_RATE {}", rate_kb(self.max_rate)));
        }
        format!("BASE_BACKUP ({})", options.join(", "))
    }
}

/// A tablespace as the server lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablespaceHead {
    pub oid: u32,
    pub location: String,
}

/// The backup has started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    pub start_lsn: Lsn,
    pub timeline: TimelineId,
    pub tablespaces: Vec<TablespaceHead>,
    /// The server's estimate of what it will send.
    pub bytes: u64,
}

/// A part of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// An archive begins; the main one has no location.
    Archive { name: String, location: String },
    /// The manifest begins.
    Manifest,
    /// Bytes of what began last.
    Data(Bytes),
}

/// One `CopyData` message. `None`: progress, which our own count replaces.
pub fn parse_piece(mut b: Bytes) -> Result<Option<Piece>> {
    if b.is_empty() {
        return Err(odd("an empty part of a backup"));
    }
    Ok(match b.get_u8() {
        b'n' => {
            let name = take_text(&mut b)?;
            let location = take_text(&mut b)?;
            Some(Piece::Archive { name, location })
        }
        b'm' => Some(Piece::Manifest),
        b'd' => Some(Piece::Data(b)),
        b'p' if b.len() == 8 => None,
        other => return Err(odd(format!("a part of a backup of kind {other}"))),
    })
}

impl Replication {
    /// Gives the server the manifest of the backup to build on.
    pub async fn upload_manifest(&mut self, manifest: &[u8]) -> Result<()> {
        const WHAT: &str = "upload_manifest";
        self.ask("UPLOAD_MANIFEST").await?;
        match self.message().await? {
            Message::CopyInResponse(_) => {}
            Message::ErrorResponse(e) => {
                let failed = Said::read(e.fields())?.error(WHAT);
                self.until_ready(Some(failed), WHAT).await?;
            }
            _ => return Err(odd("no copy begins")),
        }
        for part in manifest.chunks(1 << 16) {
            let mut out = BytesMut::with_capacity(part.len() + 5);
            frontend::CopyData::new(part).map_err(|e| odd(e.to_string()))?.write(&mut out);
            self.send(&out).await?;
        }
        let mut out = BytesMut::new();
        frontend::copy_done(&mut out);
        self.send(&out).await?;
        self.until_ready(None, WHAT).await?;
        Ok(())
    }

    /// Starts; waits for a checkpoint.
    pub async fn base_backup(&mut self, asked: &BaseBackup) -> Result<Started> {
        const WHAT: &str = "base_backup";
        self.ask(&asked.command()).await?;
        let mut rows: Vec<Vec<Row>> = Vec::new();
        let mut room = Room::default();
        loop {
            match self.message().await? {
                Message::RowDescription(_) => {
                    room.take(0)?;
                    rows.push(Vec::new());
                }
                Message::DataRow(d) => {
                    room.take(d.buffer().len())?;
                    rows.last_mut().ok_or_else(|| odd("a row without a head"))?.push(row(&d)?);
                }
                Message::CommandComplete(_) => {}
                Message::CopyOutResponse(_) => break,
                Message::ErrorResponse(e) => {
                    let failed = Said::read(e.fields())?.error(WHAT);
                    self.until_ready(Some(failed), WHAT).await?;
                    return Err(odd("an error that was none"));
                }
                _ => return Err(odd("no backup begins")),
            }
        }
        let start = rows.first().and_then(|r| r.first()).ok_or_else(|| odd("there is no start"))?;
        let mut started = Started {
            start_lsn: column(start, 0, "start")?,
            timeline: TimelineId(column(start, 1, "timeline")?),
            tablespaces: Vec::new(),
            bytes: 0,
        };
        for t in rows.get(1).into_iter().flatten() {
            let kb: u64 = column(t, 2, "size").unwrap_or(0);
            started.bytes = started.bytes.saturating_add(kb.saturating_mul(1024));
            // The main data directory has neither.
            if t.first().is_some_and(Option::is_some) {
                let (oid, location) = (column(t, 0, "tablespace")?, column(t, 1, "location")?);
                started.tablespaces.push(TablespaceHead { oid, location });
            }
        }
        Ok(started)
    }

    /// The next part of the stream; `None` after the last.
    pub async fn piece(&mut self) -> Result<Option<Piece>> {
        loop {
            match self.message().await? {
                Message::CopyData(d) => match parse_piece(d.into_bytes())? {
                    Some(p) => return Ok(Some(p)),
                    None => continue,
                },
                Message::CopyDone => return Ok(None),
                Message::ErrorResponse(e) => {
                    let failed = Said::read(e.fields())?.error("base_backup");
                    self.until_ready(Some(failed), "base_backup").await?;
                    return Err(odd("an error that was none"));
                }
                _ => return Err(odd("the copy of a backup was broken off")),
            }
        }
    }

    /// After the last piece: where the backup ends.
    pub async fn end_backup(&mut self) -> Result<(Lsn, TimelineId)> {
        let rows = self.until_ready(None, "base_backup").await?;
        let end = rows.last().ok_or_else(|| PgError::Protocol("the backup has no end".into()))?;
        Ok((column(end, 0, "end")?, TimelineId(column(end, 1, "timeline")?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_stream() {
        let p = |b: &'static [u8]| parse_piece(Bytes::from_static(b));
        let name =
            |name: &str, location: &str| Piece::Archive { name: name.into(), location: location.into() };
        assert_eq!(p(b"nbase.tar\0\0").unwrap(), Some(name("base.tar", "")));
        assert_eq!(p(b"n16400.tar\0/spc\0").unwrap(), Some(name("16400.tar", "/spc")));
        assert_eq!(p(b"dxyz").unwrap(), Some(Piece::Data(Bytes::from_static(b"xyz"))));
        assert_eq!(p(b"m").unwrap(), Some(Piece::Manifest));
        assert_eq!(p(b"p\0\0\0\0\0\0\0\x01").unwrap(), None);
        for bad in [&b""[..], b"nbase.tar", b"nbase.tar\0", b"n\xff\0\0", b"p\0", b"x"] {
            assert!(p(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_command_is_what_the_server_reads() {
        let b = BaseBackup { label: "o'clock".into(), max_rate: 10 << 20, wal: true, ..Default::default() };
        let text = b.command();
        assert!(text.contains("LABEL 'o''clock'") && text.contains("MAX_RATE 10240"), "{text}");
        assert!(text.contains("WAL true") && !text.contains("INCREMENTAL"), "{text}");
        assert_eq!((rate_kb(1), rate_kb(u64::MAX)), (32, 1 << 20));
    }
}
