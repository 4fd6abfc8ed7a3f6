//! Records: small signed objects — a point, a note, a lease, a cluster, a timeline history.
//!
//! ```text
//! header (256) ‖ frame 0 (sealed with the meta key) ‖ signer u8, codec u8, 0 u16, plain_len u32 ‖ Ed25519 signature (64)
//! ```
//!
//! The signature covers the vault id, the name and every byte before it, so it is judged before
//! anything is opened. A record is one PUT, create-if-absent.

use crate::codec::{Compressor, Decompressor, FrameCodec};
use crate::error::{Result, VaultError};
use crate::keys::{Keys, Signer};
use crate::object::{Cipher, Describe, HEADER_LEN, Header, Kind, Opener, Place, Purpose, Sealer};
use bytes::Bytes;
use holdfast_core::policy::Compression;

const TRAILER: usize = 72;
/// Larger than any record; a claim of more is damage, not a reason to allocate.
const MAX_PLAIN: u32 = 256 << 20;

fn message(place: Place<'_>, bytes: &[u8]) -> Vec<u8> {
    let mut m = b"HFSIG1".to_vec();
    m.extend_from_slice(&place.vault.bytes());
    m.extend_from_slice(&(place.name.len() as u16).to_le_bytes());
    m.extend_from_slice(place.name.as_bytes());
    m.extend_from_slice(blake3::hash(bytes).as_bytes());
    m
}

/// Builds the bytes of a record.
pub fn encode(keys: &Keys, cipher: Cipher, place: Place<'_>, signer: Signer, plain: &[u8]) -> Result<Bytes> {
    let epoch = keys.newest()?;
    let what = Describe {
        kind: Kind::Record,
        purpose: Purpose::Meta,
        plain_len: plain.len() as u64,
        content: [0; 32],
        facts: [0; 48],
    };
    let (mut sealer, header) = Sealer::new(keys, cipher, place, what)?;
    let mut out = header.to_vec();
    let codec_err = |e: std::io::Error| VaultError::Codec { name: place.name.into(), what: e.to_string() };
    let mut c = Compressor::new(Compression::Zstd { level: 3 }).map_err(codec_err)?;
    let codec = c.compress(plain, &mut out).map_err(codec_err)?;
    let plain_len = u32::try_from(plain.len())
        .map_err(|_| VaultError::Codec { name: place.name.into(), what: "the record is too large".into() })?;
    sealer.seal_tail(&mut out, HEADER_LEN, codec, plain_len)?;
    out.extend_from_slice(&[signer as u8, codec as u8, 0, 0]);
    out.extend_from_slice(&plain_len.to_le_bytes());
    let signature = epoch.sign(signer, &message(place, &out))?;
    out.extend_from_slice(&signature);
    Ok(Bytes::from(out))
}

/// Checks and opens a record.
pub fn decode(bytes: &[u8], keys: &Keys, place: Place<'_>) -> Result<(Vec<u8>, Signer)> {
    let bad = |what: &str| VaultError::damaged(place.name, what);
    let header = Header::decode(bytes, keys, place)?;
    if header.kind != Kind::Record {
        return Err(bad("it is not a record"));
    }
    let body_end = bytes.len().checked_sub(TRAILER).ok_or_else(|| bad("it is cut short"))?;
    let (signed, signature) = bytes.split_at(bytes.len() - 64);
    let (signer, codec, plain_len) = match bytes.get(body_end..body_end + 8) {
        Some(&[s, c, 0, 0, a, b, d, e]) => (s, c, u32::from_le_bytes([a, b, d, e])),
        _ => return Err(bad("its trailer is damaged")),
    };
    let signer = match signer {
        1 => Signer::Host,
        2 => Signer::Operator,
        _ => return Err(bad("its signer is unknown")),
    };
    let epoch = keys
        .epoch(header.epoch)
        .ok_or_else(|| VaultError::WrongKey(format!("`{}` needs epoch {}", place.name, header.epoch)))?;
    if !epoch.verify(signer, &message(place, signed), signature) {
        return Err(bad("its signature is wrong"));
    }
    let codec = FrameCodec::from_byte(codec).ok_or_else(|| bad("its codec is unknown"))?;
    if plain_len > MAX_PLAIN || u64::from(plain_len) != header.plain_len {
        return Err(bad("its length is wrong"));
    }
    let mut sealed = bytes.get(HEADER_LEN..body_end).ok_or_else(|| bad("it is cut short"))?.to_vec();
    let packed = Opener::new(&header, keys, place)?.open(0, &mut sealed, codec, plain_len)?.to_vec();
    let mut out = Vec::new();
    Decompressor::new()
        .map_err(|e| e.to_string())
        .and_then(|mut d| d.decompress(codec, &packed, plain_len as usize, &mut out))
        .map_err(|what| VaultError::Codec { name: place.name.into(), what })?;
    Ok((out, signer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::VaultId;

    #[test]
    fn records_open_and_every_flipped_bit_is_found() {
        let keys = Keys::generate().unwrap();
        let vault = VaultId::generate();
        let place = Place { vault: &vault, name: "db/a/1/points/x.point" };
        for cipher in [Cipher::None, Cipher::Aes256Gcm] {
            let b = encode(&keys, cipher, place, Signer::Host, b"{\"a\":1}").unwrap();
            assert_eq!(decode(&b, &keys, place).unwrap(), (b"{\"a\":1}".to_vec(), Signer::Host));
            for bit in 0..b.len() * 8 {
                let mut d = b.to_vec();
                d[bit / 8] ^= 1 << (bit % 8);
                assert!(decode(&d, &keys, place).is_err(), "bit {bit}");
            }
            for cut in 0..b.len() {
                assert!(decode(&b[..cut], &keys, place).is_err(), "cut {cut}");
            }
        }
        assert!(encode(&keys.for_host(), Cipher::None, place, Signer::Operator, b"x").is_err());
    }
}
