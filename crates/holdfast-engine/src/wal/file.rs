//! A file that goes into the archive: [`WalFile`]. It is judged by its first page and its size; a segment
//! is then read piece by piece while it is sealed, by [`Reading`], and never held whole. In the same pass it
//! is looked through for the pages that it changes, which are stored with it: see [`super::changes`].

use crate::error::{EngineError, Result};
use holdfast_core::TimelineId;
use holdfast_pgformat::changes::{SegmentScanner, scan_part_changes};
use holdfast_pgformat::control::ControlFile;
use holdfast_pgformat::scan::LOOK_AHEAD;
use holdfast_pgformat::wal::{SegmentHeader, WAL_PAGE_SIZE, segment_header};
use holdfast_pgformat::walname::WalFileName;
use holdfast_vault::digest::{CONTENT_PIECE, Digests};
use holdfast_vault::walobj::{Plain, WalFacts};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// A file for the archive whose name and content fit together.
#[derive(Debug)]
pub struct WalFile {
    pub name: String,
    pub kind: WalFileName,
    path: PathBuf,
    body: Body,
    pub system_identifier: u64,
    pub major: u16,
    pub segment_size: holdfast_core::SegmentSize,
    pub block_size: u32,
}

#[derive(Debug)]
enum Body {
    Segment {
        file: File,
        head: SegmentHeader,
    },
    /// Histories are short.
    Text(Vec<u8>),
}

impl WalFile {
    /// Checks a file against its name and the control file of its data directory.
    pub fn open(path: &Path, name: &str, kind: WalFileName, control: &ControlFile) -> Result<Self> {
        let wrong = |what: String| {
            EngineError::refused(what, "nothing was stored; this file is not what its name says")
        };
        let size = control.wal_segment_size;
        if !kind.fits(size) {
            return Err(wrong(format!("`{name}` is no segment with segments of {} bytes", size.bytes())));
        }
        let body = match kind {
            WalFileName::Segment(segment) | WalFileName::Partial(segment) => {
                let file = File::open(path).map_err(EngineError::io("read", path))?;
                let len = file.metadata().map_err(EngineError::io("read", path))?.len();
                if len != size.bytes() {
                    return Err(wrong(format!("`{name}` has {len} bytes instead of {}", size.bytes())));
                }
                let mut page = [0u8; WAL_PAGE_SIZE as usize];
                file.read_exact_at(&mut page, 0).map_err(EngineError::io("read", path))?;
                let head = segment_header(&page)
                    .map_err(|e| wrong(format!("`{name}` is not a wal segment: {e}")))?;
                if head.system_id != control.system_identifier {
                    return Err(wrong(format!(
                        "`{name}` is of system {}, and this cluster is {}",
                        head.system_id, control.system_identifier
                    )));
                }
                if control.major().is_some_and(|m| m.number() != head.major.number()) {
                    return Err(wrong(format!("`{name}` was written by postgresql {}", head.major.number())));
                }
                if head.segment_size != size || !head.matches_name(segment) {
                    return Err(wrong(format!(
                        "`{name}` holds the wal of another position ({})",
                        head.page_addr
                    )));
                }
                Body::Segment { file, head }
            }
            _ => Body::Text(std::fs::read(path).map_err(EngineError::io("read", path))?),
        };
        let of_head = match &body {
            Body::Segment { head, .. } => Some(head.major.number()),
            Body::Text(_) => None,
        };
        Ok(WalFile {
            name: name.into(),
            kind,
            path: path.to_path_buf(),
            body,
            system_identifier: control.system_identifier,
            major: of_head.or(control.major().map(|m| m.number())).unwrap_or(0) as u16,
            segment_size: size,
            block_size: control.block_size,
        })
    }

    pub fn timeline(&self) -> TimelineId {
        self.kind.timeline()
    }

    /// The content of a file that is no segment.
    pub fn text(&self) -> Option<&Vec<u8>> {
        match &self.body {
            Body::Text(t) => Some(t),
            Body::Segment { .. } => None,
        }
    }

    /// For sealing.
    pub fn reading(&self) -> Reading<'_> {
        Reading { file: self, scanner: Mutex::new(SegmentScanner::new()) }
    }

    /// The content digest, by itself.
    pub fn digest(&self, digests: &Digests) -> Result<[u8; 32]> {
        let reading = self.reading();
        let (mut at, mut pieces, mut buf) = (0, Vec::new(), vec![0; CONTENT_PIECE]);
        while at < reading.size() {
            let n = usize::try_from(reading.size() - at).unwrap_or(usize::MAX).min(CONTENT_PIECE);
            let piece = buf.get_mut(..n).unwrap_or_default();
            reading.read_at(at, piece).map_err(EngineError::io("read", &self.path))?;
            pieces.push(digests.frame(piece));
            at += n as u64;
        }
        Ok(digests.content_of_pieces(&pieces))
    }
}

/// One pass over a file; what its pieces hold is put together in the end.
#[derive(Debug)]
pub struct Reading<'a> {
    file: &'a WalFile,
    scanner: Mutex<SegmentScanner>,
}

impl Plain for Reading<'_> {
    fn size(&self) -> u64 {
        match &self.file.body {
            Body::Segment { .. } => self.file.segment_size.bytes(),
            Body::Text(t) => t.len() as u64,
        }
    }

    fn read_at(&self, at: u64, buf: &mut [u8]) -> std::io::Result<()> {
        match &self.file.body {
            Body::Segment { file, .. } => file.read_exact_at(buf, at),
            Body::Text(t) => (t.as_slice(), WalFacts::default()).read_at(at, buf),
        }
    }

    fn look_ahead(&self) -> usize {
        LOOK_AHEAD
    }

    fn look(&self, at: u64, piece: &[u8]) {
        if let Body::Segment { head, .. } = &self.file.body {
            let part = scan_part_changes(head, piece, at, CONTENT_PIECE, self.file.block_size);
            if let Ok(mut scanner) = self.scanner.lock() {
                scanner.add(part);
            }
        }
    }

    fn finish(&self) -> (WalFacts, Vec<u8>) {
        let mut f = WalFacts {
            system_identifier: self.file.system_identifier,
            timeline: self.file.timeline().0,
            major: self.file.major,
            segment_size: self.file.segment_size.bytes() as u32,
            ..Default::default()
        };
        let whole = self.scanner.lock().ok().and_then(|mut s| std::mem::take(&mut *s).finish());
        let Some(whole) = whole else { return (f, Vec::new()) };
        if let Ok(s) = &whole.facts {
            f.first_time = s.first_time.unwrap_or(0);
            f.last_time = s.last_time.unwrap_or(0);
            f.end_lsn = s.end_of_data.0;
            f.flags = s.directory_ops.bits();
        }
        // A partial segment's end is not its end: no window goes by it.
        let changes = match self.file.kind {
            WalFileName::Segment(_) => whole.changes.encode(),
            _ => Vec::new(),
        };
        (f, changes)
    }
}
