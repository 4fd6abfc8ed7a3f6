//! Sealing: the header that every sealed object starts with, and the frames behind it (R3, R8).
//!
//! ```text
//! object = header (256 bytes, clear, authenticated) ‖ frames ‖ (pack: table ‖ footer | record: trailer)
//! frame  = AES-256-GCM(compressed bytes) = ciphertext ‖ 16-byte tag
//! ```
//!
//! Invariants kept here and checked again on every read:
//! - an object's key is HKDF(random secret, random salt, vault id ‖ name): never used for two objects;
//! - a frame's nonce is its index in the object: never used twice under one key;
//! - a frame's associated data name the vault, the object, the index, the codec and the plain length:
//!   a frame that was moved, renamed or swapped does not open. Bucket and prefix are not part of it,
//!   so that a vault can be moved;
//! - sealed bytes are never sealed again with other content under the same salt: a redo makes a new
//!   [`Sealer`].
//!
//! With cipher "none" the bytes stay readable and the tag is a GMAC over them: damage is still found.

use crate::codec::FrameCodec;
use crate::digest::{gcm_key, hkdf32};
use crate::error::{Result, VaultError};
use crate::keys::{Epoch, Keys, fresh32};
use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};
use aws_lc_rs::hmac;
use holdfast_core::VaultId;
use serde::{Deserialize, Serialize};

pub const MAGIC: &[u8; 8] = b"HOLDFAST";
/// The format version that this program writes. `docs/FORMAT.md` §9 is the version rule.
pub const FORMAT_VERSION: u16 = 1;
pub const HEADER_LEN: usize = 256;
pub const TAG_LEN: usize = 16;

/// What kind of object follows. The number is in the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Pack = 1,
    Wal = 2,
    Record = 3,
}

/// How frames are protected. The number is in the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Cipher {
    /// Readable by anyone, authenticated by a GMAC.
    None = 0,
    #[serde(rename = "aes-256-gcm")]
    Aes256Gcm = 1,
}

impl Cipher {
    /// As the descriptor says it.
    pub fn name(self) -> &'static str {
        match self {
            Cipher::None => "none",
            Cipher::Aes256Gcm => "aes-256-gcm",
        }
    }
}

/// Which key opens an object. The number is in the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    Meta = 1,
    Data = 2,
}

/// The clear part of an object that the vault can judge without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub kind: Kind,
    pub cipher: Cipher,
    pub purpose: Purpose,
    pub epoch: u32,
    pub salt: [u8; 32],
    pub wrapped: [u8; 80],
    /// Length of the plain content; 0 for packs, which say it in their footer.
    pub plain_len: u64,
    /// Keyed digest of the plain content; zeros for packs.
    pub content: [u8; 32],
    /// Facts about a WAL segment (see [`crate::walobj::WalFacts`]); zeros elsewhere.
    pub facts: [u8; 48],
}

/// Where in the vault an object lives, for everything that binds it there.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub vault: &'a VaultId,
    pub name: &'a str,
}

impl Header {
    fn clear(&self) -> [u8; HEADER_LEN - 32] {
        let mut b = [0u8; HEADER_LEN - 32];
        b[..8].copy_from_slice(MAGIC);
        b[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        b[10] = self.kind as u8;
        b[11] = self.cipher as u8;
        b[12] = self.purpose as u8;
        b[16..20].copy_from_slice(&self.epoch.to_le_bytes());
        b[20..24].copy_from_slice(&(HEADER_LEN as u32).to_le_bytes());
        b[24..56].copy_from_slice(&self.salt);
        b[56..136].copy_from_slice(&self.wrapped);
        b[136..144].copy_from_slice(&self.plain_len.to_le_bytes());
        b[144..176].copy_from_slice(&self.content);
        b[176..224].copy_from_slice(&self.facts);
        b
    }

    fn mac(clear: &[u8], epoch: &Epoch, place: Place<'_>) -> hmac::Tag {
        let key = hkdf32(&place.vault.bytes(), epoch.meta.expose_bytes(), &[b"holdfast/1 header"]);
        let mut ctx = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &key));
        ctx.update(&place.vault.bytes());
        ctx.update(&(place.name.len() as u16).to_le_bytes());
        ctx.update(place.name.as_bytes());
        ctx.update(clear);
        ctx.sign()
    }

    pub(crate) fn encode(&self, epoch: &Epoch, place: Place<'_>) -> [u8; HEADER_LEN] {
        let clear = self.clear();
        let mut out = [0u8; HEADER_LEN];
        out[..HEADER_LEN - 32].copy_from_slice(&clear);
        out[HEADER_LEN - 32..].copy_from_slice(Self::mac(&clear, epoch, place).as_ref());
        out
    }

    /// Parses and authenticates the first 256 bytes of the object at `place`.
    pub fn decode(bytes: &[u8], keys: &Keys, place: Place<'_>) -> Result<Self> {
        let bad = |what: &str| VaultError::damaged(place.name, what);
        let head: &[u8; HEADER_LEN] =
            bytes.first_chunk().ok_or_else(|| bad("it is shorter than its header"))?;
        if &head[..8] != MAGIC {
            return Err(bad("it does not start as an object of a vault"));
        }
        let version = u16::from_le_bytes([head[8], head[9]]);
        if version > FORMAT_VERSION {
            return Err(VaultError::NewerFormat { found: version.into(), known: FORMAT_VERSION.into() });
        }
        let epoch_no = u32::from_le_bytes([head[16], head[17], head[18], head[19]]);
        let epoch = keys.epoch(epoch_no).ok_or_else(|| {
            VaultError::WrongKey(format!("`{}` needs the key of epoch {epoch_no}", place.name))
        })?;
        let expected = Self::mac(&head[..HEADER_LEN - 32], epoch, place);
        if aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_ref(), &head[HEADER_LEN - 32..])
            .is_err()
        {
            return Err(bad("its header does not authenticate"));
        }
        let kind = match head[10] {
            1 => Kind::Pack,
            2 => Kind::Wal,
            3 => Kind::Record,
            _ => return Err(bad("its kind is unknown")),
        };
        let cipher = match head[11] {
            0 => Cipher::None,
            1 => Cipher::Aes256Gcm,
            _ => return Err(bad("its cipher is unknown")),
        };
        let purpose = match head[12] {
            1 => Purpose::Meta,
            2 => Purpose::Data,
            _ => return Err(bad("its key purpose is unknown")),
        };
        let arr = |r: std::ops::Range<usize>| -> &[u8] { head.get(r).unwrap_or(&[]) };
        Ok(Header {
            kind,
            cipher,
            purpose,
            epoch: epoch_no,
            salt: arr(24..56).try_into().unwrap_or([0; 32]),
            wrapped: arr(56..136).try_into().unwrap_or([0; 80]),
            plain_len: u64::from_le_bytes(arr(136..144).try_into().unwrap_or([0; 8])),
            content: arr(144..176).try_into().unwrap_or([0; 32]),
            facts: arr(176..224).try_into().unwrap_or([0; 48]),
        })
    }
}

/// What a wrapped secret is bound to.
fn wrap_aad(place: Place<'_>) -> Vec<u8> {
    let mut a = b"HFW1".to_vec();
    a.extend_from_slice(&place.vault.bytes());
    a.extend_from_slice(place.name.as_bytes());
    a
}

fn meta_wrap_key(epoch: &Epoch, vault: &VaultId) -> LessSafeKey {
    gcm_key(&hkdf32(&vault.bytes(), epoch.meta.expose_bytes(), &[b"holdfast/1 meta-wrap"]))
}

fn object_key(secret: &[u8; 32], salt: &[u8; 32], place: Place<'_>) -> LessSafeKey {
    gcm_key(&hkdf32(salt, secret, &[b"holdfast/1 object", &place.vault.bytes(), place.name.as_bytes()]))
}

/// Associated data of frame `index`.
fn frame_aad(place: Place<'_>, index: u64, codec: FrameCodec, plain_len: u32) -> Vec<u8> {
    let mut a = Vec::with_capacity(48 + place.name.len());
    a.extend_from_slice(b"HFV1");
    a.extend_from_slice(&place.vault.bytes());
    a.extend_from_slice(&(place.name.len() as u16).to_le_bytes());
    a.extend_from_slice(place.name.as_bytes());
    a.extend_from_slice(&index.to_le_bytes());
    a.push(codec as u8);
    a.extend_from_slice(&plain_len.to_le_bytes());
    a
}

fn nonce(index: u64) -> Nonce {
    let mut n = [0u8; 12];
    n[4..].copy_from_slice(&index.to_be_bytes());
    Nonce::assume_unique_for_key(n)
}

/// Seals the frames of one new object.
pub struct Sealer {
    key: LessSafeKey,
    cipher: Cipher,
    vault: VaultId,
    name: String,
    next: u64,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").field("name", &self.name).field("next", &self.next).finish_non_exhaustive()
    }
}

/// What goes into a header besides keys.
#[derive(Debug, Clone, Copy)]
pub struct Describe {
    pub kind: Kind,
    pub purpose: Purpose,
    pub plain_len: u64,
    pub content: [u8; 32],
    pub facts: [u8; 48],
}

impl Describe {
    pub fn pack(purpose: Purpose) -> Self {
        Describe { kind: Kind::Pack, purpose, plain_len: 0, content: [0; 32], facts: [0; 48] }
    }
}

impl Sealer {
    /// A fresh key and the header that carries it.
    pub fn new(
        keys: &Keys,
        cipher: Cipher,
        place: Place<'_>,
        what: Describe,
    ) -> Result<(Self, [u8; HEADER_LEN])> {
        let (sealer, header) = Self::begin(keys, cipher, place, what)?;
        Ok((sealer, header.encode(keys.newest()?, place)))
    }

    /// The same for an object whose header is completed later (its digest is not known yet).
    pub fn begin(keys: &Keys, cipher: Cipher, place: Place<'_>, what: Describe) -> Result<(Self, Header)> {
        let epoch = keys.newest()?;
        let secret = fresh32();
        let salt = fresh32();
        let aad = wrap_aad(place);
        // Without encryption nothing is secret from the meta key's holders: hosts can check all of it.
        let purpose = if cipher == Cipher::None { Purpose::Meta } else { what.purpose };
        let wrapped = match purpose {
            Purpose::Data => epoch.hpke_seal(&secret, &aad)?,
            Purpose::Meta => {
                let mut out = [0u8; 80];
                let n: [u8; 12] = fresh32().first_chunk().copied().unwrap_or_default();
                let mut body = secret;
                let tag = meta_wrap_key(epoch, place.vault)
                    .seal_in_place_separate_tag(Nonce::assume_unique_for_key(n), Aad::from(&aad), &mut body)
                    .map_err(|_| VaultError::KeyFile("the meta key cannot seal".into()))?;
                out[..12].copy_from_slice(&n);
                out[12..44].copy_from_slice(&body);
                out[44..60].copy_from_slice(tag.as_ref());
                out
            }
        };
        let header = Header {
            kind: what.kind,
            cipher,
            purpose,
            epoch: epoch.number,
            salt,
            wrapped,
            plain_len: what.plain_len,
            content: what.content,
            facts: what.facts,
        };
        let sealer = Sealer {
            key: object_key(&secret, &salt, place),
            cipher,
            vault: place.vault.clone(),
            name: place.name.to_string(),
            next: 0,
        };
        Ok((sealer, header))
    }

    /// Seals `buf[start..]` in place and appends the tag; returns the frame's index.
    pub fn seal_tail(
        &mut self,
        buf: &mut Vec<u8>,
        start: usize,
        codec: FrameCodec,
        plain_len: u32,
    ) -> Result<u64> {
        let index = self.next;
        self.next += 1;
        self.seal_at(index, buf, start, codec, plain_len)?;
        Ok(index)
    }

    /// The same for an index that the caller hands out itself, each once (frames sealed in parallel).
    pub fn seal_at(
        &self,
        index: u64,
        buf: &mut Vec<u8>,
        start: usize,
        codec: FrameCodec,
        plain_len: u32,
    ) -> Result<()> {
        let place = Place { vault: &self.vault, name: &self.name };
        let mut aad = frame_aad(place, index, codec, plain_len);
        let fail = || VaultError::damaged(&self.name, "a frame is too large to seal");
        let tail = buf.get_mut(start..).ok_or_else(fail)?;
        let tag = match self.cipher {
            Cipher::Aes256Gcm => self.key.seal_in_place_separate_tag(nonce(index), Aad::from(aad), tail),
            Cipher::None => {
                aad.extend_from_slice(tail);
                self.key.seal_in_place_separate_tag(nonce(index), Aad::from(aad), &mut [])
            }
        }
        .map_err(|_| fail())?;
        buf.extend_from_slice(tag.as_ref());
        Ok(())
    }
}

/// Opens the frames of one object.
pub struct Opener {
    key: LessSafeKey,
    cipher: Cipher,
    vault: VaultId,
    name: String,
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Opener {
    pub fn new(header: &Header, keys: &Keys, place: Place<'_>) -> Result<Self> {
        let epoch = keys
            .epoch(header.epoch)
            .ok_or_else(|| VaultError::WrongKey(format!("`{}` needs epoch {}", place.name, header.epoch)))?;
        let aad = wrap_aad(place);
        let secret: [u8; 32] = match header.purpose {
            Purpose::Data => epoch.hpke_open(&header.wrapped, &aad, place.name)?,
            Purpose::Meta => {
                let w = &header.wrapped;
                let n: [u8; 12] = w.first_chunk().copied().unwrap_or_default();
                let mut body = w[12..60].to_vec();
                let bad = || VaultError::damaged(place.name, "its key cannot be opened");
                let plain = meta_wrap_key(epoch, place.vault)
                    .open_in_place(Nonce::assume_unique_for_key(n), Aad::from(&aad), &mut body)
                    .map_err(|_| bad())?;
                (&*plain).try_into().map_err(|_| bad())?
            }
        };
        Ok(Opener {
            key: object_key(&secret, &header.salt, place),
            cipher: header.cipher,
            vault: place.vault.clone(),
            name: place.name.to_string(),
        })
    }

    /// Authenticates (and decrypts, in place) frame `index`; returns its compressed bytes.
    pub fn open<'b>(
        &self,
        index: u64,
        sealed: &'b mut [u8],
        codec: FrameCodec,
        plain_len: u32,
    ) -> Result<&'b [u8]> {
        let place = Place { vault: &self.vault, name: &self.name };
        let bad = || VaultError::damaged(&self.name, format!("frame {index} does not authenticate"));
        let mut aad = frame_aad(place, index, codec, plain_len);
        match self.cipher {
            Cipher::Aes256Gcm => {
                let plain =
                    self.key.open_in_place(nonce(index), Aad::from(aad), sealed).map_err(|_| bad())?;
                Ok(plain)
            }
            Cipher::None => {
                let body = sealed.len().checked_sub(TAG_LEN).ok_or_else(bad)?;
                let (body, tag) = sealed.split_at_mut(body);
                aad.extend_from_slice(body);
                let mut tag = tag.to_vec();
                self.key.open_in_place(nonce(index), Aad::from(aad), &mut tag).map_err(|_| bad())?;
                Ok(body)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(cipher: Cipher, purpose: Purpose) -> (Keys, VaultId, [u8; HEADER_LEN], Vec<u8>) {
        let keys = Keys::generate().unwrap();
        let vault = VaultId::generate();
        let place = Place { vault: &vault, name: "db/a/1/x" };
        let (mut s, header) = Sealer::new(&keys, cipher, place, Describe::pack(purpose)).unwrap();
        let mut buf = b"hello".to_vec();
        assert_eq!(s.seal_tail(&mut buf, 0, FrameCodec::None, 5).unwrap(), 0);
        (keys, vault, header, buf)
    }

    #[test]
    fn frames_open_only_where_they_belong() {
        for cipher in [Cipher::None, Cipher::Aes256Gcm] {
            for purpose in [Purpose::Meta, Purpose::Data] {
                let (keys, vault, head, frame) = sample(cipher, purpose);
                let place = Place { vault: &vault, name: "db/a/1/x" };
                let header = Header::decode(&head, &keys, place).unwrap();
                let opener = Opener::new(&header, &keys, place).unwrap();
                let open = |i, c, n| opener.open(i, &mut frame.clone(), c, n).map(<[u8]>::to_vec);
                assert_eq!(open(0, FrameCodec::None, 5).unwrap(), b"hello");
                assert!(open(1, FrameCodec::None, 5).is_err());
                assert!(open(0, FrameCodec::Zstd, 5).is_err());
                assert!(open(0, FrameCodec::None, 6).is_err());
                let other = Place { vault: &vault, name: "db/a/1/y" };
                assert!(Header::decode(&head, &keys, other).is_err());
                let elsewhere = VaultId::generate();
                assert!(Header::decode(&head, &keys, Place { vault: &elsewhere, name: place.name }).is_err());
            }
        }
    }

    #[test]
    fn every_flipped_bit_of_header_or_frame_is_found() {
        let (keys, vault, head, frame) = sample(Cipher::Aes256Gcm, Purpose::Data);
        let place = Place { vault: &vault, name: "db/a/1/x" };
        for bit in 0..HEADER_LEN * 8 {
            let mut h = head;
            h[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&h, &keys, place).is_err(), "bit {bit}");
        }
        let header = Header::decode(&head, &keys, place).unwrap();
        let opener = Opener::new(&header, &keys, place).unwrap();
        for bit in 0..frame.len() * 8 {
            let mut f = frame.clone();
            f[bit / 8] ^= 1 << (bit % 8);
            assert!(opener.open(0, &mut f, FrameCodec::None, 5).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn hosts_cannot_open_data() {
        let (keys, vault, head, _) = sample(Cipher::Aes256Gcm, Purpose::Data);
        let place = Place { vault: &vault, name: "db/a/1/x" };
        let host = keys.for_host();
        let header = Header::decode(&head, &host, place).unwrap();
        assert!(matches!(Opener::new(&header, &host, place), Err(VaultError::KeyRole(_))));
    }
}
