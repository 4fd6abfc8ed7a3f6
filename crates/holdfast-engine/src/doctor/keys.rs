//! Key and passphrase files: `vault.<name>.key-*`. Whether a key *opens* its vault is the next file's.

use super::Line;
use super::host::{Host, Want, resolve};
use crate::context::{passphrase, read_secret};
use holdfast_core::policy::Vault;
use holdfast_vault::Keys;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub(super) fn check(v: &Vault, host: &Host) -> Vec<Line> {
    let vault_dir = url_dir(&v.url);
    let mut lines = Vec::new();
    if let Some(path) = &v.key_file {
        let error = read_secret(path)
            .and_then(|s| Ok(Keys::parse(s.expose_bytes())?))
            .err()
            .map(|e| (super::explain(&e), e.hint()));
        let f = gather(path, error, vault_dir.as_deref(), host);
        lines.extend(secret_file(&format!("vault.{}.key-file", v.name), "key file", &f));
    }
    if let Some(path) = &v.passphrase_file {
        let error = passphrase(path).err().map(|e| (super::explain(&e), e.hint()));
        let f = gather(path, error, vault_dir.as_deref(), host);
        lines.extend(secret_file(&format!("vault.{}.passphrase-file", v.name), "passphrase file", &f));
    }
    lines
}

/// The directory of a `file:` vault.
pub(super) fn url_dir(url: &str) -> Option<PathBuf> {
    let store = url.starts_with("file:").then(|| holdfast_vault::Store::open(url, &Default::default()))?;
    store.ok()?.local_path().map(Path::to_path_buf)
}

struct SecretFile {
    path: PathBuf,
    /// Why it cannot be used, and the hint.
    error: Option<(String, Option<String>)>,
    mode: Option<u32>,
    in_data: Option<PathBuf>,
    in_vault: bool,
    /// The server's user, if that is another one and cannot read it.
    shut_out: Option<String>,
}

fn gather(
    path: &Path,
    error: Option<(String, Option<String>)>,
    vault: Option<&Path>,
    host: &Host,
) -> SecretFile {
    SecretFile {
        path: path.to_path_buf(),
        error,
        mode: std::fs::metadata(path).ok().map(|m| m.mode() & 0o7777),
        in_data: host.inside_data(path).cloned(),
        in_vault: vault.is_some_and(|v| resolve(path).starts_with(resolve(v))),
        shut_out: host.other_server_user().filter(|u| !host.may(u, path, Want::Read)).map(|u| u.name.clone()),
    }
}

fn secret_file(name: &str, what: &str, f: &SecretFile) -> Vec<Line> {
    let path = f.path.display();
    let mut lines = Vec::new();
    if let Some((message, hint)) = &f.error {
        let hint = hint.clone().unwrap_or_else(|| format!("put the {what} of this vault at `{path}`"));
        lines.push(Line::fail(name, message, hint));
    } else if let Some(user) = &f.shut_out {
        lines.push(Line::fail(
            name,
            format!(
                "the server runs as {user}, which cannot read the {what} `{path}`: archive_command will fail"
            ),
            format!("run `chown {user} {path}`, and holdfast as {user}"),
        ));
    }
    if let Some(data) = &f.in_data {
        lines.push(Line::fail(
            name,
            format!("the {what} `{path}` lies in `{}`: it is lost with the database", data.display()),
            format!(
                "move it out of the data directory and set `{}` of the vault to its new place",
                what.replace(' ', "-")
            ),
        ));
    }
    if f.in_vault {
        lines.push(Line::fail(
            name,
            format!("the {what} `{path}` lies in the vault that it locks: whoever has the vault can read it"),
            format!(
                "move it out of the vault and set `{}` of the vault to its new place",
                what.replace(' ', "-")
            ),
        ));
    }
    if let Some(mode) = f.mode
        && mode & 0o077 != 0
    {
        lines.push(Line::warn(
            name,
            format!("the {what} `{path}` is open to other users (mode {mode:04o})"),
            format!("run `chmod 0600 {path}`"),
        ));
    }
    if lines.is_empty() {
        lines.push(Line::ok(name, format!("the {what} `{path}` is readable and nobody else's")));
    }
    lines
}

/// Is there any copy of the key that does not share this host's fate?
pub(super) fn recovery_copy(name: &str, key_file: Option<&Path>, copies: usize) -> Line {
    let name = format!("{name}.key-copy");
    match (key_file, copies) {
        (None, _) => Line::ok(&name, "the key comes from the recovery copy in the vault")
            .hint("keep the passphrase somewhere else than on this host"),
        (Some(_), 1..) => Line::ok(&name, "the vault holds a recovery copy of its key under a passphrase")
            .hint("keep the passphrase somewhere else than on this host"),
        (Some(path), 0) => Line::warn(
            &name,
            "without the key file nobody can read the backups, and the vault holds no recovery copy of it",
            format!(
                "keep a copy of `{}` away from this host, or run `holdfast key passphrase` to store one in the vault",
                path.display()
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Status, worst};
    use super::*;

    fn good() -> SecretFile {
        SecretFile {
            path: "/etc/holdfast/vault.key".into(),
            error: None,
            mode: Some(0o600),
            in_data: None,
            in_vault: false,
            shut_out: None,
        }
    }

    #[test]
    fn a_key_file_is_readable_private_and_elsewhere() {
        let judge = |f: &SecretFile| secret_file("vault.a.key-file", "key file", f);
        assert_eq!(worst(&judge(&good())), Status::Ok);
        let open = judge(&SecretFile { mode: Some(0o640), ..good() });
        assert_eq!(worst(&open), Status::Warn);
        assert_eq!(open[0].hint.as_deref(), Some("run `chmod 0600 /etc/holdfast/vault.key`"));
        for f in [
            SecretFile { error: Some(("cannot read".into(), None)), ..good() },
            SecretFile { in_data: Some("/data".into()), ..good() },
            SecretFile { in_vault: true, ..good() },
            SecretFile { shut_out: Some("postgres".into()), ..good() },
        ] {
            assert_eq!(worst(&judge(&f)), Status::Fail);
        }
        let both = judge(&SecretFile { mode: Some(0o644), in_vault: true, ..good() });
        assert_eq!(both.len(), 2);
    }

    #[test]
    fn a_copy_of_the_key_is_asked_for() {
        let path = Path::new("/k");
        assert_eq!(recovery_copy("vault.a", Some(path), 0).status, Status::Warn);
        assert_eq!(recovery_copy("vault.a", Some(path), 1).status, Status::Ok);
        assert_eq!(recovery_copy("vault.a", None, 1).name, "vault.a.key-copy");
    }

    #[test]
    fn only_file_urls_are_directories() {
        assert_eq!(url_dir("file:///var/v%20x"), Some(PathBuf::from("/var/v x")));
        assert_eq!(url_dir("s3://bucket/prefix"), None);
    }
}
