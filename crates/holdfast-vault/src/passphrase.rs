//! A copy of the keys in the vault itself, wrapped by a passphrase (R8).
//!
//! Argon2id (RFC 9106) turns the passphrase into a key that only wraps: daily runs use the key
//! file, so `wal push` never pays for it. Losing the key file is then not losing the backups.

use crate::error::{Result, VaultError};
use crate::keys::{Keys, fresh32};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as B64;
use holdfast_core::{Secret, VaultId};
use serde::{Deserialize, Serialize};

/// RFC 9106 §4, second recommended option: 64 MiB, three passes, four lanes.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 4;

/// The stored form; clear JSON around a sealed key file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Recovery {
    pub holdfast_recovery: u32,
    pub kdf: String,
    pub memory_kib: u32,
    pub passes: u32,
    pub lanes: u32,
    pub salt: String,
    pub nonce: String,
    pub sealed: String,
}

fn derive(passphrase: &Secret, salt: &[u8], memory: u32, passes: u32, lanes: u32) -> Result<LessSafeKey> {
    // A stored recovery copy could ask for all the memory there is.
    if memory > 4 * 1024 * 1024 || passes > 64 || lanes > 64 {
        return Err(VaultError::WrongPassphrase);
    }
    let params =
        argon2::Params::new(memory, passes, lanes, Some(32)).map_err(|_| VaultError::WrongPassphrase)?;
    let argon = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let mut key = [0u8; 32];
    argon
        .hash_password_into(passphrase.expose_bytes(), salt, &mut key)
        .map_err(|_| VaultError::WrongPassphrase)?;
    let unbound = UnboundKey::new(&AES_256_GCM, &key).map_err(|_| VaultError::WrongPassphrase)?;
    Ok(LessSafeKey::new(unbound))
}

fn aad(vault: &VaultId) -> Vec<u8> {
    let mut a = b"holdfast/1 recovery".to_vec();
    a.extend_from_slice(&vault.bytes());
    a
}

/// Wraps `keys`.
pub fn wrap(keys: &Keys, passphrase: &Secret, vault: &VaultId) -> Result<Vec<u8>> {
    let salt = fresh32();
    let key = derive(passphrase, &salt, MEMORY_KIB, PASSES, LANES)?;
    let nonce: [u8; 12] = fresh32().first_chunk().copied().unwrap_or_default();
    let mut body = keys.to_text().expose_bytes().to_vec();
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad(vault)), &mut body)
        .map_err(|_| VaultError::WrongPassphrase)?;
    let r = Recovery {
        holdfast_recovery: 1,
        kdf: "argon2id".into(),
        memory_kib: MEMORY_KIB,
        passes: PASSES,
        lanes: LANES,
        salt: B64.encode(salt),
        nonce: B64.encode(nonce),
        sealed: B64.encode(body),
    };
    Ok(serde_json::to_vec_pretty(&r).unwrap_or_default())
}

/// Opens what [`wrap`] made. About a quarter of a second and 64 MiB.
pub fn unwrap(text: &[u8], passphrase: &Secret, vault: &VaultId) -> Result<Keys> {
    let r: Recovery = serde_json::from_slice(text).map_err(|_| VaultError::WrongPassphrase)?;
    let decode = |s: &str| B64.decode(s).map_err(|_| VaultError::WrongPassphrase);
    let key = derive(passphrase, &decode(&r.salt)?, r.memory_kib, r.passes, r.lanes)?;
    let nonce: [u8; 12] = decode(&r.nonce)?.try_into().map_err(|_| VaultError::WrongPassphrase)?;
    let mut body = decode(&r.sealed)?;
    let plain = key
        .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad(vault)), &mut body)
        .map_err(|_| VaultError::WrongPassphrase)?;
    Keys::parse(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_passphrase_opens_it() {
        let keys = Keys::generate().unwrap();
        let id = VaultId::generate();
        let text = wrap(&keys, &Secret::new("correct horse"), &id).unwrap();
        let back = unwrap(&text, &Secret::new("correct horse"), &id).unwrap();
        assert_eq!(back.to_text(), keys.to_text());
        assert!(unwrap(&text, &Secret::new("battery staple"), &id).is_err());
        assert!(unwrap(&text, &Secret::new("correct horse"), &VaultId::generate()).is_err());
        assert!(unwrap(b"{}", &Secret::new("x"), &id).is_err());
    }
}
