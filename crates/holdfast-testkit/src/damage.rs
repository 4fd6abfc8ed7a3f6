//! What disks, networks and people do to the files of a vault.
//!
//! Every action works in place, so that owner, mode and path stay; and each says what it did, for
//! the message of a failing test.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::seed::TestRng;

/// A kind of damage to one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// One bit flipped at a random place.
    FlipBit,
    /// Cut at a random place, possibly to nothing.
    Truncate,
    /// The last byte is missing.
    LoseLastByte,
    /// Nothing left but the name.
    Empty,
    /// Random bytes at the end.
    AppendGarbage,
    /// A run of up to 4 KiB read back as zeros.
    ZeroRange,
    /// The file is gone.
    Delete,
}

impl Damage {
    /// Every kind, for a matrix over kinds of files.
    pub const ALL: [Damage; 7] = [
        Damage::FlipBit,
        Damage::Truncate,
        Damage::LoseLastByte,
        Damage::Empty,
        Damage::AppendGarbage,
        Damage::ZeroRange,
        Damage::Delete,
    ];

    /// Does it to the file. Returns what was done, in words.
    pub fn apply(self, path: &Path, rng: &mut TestRng) -> String {
        let len = file_len(path);
        let what = match self {
            Damage::FlipBit => {
                let (offset, bit) = flip_bit(path, rng);
                format!("bit {bit} of byte {offset} flipped")
            }
            Damage::Truncate => {
                let keep = rng.below(len.max(1));
                truncate(path, keep);
                format!("cut from {len} to {keep} bytes")
            }
            Damage::LoseLastByte => {
                truncate(path, len.saturating_sub(1));
                "last byte lost".to_owned()
            }
            Damage::Empty => {
                truncate(path, 0);
                "emptied".to_owned()
            }
            Damage::AppendGarbage => {
                let count = rng.range(1, 5000) as usize;
                append_garbage(path, count, rng);
                format!("{count} random bytes appended")
            }
            Damage::ZeroRange => {
                let offset = rng.below(len.max(1));
                let count = (len - offset).min(4096);
                zero_range(path, offset, count);
                format!("{count} bytes zeroed at {offset}")
            }
            Damage::Delete => {
                delete(path);
                "deleted".to_owned()
            }
        };
        format!("{}: {what}", path.display())
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Cuts the file to `keep` bytes.
pub fn truncate(path: &Path, keep: u64) {
    open(path).set_len(keep).unwrap_or_else(|error| fail("truncate", path, &error));
}

/// Flips one bit at a random place. Returns the byte's offset and the bit.
pub fn flip_bit(path: &Path, rng: &mut TestRng) -> (u64, u8) {
    let len = file_len(path);
    assert!(len > 0, "{} is empty: it has no bit to flip", path.display());
    let (offset, bit) = (rng.below(len), rng.below(8) as u8);
    flip_bit_at(path, offset, bit);
    (offset, bit)
}

/// Flips bit `bit` of the byte at `offset`.
pub fn flip_bit_at(path: &Path, offset: u64, bit: u8) {
    let file = open(path);
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap_or_else(|error| fail("read", path, &error));
    byte[0] ^= 1 << bit;
    file.write_all_at(&byte, offset).unwrap_or_else(|error| fail("write", path, &error));
}

/// Makes a run of bytes zero.
pub fn zero_range(path: &Path, offset: u64, count: u64) {
    let zeros = vec![0; count as usize];
    open(path).write_all_at(&zeros, offset).unwrap_or_else(|error| fail("write", path, &error));
}

/// Appends random bytes.
pub fn append_garbage(path: &Path, count: usize, rng: &mut TestRng) {
    let mut file = open(path);
    file.seek(SeekFrom::End(0)).unwrap_or_else(|error| fail("seek", path, &error));
    file.write_all(&rng.bytes(count)).unwrap_or_else(|error| fail("write", path, &error));
}

/// Exchanges the contents of two files; both names stay.
pub fn swap(a: &Path, b: &Path) {
    let parked = a.with_extension("swapping");
    fs::rename(a, &parked).unwrap_or_else(|error| fail("rename", a, &error));
    fs::rename(b, a).unwrap_or_else(|error| fail("rename", b, &error));
    fs::rename(&parked, b).unwrap_or_else(|error| fail("rename", &parked, &error));
}

/// Deletes the file.
pub fn delete(path: &Path) {
    fs::remove_file(path).unwrap_or_else(|error| fail("delete", path, &error));
}

/// Every plain file under a directory, sorted, so that a seed picks the same one again.
pub fn files_under(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![dir.to_path_buf()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|error| fail("list", &dir, &error)) {
            let entry = entry.unwrap_or_else(|error| fail("list", &dir, &error));
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => pending.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

fn file_len(path: &Path) -> u64 {
    fs::metadata(path).unwrap_or_else(|error| fail("stat", path, &error)).len()
}

fn open(path: &Path) -> fs::File {
    OpenOptions::new().read(true).write(true).open(path).unwrap_or_else(|error| fail("open", path, &error))
}

fn fail(what: &str, path: &Path, error: &std::io::Error) -> ! {
    panic!("{what} {}: {error}", path.display())
}
