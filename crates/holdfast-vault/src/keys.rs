//! Keys: who may add, who may read, who may let go (R3, R4).
//!
//! A key file holds **epochs**. Each has
//! - the *meta* key (symmetric): manifests, maps, notes, WAL facts; every role has it;
//! - the *data* key pair (X25519, for HPKE): the public half adds, the private half reads;
//! - two Ed25519 signing keys: *host* signs points and WAL, *operator* signs what lets go of data
//!   (expired, released, verified).
//!
//! `Role::Owner` has all of it. `Role::Host` lacks the private data key and the operator's signing
//! key: whoever takes that host can add to the vault, and neither read nor release what is in it.
//! A new epoch protects only what is written after it; to revoke a key, copy into a new vault.
//!
//! The file is JSON, base64 inside, mode 0600, and never printed.

use crate::error::{Result, VaultError};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as B64;
use holdfast_core::Secret;
use hpke::{Deserializable, Kem, Serializable, aead::AesGcm256, kdf::HkdfSha256, kem::X25519HkdfSha256};
use serde::{Deserialize, Serialize};

/// What a key file lets its holder do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Owner,
    Host,
}

/// Whose signature stands under a record. The number is in the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Signer {
    Host = 1,
    Operator = 2,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct KeyFileText {
    holdfast_key: u32,
    role: Role,
    note: String,
    epochs: Vec<EpochText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct EpochText {
    epoch: u32,
    created: jiff::Timestamp,
    meta: String,
    data_public: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_private: Option<String>,
    host_public: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_sign: Option<String>,
    operator_public: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    operator_sign: Option<String>,
}

/// The keys of one epoch.
#[derive(Debug, Clone)]
pub struct Epoch {
    pub number: u32,
    pub created: jiff::Timestamp,
    pub(crate) meta: Secret,
    pub(crate) data_public: [u8; 32],
    pub(crate) data_private: Option<Secret>,
    pub(crate) host_public: [u8; 32],
    host_sign: Option<Secret>,
    pub(crate) operator_public: [u8; 32],
    operator_sign: Option<Secret>,
}

/// All keys that this process has for a vault, newest epoch last.
#[derive(Debug, Clone)]
pub struct Keys {
    pub role: Role,
    epochs: Vec<Epoch>,
}

/// 32 bytes from the kernel's generator.
///
/// Not from AWS-LC's: a fresh process pays 20 ms there for seeding by CPU jitter, a third of a whole
/// `wal push`.
///
/// # Panics
/// If the kernel has no randomness to give; nothing may be sealed then.
#[allow(clippy::panic)]
pub(crate) fn fresh32() -> [u8; 32] {
    let mut b = [0u8; 32];
    match rand::TryRng::try_fill_bytes(&mut rand::rngs::SysRng, &mut b) {
        Ok(()) => b,
        Err(e) => panic!("the kernel gives no randomness: {e}"),
    }
}

fn public_of(seed: &[u8]) -> Result<[u8; 32]> {
    let pair = Ed25519KeyPair::from_seed_unchecked(seed)
        .map_err(|_| VaultError::KeyFile("a signing key is malformed".into()))?;
    pair.public_key()
        .as_ref()
        .try_into()
        .map_err(|_| VaultError::KeyFile("a signing key is malformed".into()))
}

impl Keys {
    /// New keys with everything.
    pub fn generate() -> Result<Self> {
        let (private, public) = X25519HkdfSha256::gen_keypair();
        let host = fresh32();
        let operator = fresh32();
        let epoch = Epoch {
            number: 1,
            created: now_seconds(),
            meta: Secret::new(fresh32()),
            data_public: to32(&public.to_bytes())?,
            data_private: Some(Secret::new(private.to_bytes().to_vec())),
            host_public: public_of(&host)?,
            host_sign: Some(Secret::new(host)),
            operator_public: public_of(&operator)?,
            operator_sign: Some(Secret::new(operator)),
        };
        Ok(Keys { role: Role::Owner, epochs: vec![epoch] })
    }

    /// The epoch that new objects use.
    pub fn newest(&self) -> Result<&Epoch> {
        self.epochs.last().ok_or_else(|| VaultError::KeyFile("it holds no epoch".into()))
    }

    pub fn epoch(&self, number: u32) -> Option<&Epoch> {
        self.epochs.iter().find(|e| e.number == number)
    }

    pub fn epochs(&self) -> &[Epoch] {
        &self.epochs
    }

    /// Can this holder read what is in data packs and WAL?
    pub fn can_read(&self) -> bool {
        self.newest().is_ok_and(|e| e.data_private.is_some())
    }

    /// Can this holder sign as `signer`?
    pub fn can_sign(&self, signer: Signer) -> bool {
        self.newest().is_ok_and(|e| match signer {
            Signer::Host => e.host_sign.is_some(),
            Signer::Operator => e.operator_sign.is_some(),
        })
    }

    /// The same keys with only what a host needs that adds but does not read.
    pub fn for_host(&self) -> Keys {
        let epochs = self
            .epochs
            .iter()
            .map(|e| Epoch { data_private: None, operator_sign: None, ..e.clone() })
            .collect();
        Keys { role: Role::Host, epochs }
    }

    /// Reads a key file's text.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let bad = |what: &str| VaultError::KeyFile(what.to_string());
        // serde's own message may quote the input: keep it out of logs.
        let file: KeyFileText = serde_json::from_slice(text).map_err(|e| {
            bad(&format!("it is not a holdfast key file (line {}, column {})", e.line(), e.column()))
        })?;
        if file.holdfast_key != 1 {
            return Err(bad(&format!("its version is {}, this program knows 1", file.holdfast_key)));
        }
        let key = |s: &str| -> Result<[u8; 32]> {
            to32(&B64.decode(s.trim()).map_err(|_| bad("a key is not base64"))?)
        };
        let secret = |s: &Option<String>| -> Result<Option<Secret>> {
            s.as_deref().map(|s| key(s).map(Secret::new)).transpose()
        };
        let mut epochs = Vec::new();
        for e in &file.epochs {
            epochs.push(Epoch {
                number: e.epoch,
                created: e.created,
                meta: Secret::new(key(&e.meta)?),
                data_public: key(&e.data_public)?,
                data_private: secret(&e.data_private)?,
                host_public: key(&e.host_public)?,
                host_sign: secret(&e.host_sign)?,
                operator_public: key(&e.operator_public)?,
                operator_sign: secret(&e.operator_sign)?,
            });
        }
        epochs.sort_by_key(|e| e.number);
        if epochs.is_empty() {
            return Err(bad("it holds no epoch"));
        }
        Ok(Keys { role: file.role, epochs })
    }

    /// The text of a key file. It holds secrets: write it with mode 0600.
    pub fn to_text(&self) -> Secret {
        let b64 = |s: &Secret| B64.encode(s.expose_bytes());
        let file = KeyFileText {
            holdfast_key: 1,
            role: self.role,
            note: match self.role {
                Role::Owner => "whoever has this file can read every backup; without it nobody can. keep a copy elsewhere".into(),
                Role::Host => "whoever has this file can add backups, but not read or release them".into(),
            },
            epochs: self
                .epochs
                .iter()
                .map(|e| EpochText {
                    epoch: e.number,
                    created: e.created,
                    meta: b64(&e.meta),
                    data_public: B64.encode(e.data_public),
                    data_private: e.data_private.as_ref().map(b64),
                    host_public: B64.encode(e.host_public),
                    host_sign: e.host_sign.as_ref().map(b64),
                    operator_public: B64.encode(e.operator_public),
                    operator_sign: e.operator_sign.as_ref().map(b64),
                })
                .collect(),
        };
        let mut text = serde_json::to_vec_pretty(&file).unwrap_or_default();
        text.push(b'\n');
        Secret::new(text)
    }
}

fn now_seconds() -> jiff::Timestamp {
    jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap_or_default()
}

fn to32(b: &[u8]) -> Result<[u8; 32]> {
    b.try_into().map_err(|_| VaultError::KeyFile("a key has the wrong length".into()))
}

/// `info` of every HPKE seal (RFC 9180 §5.1).
const HPKE_INFO: &[u8] = b"holdfast/1 data";

impl Epoch {
    /// Seals a 32-byte secret to the data key: 32 bytes of encapsulated key and 48 of ciphertext.
    pub(crate) fn hpke_seal(&self, secret: &[u8; 32], aad: &[u8]) -> Result<[u8; 80]> {
        let err = || VaultError::KeyFile("the public data key is malformed".into());
        let public =
            <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(&self.data_public).map_err(|_| err())?;
        let (enc, ct) = hpke::single_shot_seal::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
            &hpke::OpModeS::Base,
            &public,
            HPKE_INFO,
            secret,
            aad,
        )
        .map_err(|_| err())?;
        let mut out = [0u8; 80];
        let enc = enc.to_bytes();
        if enc.len() != 32 || ct.len() != 48 {
            return Err(err());
        }
        out[..32].copy_from_slice(&enc);
        out[32..].copy_from_slice(&ct);
        Ok(out)
    }

    /// Opens what [`Epoch::hpke_seal`] made.
    pub(crate) fn hpke_open(&self, sealed: &[u8; 80], aad: &[u8], name: &str) -> Result<[u8; 32]> {
        let private = self.data_private.as_ref().ok_or(VaultError::KeyRole("read backups"))?;
        let private = <X25519HkdfSha256 as Kem>::PrivateKey::from_bytes(private.expose_bytes())
            .map_err(|_| VaultError::KeyFile("the private data key is malformed".into()))?;
        let bad = || VaultError::damaged(name, "its key cannot be opened");
        let enc = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(&sealed[..32]).map_err(|_| bad())?;
        let plain = hpke::single_shot_open::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
            &hpke::OpModeR::Base,
            &private,
            &enc,
            HPKE_INFO,
            &sealed[32..],
            aad,
        )
        .map_err(|_| bad())?;
        plain.try_into().map_err(|_| bad())
    }

    /// Signs as `signer`, if this holder has that key.
    pub(crate) fn sign(&self, signer: Signer, message: &[u8]) -> Result<[u8; 64]> {
        let (seed, what) = match signer {
            Signer::Host => (&self.host_sign, "add points"),
            Signer::Operator => (&self.operator_sign, "sign as an operator (verify, hold, release, expire)"),
        };
        let seed = seed.as_ref().ok_or(VaultError::KeyRole(what))?;
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose_bytes())
            .map_err(|_| VaultError::KeyFile("a signing key is malformed".into()))?;
        pair.sign(message)
            .as_ref()
            .try_into()
            .map_err(|_| VaultError::KeyFile("a signing key is malformed".into()))
    }

    pub(crate) fn verify(&self, signer: Signer, message: &[u8], signature: &[u8]) -> bool {
        let public = match signer {
            Signer::Host => &self.host_public,
            Signer::Operator => &self.operator_public,
        };
        UnparsedPublicKey::new(&ED25519, public).verify(message, signature).is_ok()
    }

    /// True if this holder can sign as the operator.
    pub fn is_operator(&self) -> bool {
        self.operator_sign.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_files_round_trip_and_roles_hold() {
        let owner = Keys::generate().unwrap();
        let back = Keys::parse(owner.to_text().expose_bytes()).unwrap();
        let host = Keys::parse(owner.for_host().to_text().expose_bytes()).unwrap();
        assert!(back.can_read() && !host.can_read());
        let secret = [7u8; 32];
        let sealed = host.newest().unwrap().hpke_seal(&secret, b"aad").unwrap();
        assert_eq!(back.newest().unwrap().hpke_open(&sealed, b"aad", "x").unwrap(), secret);
        assert!(back.newest().unwrap().hpke_open(&sealed, b"other", "x").is_err());
        assert!(matches!(
            host.newest().unwrap().hpke_open(&sealed, b"aad", "x"),
            Err(VaultError::KeyRole(_))
        ));
        let sig = host.newest().unwrap().sign(Signer::Host, b"m").unwrap();
        assert!(back.newest().unwrap().verify(Signer::Host, b"m", &sig));
        assert!(!back.newest().unwrap().verify(Signer::Operator, b"m", &sig));
        assert!(host.newest().unwrap().sign(Signer::Operator, b"m").is_err());
    }

    #[test]
    fn errors_do_not_quote_the_key() {
        let e = Keys::parse(b"{\"holdfast-key\": \"hunter2\"}").unwrap_err();
        assert!(!e.to_string().contains("hunter2"), "{e}");
        assert!(!format!("{:?}", Keys::generate().unwrap()).contains("\"meta\""));
    }
}
