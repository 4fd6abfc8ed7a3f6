//! Values that must not be printed: [`Secret`].

use std::fmt;
use zeroize::Zeroize;

/// Bytes that print as `****` and are wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Secret(bytes.into())
    }

    /// The bytes themselves. The name is long so that each use is seen in review.
    pub fn expose_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("****")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("****")
    }
}

/// A URL fit for a message: user, password and every query value whose name suggests a secret are
/// replaced by `****`.
pub fn redact_url(url: &str) -> String {
    let Ok(mut u) = url::Url::parse(url) else { return "****".into() };
    if u.password().is_some() && u.set_password(Some("****")).is_err() {
        return "****".into();
    }
    if u.query().is_some() {
        let pairs: Vec<(String, String)> = u
            .query_pairs()
            .map(|(k, v)| {
                let low = k.to_ascii_lowercase();
                let hide = ["secret", "password", "token", "key", "signature", "credential", "sig"]
                    .iter()
                    .any(|w| low.contains(w));
                (k.into_owned(), if hide { "****".into() } else { v.into_owned() })
            })
            .collect();
        // Not `query_pairs_mut`: it would escape the stars.
        let q: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={v}")).collect();
        u.set_query(Some(&q.join("&")));
    }
    u.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_print_as_stars() {
        let s = Secret::new(b"hunter2".to_vec());
        assert_eq!(format!("{s} {s:?}"), "**** ****");
        let u = redact_url("s3://k:hunter2@b/p?region=x&secret_access_key=hunter2");
        assert!(!u.contains("hunter2") && u.contains("region=x"), "{u}");
    }
}
