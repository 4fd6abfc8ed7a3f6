//! Keyed digests of plain content, per cluster.
//!
//! - **Block fingerprint**, 8 bytes: "is this block the one that I stored?" (R1).
//! - **Frame digest**, 16 bytes: matches frames across vaults and checks restores (R6).
//! - **Content digest**, 32 bytes: is this WAL segment the one in the archive? It stands in clear
//!   in an object's header, so it is a keyed BLAKE3, safe to show: of the frame digests of its pieces,
//!   which are computed anyway (hashing 16 MiB by BLAKE3 was a quarter of a `wal push`).
//!
//! The first two are GMAC (AES-256-GCM with no plaintext and a fixed nonce), that is GHASH under a
//! secret point: an almost-universal hash, at about 20 GB/s per core where BLAKE3 on 8 KiB blocks
//! does about 4. A fixed nonce is safe only while tags stay secret; these are stored sealed. Two
//! different blocks share a fingerprint with probability about 2^-55 (512 GHASH blocks, 64 bits
//! kept), whoever chose them, as long as he does not have the key.
//!
//! The keys are drawn once per cluster and kept in its record; copies in other vaults share them.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use holdfast_core::Secret;

/// Size of the pieces of a content digest. Part of the format.
pub const CONTENT_PIECE: usize = 1 << 20;

/// The digest keys of one cluster, ready to use from many threads.
#[derive(Clone)]
pub struct Digests {
    block: std::sync::Arc<LessSafeKey>,
    frame: std::sync::Arc<LessSafeKey>,
    content: [u8; 32],
}

impl std::fmt::Debug for Digests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Digests(****)")
    }
}

/// HKDF-SHA256 with one 32-byte output.
pub(crate) fn hkdf32(salt: &[u8], ikm: &[u8], info: &[&[u8]]) -> [u8; 32] {
    struct Len;
    impl aws_lc_rs::hkdf::KeyType for Len {
        fn len(&self) -> usize {
            32
        }
    }
    let prk = aws_lc_rs::hkdf::Salt::new(aws_lc_rs::hkdf::HKDF_SHA256, salt).extract(ikm);
    let mut out = [0u8; 32];
    // 32 bytes are far under HKDF's limit of 255 blocks: neither step can fail.
    if let Ok(okm) = prk.expand(info, Len) {
        let _ = okm.fill(&mut out);
    }
    out
}

pub(crate) fn gcm_key(key: &[u8; 32]) -> LessSafeKey {
    match UnboundKey::new(&AES_256_GCM, key) {
        Ok(k) => LessSafeKey::new(k),
        // The length is a constant of the type.
        Err(_) => unreachable!("a 32-byte key fits AES-256"),
    }
}

fn gmac(key: &LessSafeKey, data: &[u8]) -> [u8; 16] {
    let nonce = Nonce::assume_unique_for_key([0u8; 12]);
    match key.seal_in_place_separate_tag(nonce, Aad::from(data), &mut []) {
        Ok(tag) => tag.as_ref().try_into().unwrap_or([0; 16]),
        Err(_) => [0; 16],
    }
}

impl Digests {
    /// From the cluster's 32-byte digest secret.
    pub fn new(secret: &Secret) -> Self {
        let key = |info: &[u8]| hkdf32(b"holdfast/1 digest", secret.expose_bytes(), &[info]);
        Digests {
            block: std::sync::Arc::new(gcm_key(&key(b"block"))),
            frame: std::sync::Arc::new(gcm_key(&key(b"frame"))),
            content: key(b"content"),
        }
    }

    /// Fingerprint of one block.
    pub fn block(&self, block: &[u8]) -> u64 {
        let tag = gmac(&self.block, block);
        u64::from_le_bytes([tag[0], tag[1], tag[2], tag[3], tag[4], tag[5], tag[6], tag[7]])
    }

    /// Digest of a frame's plain content.
    pub fn frame(&self, plain: &[u8]) -> [u8; 16] {
        gmac(&self.frame, plain)
    }

    /// Digest of a whole object's plain content: the keyed hash of the frame digests of its pieces of
    /// [`CONTENT_PIECE`] bytes.
    pub fn content(&self, plain: &[u8]) -> [u8; 32] {
        let pieces: Vec<[u8; 16]> = plain.chunks(CONTENT_PIECE).map(|p| self.frame(p)).collect();
        self.content_of_pieces(&pieces)
    }

    /// The digest of the content whose pieces have these frame digests, in order.
    pub fn content_of_pieces(&self, pieces: &[[u8; 16]]) -> [u8; 32] {
        let mut h = blake3::Hasher::new_keyed(&self.content);
        for p in pieces {
            h.update(p);
        }
        *h.finalize().as_bytes()
    }
}

/// BLAKE3 without a key, for names and tokens.
pub fn plain_hash(data: &[u8]) -> [u8; 32] {
    *blake3::hash(data).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_depend_on_key_and_content() {
        let a = Digests::new(&Secret::new([1; 32]));
        let b = Digests::new(&Secret::new([2; 32]));
        let mut page = vec![0u8; 8192];
        let zero = a.block(&page);
        assert_ne!(zero, b.block(&page));
        page[8191] ^= 1;
        assert_ne!(zero, a.block(&page));
        page[8191] ^= 1;
        assert_eq!(zero, a.block(&page));
        assert_ne!(a.block(&page), a.block(&page[..8176]));
        assert_ne!(a.frame(&page)[..8], a.block(&page).to_le_bytes());
    }
}
