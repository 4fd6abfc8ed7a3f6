//! Backup manifests (PostgreSQL docs, "Backup Manifest Format"): the server's is compared with what arrived
//! ([`Manifest::parse`], [`Manifest::compare`]), and one of a point that we have is made for
//! `UPLOAD_MANIFEST` ([`Upload`]).
//!
//! Of an uploaded manifest the server reads the system identifier, the ranges of WAL, and which files there
//! are; nothing of their content (src/backend/backup/basebackup_incremental.c). A file that is not named comes
//! whole. So only main forks of relations are named: a visibility map that lost a bit has no record of its
//! own in the WAL, and a page that was damaged in the parent must come again.

use aws_lc_rs::digest::{SHA256, digest};
use holdfast_core::{Lsn, TimelineId};
use holdfast_vault::vault::hex;
use serde::Deserialize;
use std::collections::HashMap;
use std::fmt::Write;

/// What arrived under a name: its length and CRC-32C.
pub type Arrived = HashMap<Vec<u8>, (u64, u32)>;

#[derive(Debug, Deserialize)]
struct File {
    #[serde(rename = "Path")]
    path: Option<String>,
    #[serde(rename = "Encoded-Path")]
    encoded: Option<String>,
    #[serde(rename = "Size")]
    size: u64,
    #[serde(rename = "Checksum-Algorithm")]
    algorithm: Option<String>,
    #[serde(rename = "Checksum")]
    checksum: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Range {
    #[serde(rename = "Timeline")]
    timeline: u32,
    #[serde(rename = "Start-LSN")]
    start: String,
    #[serde(rename = "End-LSN")]
    end: String,
}

/// A server's manifest.
#[derive(Debug, Deserialize)]
pub struct Manifest {
    #[serde(rename = "System-Identifier")]
    system_identifier: Option<u64>,
    #[serde(rename = "Files")]
    files: Vec<File>,
    #[serde(rename = "WAL-Ranges")]
    ranges: Vec<Range>,
    #[serde(rename = "Manifest-Checksum")]
    checksum: String,
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(text.get(i..i + 2)?, 16).ok()).collect()
}

/// Where the line with the manifest's own checksum begins.
fn body_len(bytes: &[u8]) -> Option<usize> {
    let last = bytes.strip_suffix(b"\n")?;
    Some(last.iter().rposition(|b| *b == b'\n')? + 1)
}

impl Manifest {
    /// Reads a manifest and checks its own checksum.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let m: Manifest = serde_json::from_slice(bytes).map_err(|e| format!("the backup manifest: {e}"))?;
        let body = body_len(bytes).and_then(|n| bytes.get(..n)).ok_or("the backup manifest has no lines")?;
        if unhex(&m.checksum).as_deref() != Some(digest(&SHA256, body).as_ref()) {
            return Err("the backup manifest does not match its own checksum".into());
        }
        Ok(m)
    }

    /// Is it of the backup from `start` to `stop`?
    pub fn is_of(&self, timeline: TimelineId, start: Lsn, stop: Lsn) -> Result<(), String> {
        let same =
            |r: &Range| r.timeline == timeline.0 && r.start.parse() == Ok(start) && r.end.parse() == Ok(stop);
        match self.ranges.as_slice() {
            [r] if same(r) => Ok(()),
            _ => Err("the backup manifest is of another backup".into()),
        }
    }

    /// `Err`: what did not arrive as the server sent it.
    pub fn compare(&self, system_identifier: u64, mut arrived: Arrived) -> Result<(), String> {
        if self.system_identifier.is_some_and(|id| id != system_identifier) {
            return Err("the backup manifest is of another cluster".into());
        }
        for f in &self.files {
            let path = match (&f.path, &f.encoded) {
                (Some(p), None) => p.clone().into_bytes(),
                (None, Some(e)) => unhex(e).ok_or("a name in the backup manifest is malformed")?,
                _ => return Err("a file in the backup manifest has no name".into()),
            };
            let name = || String::from_utf8_lossy(&path).into_owned();
            let (size, crc) = arrived.remove(&path).ok_or_else(|| format!("`{}` did not arrive", name()))?;
            if size != f.size {
                return Err(format!("`{}` has {size} bytes and should have {}", name(), f.size));
            }
            // It was asked for; without it a file that arrived otherwise would not be noticed.
            let plain = f.size == 0 && f.checksum.is_none();
            if !plain && f.algorithm.as_deref() != Some("CRC32C") {
                return Err(format!("`{}` has no checksum in the backup manifest", name()));
            }
            if !plain && f.checksum.as_deref().and_then(unhex).as_deref() != Some(&crc.to_le_bytes()) {
                return Err(format!("`{}` did not arrive as the server sent it", name()));
            }
        }
        // Segments are not in it: they have checksums of their own.
        match arrived.keys().find(|p| !p.starts_with(b"pg_wal/")) {
            Some(p) => Err(format!("`{}` is not in the backup manifest", String::from_utf8_lossy(p))),
            None => Ok(()),
        }
    }
}

/// Writes a manifest for the server.
#[derive(Debug)]
pub struct Upload {
    text: String,
    files: usize,
}

impl Upload {
    pub fn new(system_identifier: u64) -> Self {
        let text = format!(
            "{{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\"System-Identifier\": {system_identifier},\n\"Files\": [\n"
        );
        Upload { text, files: 0 }
    }

    /// Names a file that the server may send in part.
    pub fn file(&mut self, path: &[u8], size: u64) {
        let comma = if self.files > 0 { ",\n" } else { "" };
        self.files += 1;
        // Names of relations are plain; the encoded form is right for any.
        let encoded = hex(path);
        let _ = write!(self.text, "{comma}{{ \"Encoded-Path\": \"{encoded}\", \"Size\": {size} }}");
    }

    pub fn finish(mut self, timeline: TimelineId, start: Lsn, end: Lsn) -> Vec<u8> {
        let _ = write!(
            self.text,
            "\n],\n\"WAL-Ranges\": [\n{{ \"Timeline\": {timeline}, \"Start-LSN\": \"{start}\", \
             \"End-LSN\": \"{end}\" }}\n],\n"
        );
        let sum = hex(digest(&SHA256, self.text.as_bytes()).as_ref());
        let _ = writeln!(self.text, "\"Manifest-Checksum\": \"{sum}\"}}");
        self.text.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_we_upload_can_be_read_and_compared() {
        let mut u = Upload::new(7_000_000_000_000_000_000);
        u.file(b"base/5/1", 0);
        u.file(b"base/5/2", 0);
        let bytes = u.finish(TimelineId(1), Lsn(0x200_0028), Lsn(0x200_0100));
        let m = Manifest::parse(&bytes).unwrap();
        let (start, end) = (Lsn(0x200_0028), Lsn(0x200_0100));
        assert_eq!(m.is_of(TimelineId(1), start, end), Ok(()));
        assert!(m.is_of(TimelineId(2), start, end).is_err() && m.is_of(TimelineId(1), end, end).is_err());
        let there: Arrived =
            [(b"base/5/1".to_vec(), (0, 7)), (b"base/5/2".to_vec(), (0, 0))].into_iter().collect();
        assert_eq!(m.compare(7_000_000_000_000_000_000, there.clone()), Ok(()));
        assert!(m.compare(7, there.clone()).unwrap_err().contains("another cluster"));
        let mut less = there.clone();
        less.remove(b"base/5/2".as_slice());
        assert!(m.compare(7_000_000_000_000_000_000, less).unwrap_err().contains("did not arrive"));
        let mut more = there.clone();
        more.insert(b"x".to_vec(), (1, 1));
        assert!(
            m.compare(7_000_000_000_000_000_000, more).unwrap_err().contains("not in the backup manifest")
        );
        let mut damaged = bytes.clone();
        let at = damaged.len() / 2;
        damaged[at] ^= 1;
        assert!(Manifest::parse(&damaged).is_err());
    }

    #[test]
    fn checksums_are_compared() {
        let of = |algorithm: &str, sum: &str| {
            let body = format!(
                "{{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n{{ \"Path\": \"a\", \"Size\": 3, \
                 \"Last-Modified\": \"2026-01-01 00:00:00 GMT\", \"Checksum-Algorithm\": \"{algorithm}\", \
                 \"Checksum\": \"{sum}\" }}\n],\n\"WAL-Ranges\": [],\n"
            );
            let own = hex(digest(&SHA256, body.as_bytes()).as_ref());
            Manifest::parse(format!("{body}\"Manifest-Checksum\": \"{own}\"}}\n").as_bytes()).unwrap()
        };
        let line = |sum: &str| of("CRC32C", sum);
        let there: Arrived = [(b"a".to_vec(), (3, 0x0102_0304))].into_iter().collect();
        assert_eq!(line("04030201").compare(1, there.clone()), Ok(()));
        assert!(line("04030202").compare(1, there.clone()).is_err());
        assert!(line("zz").compare(1, there.clone()).is_err());
        let unsure = of("NONE", "04030201").compare(1, there.clone());
        assert!(unsure.unwrap_err().contains("no checksum"));
        assert!(line("04030201").is_of(TimelineId(1), Lsn(1), Lsn(2)).is_err());
    }

    proptest! {
        #[test]
        fn nothing_panics(t in ".{0,300}", b in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Manifest::parse(t.as_bytes());
            let _ = Manifest::parse(&b);
            let _ = unhex(&t);
        }
    }
}
