//! The archives of a base backup, unpacked as they come: [`Unpacker`].
//!
//! Headers are read by the `tar` crate; its own readers pull from a file, and these bytes are pushed by a
//! server. At most a header is kept.

use bytes::{Buf, Bytes};
use tar::{EntryType, Header};

const BLOCK: usize = 512;

/// What an archive holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Without a slash at its end.
    pub path: Vec<u8>,
    pub kind: MemberKind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    /// Seconds since 1970.
    pub mtime: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberKind {
    File,
    Dir,
    Link,
}

/// What the next bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    Member(Member),
    /// Content of the last member.
    Data(Bytes),
    /// All of a file's content was there.
    End,
}

/// Reads one archive.
#[derive(Debug, Default)]
pub struct Unpacker {
    head: Vec<u8>,
    in_file: bool,
    left: u64,
    padding: u64,
    ended: bool,
}

impl Unpacker {
    /// The next part of `input`; `None` when it is used up.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<Part>, String> {
        loop {
            if self.in_file {
                if self.left == 0 {
                    self.in_file = false;
                    return Ok(Some(Part::End));
                }
                if input.is_empty() {
                    return Ok(None);
                }
                let n = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len());
                self.left -= n as u64;
                return Ok(Some(Part::Data(input.split_to(n))));
            }
            if input.is_empty() {
                return Ok(None);
            }
            if self.padding > 0 {
                let n = usize::try_from(self.padding).unwrap_or(usize::MAX).min(input.len());
                input.advance(n);
                self.padding -= n as u64;
                continue;
            }
            let n = (BLOCK - self.head.len()).min(input.len());
            self.head.extend_from_slice(&input.split_to(n));
            if self.head.len() < BLOCK {
                continue;
            }
            let head = std::mem::take(&mut self.head);
            if head.iter().all(|b| *b == 0) {
                self.ended = true;
                continue;
            }
            if self.ended {
                return Err("something follows the end of the archive".into());
            }
            let m = member(&head)?;
            if m.kind == MemberKind::File {
                self.in_file = true;
                self.left = m.size;
                self.padding = (BLOCK as u64 - m.size % BLOCK as u64) % BLOCK as u64;
            }
            return Ok(Some(Part::Member(m)));
        }
    }

    /// Was the end of the archive there?
    pub fn is_complete(&self) -> bool {
        self.ended && self.head.is_empty() && !self.in_file
    }
}

fn member(head: &[u8]) -> Result<Member, String> {
    let text = |e: std::io::Error| e.to_string();
    let h = Header::from_byte_slice(head);
    let sum: u32 = head
        .iter()
        .enumerate()
        .map(|(i, b)| if (148..156).contains(&i) { u32::from(b' ') } else { u32::from(*b) })
        .sum();
    if h.cksum().map_err(text)? != sum {
        return Err("the checksum of a header is wrong".into());
    }
    let kind = match h.entry_type() {
        EntryType::Regular => MemberKind::File,
        EntryType::Directory => MemberKind::Dir,
        EntryType::Symlink => MemberKind::Link,
        other => return Err(format!("a member of kind {:?}", char::from(other.as_byte()))),
    };
    let mut path = h.path_bytes().into_owned();
    while path.last() == Some(&b'/') {
        path.pop();
    }
    // As the server names what it makes up below pg_wal (src/backend/backup/basebackup.c, `sendDir`).
    if path.starts_with(b"./") {
        path.drain(..2);
    }
    let clean = |c: &[u8]| !c.is_empty() && c != b"." && c != b".." && !c.contains(&0);
    if !path.split(|b| *b == b'/').all(clean) {
        return Err(format!("a member is called {:?}", String::from_utf8_lossy(&path)));
    }
    let number = |n: std::io::Result<u64>| n.map_err(text).map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    Ok(Member {
        path,
        kind,
        mode: h.mode().map_err(text)? & 0o7777,
        uid: number(h.uid())?,
        gid: number(h.gid())?,
        size: if kind == MemberKind::File { h.entry_size().map_err(text)? } else { 0 },
        mtime: h.mtime().map_err(text)?.try_into().unwrap_or(i64::MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn archive(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut b = tar::Builder::new(Vec::new());
        for (name, data) in files {
            let mut h = Header::new_ustar();
            h.set_path(name).unwrap();
            h.set_size(data.len() as u64);
            h.set_mode(0o100_600);
            h.set_uid(26);
            h.set_gid(27);
            h.set_mtime(1_700_000_000);
            h.set_entry_type(if name.ends_with('/') { EntryType::Directory } else { EntryType::Regular });
            h.set_cksum();
            b.append(&h, data.as_slice()).unwrap();
        }
        b.into_inner().unwrap()
    }

    type Files = Vec<(Member, Vec<u8>)>;

    /// Reads an archive in pieces of `step` bytes.
    fn read(bytes: &[u8], step: usize) -> Result<(Files, bool), String> {
        let mut u = Unpacker::default();
        let mut out = Files::new();
        for piece in bytes.chunks(step.max(1)) {
            let mut input = Bytes::copy_from_slice(piece);
            while let Some(part) = u.next(&mut input)? {
                match part {
                    Part::Member(m) => out.push((m, Vec::new())),
                    Part::Data(d) => out.last_mut().unwrap().1.extend_from_slice(&d),
                    Part::End => {
                        let (m, d) = out.last().unwrap();
                        assert_eq!(m.size, d.len() as u64);
                    }
                }
            }
        }
        Ok((out, u.is_complete()))
    }

    #[test]
    fn archives_read_whatever_the_pieces() {
        let files =
            [("base/5/", vec![]), ("base/5/1", vec![7; 1000]), ("empty", vec![]), ("x", vec![1; 512])];
        let bytes = archive(&files);
        for step in [1, 7, 511, 512, 513, 100_000] {
            let (got, complete) = read(&bytes, step).unwrap();
            assert!(complete);
            assert_eq!(got.len(), files.len());
            for ((m, data), (name, want)) in got.iter().zip(&files) {
                assert_eq!(m.path, name.trim_end_matches('/').as_bytes());
                assert_eq!((data, m.uid, m.gid, m.mode), (want, 26, 27, 0o600));
                assert_eq!(m.kind == MemberKind::Dir, name.ends_with('/'));
            }
        }
        assert!(!read(&bytes[..bytes.len() - 1024], 512).unwrap().1);
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["../x", "a/../../x", "/etc/passwd", "a//b", "a/./b"] {
            let mut bytes = archive(&[("placeholder", vec![])]);
            bytes[..100].fill(0);
            bytes[..name.len()].copy_from_slice(name.as_bytes());
            let sum: u32 =
                (0..512).map(|i| u32::from(if (148..156).contains(&i) { b' ' } else { bytes[i] })).sum();
            bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            assert!(read(&bytes, 512).is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(b in proptest::collection::vec(any::<u8>(), 0..4096), step in 1usize..2000) {
            let _ = read(&b, step);
        }

        #[test]
        fn damage_does_not_panic(at in 0usize..4096, to: u8, step in 1usize..2000) {
            let mut bytes = archive(&[("base/5/1", vec![7; 1000]), ("x", vec![1; 512])]);
            let n = bytes.len();
            bytes[at % n] = to;
            let mut u = Unpacker::default();
            for piece in bytes.chunks(step) {
                let mut input = Bytes::copy_from_slice(piece);
                while let Ok(Some(_)) = u.next(&mut input) {}
            }
        }
    }
}
