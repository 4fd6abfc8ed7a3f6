//! TLS to the server, as libpq's users expect it, and service files.

use crate::common::{DB, Site, error_of, path_text, server};
use holdfast_testkit::{Cluster, Holdfast, PgVersion, Scratch};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

pub type Issuer = CertifiedIssuer<'static, KeyPair>;

pub fn ca(name: &str) -> Issuer {
    let mut params = CertificateParams::new(vec![]).expect("parameters");
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate")
}

/// Writes a certificate for `name` and its key, readable by the server's user only.
pub fn issue(scratch: &Scratch, ca: &Issuer, file: &str, name: &str) -> (PathBuf, PathBuf) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec![name.to_string()]).expect("parameters");
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let cert = params.signed_by(&key, ca).expect("a certificate");
    let crt = scratch.write(format!("{file}.crt"), cert.pem());
    let key = scratch.write(format!("{file}.key"), key.serialize_pem());
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("chmod");
    (crt, key)
}

/// Only TLS from the network; `more` stands at the end of the line.
fn allow(pg: &Cluster, more: &str) {
    let hba = format!("local all all trust\nhostssl all all 127.0.0.1/32 trust {more}\n");
    fs::write(pg.data_dir().join("pg_hba.conf"), hba).expect("write pg_hba.conf");
    pg.sql("postgres", "select pg_reload_conf()");
    std::thread::sleep(std::time::Duration::from_millis(300));
}

#[test]
fn sessions_are_encrypted_and_checked_as_asked() {
    let scratch = Scratch::new("tls");
    let (ours, other) = (ca("ours"), ca("another"));
    let root = path_text(&scratch.write("root.crt", ours.pem()));
    let wrong_root = path_text(&scratch.write("wrong.crt", other.pem()));
    let (crt, key) = issue(&scratch, &ours, "server", "localhost");
    let pg = server(&scratch, "main", PgVersion::V17)
        .tcp(true)
        .setting("ssl", "on")
        .setting("ssl_cert_file", &path_text(&crt))
        .setting("ssl_key_file", &path_text(&key))
        .setting("ssl_ca_file", &root)
        .start();
    allow(&pg, "");
    let base = format!("host=localhost hostaddr=127.0.0.1 port={} user=postgres", pg.port());
    let full = format!("{base} sslmode=verify-full sslrootcert={root}");
    // Set up and back up over a checked connection.
    let hf = Holdfast::new(&scratch, scratch.path("holdfast.toml"));
    let url = format!("file://{}", scratch.path("vault").display());
    let keyfile = path_text(&scratch.path("hf.key"));
    let init = ["init", "--name", DB, "--conninfo", &full, "--vault", &url, "--key-file", &keyfile, "--yes"];
    let _ = hf.run(&init).ok();
    let site = Site { archive_command: format!("{} wal push --db {DB} %p", hf.shell()), pg, hf, scratch };
    site.archive_with(&site.archive_command);
    let _ = site.backup(&[]);
    // What each mode accepts and refuses.
    let policy = fs::read_to_string(site.scratch.path("holdfast.toml")).expect("policy");
    let with = |conninfo: &str| {
        site.scratch.write("holdfast.toml", policy.replace(&full, conninfo));
        site.hf.run(&["--json", "backup"])
    };
    let by_address = base.replace("host=localhost", "host=127.0.0.1");
    for conninfo in [
        format!("{base} sslmode=require"),
        base.clone(),
        format!("{base} sslmode=verify-ca sslrootcert={root}"),
        // The certificate does not name the address, and verify-ca does not ask.
        format!("{by_address} sslmode=verify-ca sslrootcert={root}"),
        format!("{base} sslmode=verify-full sslrootcert={root} sslnegotiation=direct"),
        format!(
            "postgresql://postgres@localhost:{}/postgres?hostaddr=127.0.0.1&sslmode=verify-full&sslrootcert={root}",
            site.pg.port()
        ),
    ] {
        let _ = with(&conninfo).ok();
    }
    for (conninfo, part) in [
        (format!("{base} sslmode=disable"), "pg_hba.conf"),
        (format!("{by_address} sslmode=verify-full sslrootcert={root}"), "certificate"),
        (format!("{base} sslmode=verify-full sslrootcert={wrong_root}"), "certificate"),
        (format!("{base} sslmode=verify-ca sslrootcert={wrong_root}"), "certificate"),
        // A root certificate makes `require` check the chain.
        (format!("{base} sslmode=require sslrootcert={wrong_root}"), "certificate"),
        (format!("{base} sslmode=verify-full"), "root certificate"),
        (format!("{base} sslmode=verify-full sslrootcert=/nonexistent/root.crt"), "/nonexistent/root.crt"),
        (format!("{base} sslmode=very-full"), "very-full"),
        (format!("{base} sslcrl=/x"), "sslcrl"),
    ] {
        let out = with(&conninfo);
        assert_ne!(out.code, 0, "{conninfo}");
        let (_, message, hint) = error_of(&out);
        assert!(message.contains(part) && !hint.is_empty(), "{conninfo}: {message} ({hint})");
    }
    // The server asks for a certificate of ours.
    allow(&site.pg, "clientcert=verify-ca");
    let _ = with(&full).expect_code(12);
    let (crt, key) = issue(&site.scratch, &ours, "client", "postgres");
    let mine = format!("{full} sslcert={} sslkey={}", path_text(&crt), path_text(&key));
    let _ = with(&mine).ok();
    let (crt, key) = issue(&site.scratch, &other, "stranger", "postgres");
    let theirs = format!("{full} sslcert={} sslkey={}", path_text(&crt), path_text(&key));
    assert_ne!(with(&theirs).code, 0);
    // All of it from a service file.
    let lines = mine.split(' ').collect::<Vec<_>>().join("\n");
    let services = site.scratch.write("services.conf", format!("[orders]\n{lines}\n"));
    site.scratch.write("holdfast.toml", policy.replace(&full, "service=orders"));
    let hf = Holdfast::new(&site.scratch, site.scratch.path("holdfast.toml")).env("PGSERVICEFILE", &services);
    let _ = hf.run(&["backup"]).ok();
}
