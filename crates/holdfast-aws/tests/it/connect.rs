//! Credentials, profiles and endpoints from the environment, as every AWS program finds them: each test runs this
//! test program again, with another environment.

use crate::common::{Recorder, World, home};
use holdfast_aws::{AwsCloud, Connection};
use holdfast_core::managed::{Account, Databases};
use holdfast_testkit::Scratch;
use serde_json::json;
use std::io::Write;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// Not a test: what the other tests run. Prints who we are, and what we see.
#[tokio::test]
#[ignore = "run by the other tests of this module"]
async fn child() {
    let log = Arc::new(Recorder::default());
    let text = match AwsCloud::connect(&Connection::default(), &home(), log).await {
        Err(e) => format!("{:?} {e}", e.kind),
        Ok(cloud) => match (cloud.identity().await, cloud.list(&home()).await) {
            (Ok(who), Ok(all)) => format!("{} sees {}", who.arn, all.len()),
            (Err(e), _) | (_, Err(e)) => format!("{:?} {e} hint: {}", e.kind, e.hint().unwrap_or_default()),
        },
    };
    writeln!(std::io::stdout(), "child: {text}").unwrap();
}

fn run(env: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "connect::child", "--ignored", "--nocapture"]);
    for (name, _) in std::env::vars() {
        if name.starts_with("AWS_") || name.to_ascii_lowercase().ends_with("_proxy") || name == "HOME" {
            command.env_remove(name);
        }
    }
    command.env("AWS_EC2_METADATA_DISABLED", "true").envs(env.iter().copied());
    let done = holdfast_testkit::proc::run(&mut command, &[], Duration::from_secs(120));
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let line = text.lines().find_map(|l| l.split_once("child: "));
    line.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&done.stderr))).1.to_string()
}

#[tokio::test]
async fn keys_and_endpoints_come_from_the_environment() {
    let w = World::new("env").await;
    let url = w.aws.endpoint();
    let keys =
        [("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"), ("AWS_REGION", "us-east-1")];
    let with = |more: &[(&'static str, &str)]| {
        let all: Vec<(&str, &str)> = keys.iter().copied().chain(more.iter().copied()).collect();
        run(&all)
    };
    let seen = with(&[("AWS_ENDPOINT_URL", &url)]);
    assert!(seen.starts_with("arn:aws:") && seen.ends_with("sees 3"), "{seen}");
    // Per service, over one that leads nowhere.
    let seen = with(&[
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
        ("AWS_ENDPOINT_URL_RDS", &url),
        ("AWS_ENDPOINT_URL_STS", &url),
        ("AWS_MAX_ATTEMPTS", "1"),
    ]);
    assert!(seen.ends_with("sees 3"), "{seen}");
    let seen = with(&[("AWS_ENDPOINT_URL", "http://127.0.0.1:1"), ("AWS_MAX_ATTEMPTS", "1")]);
    assert!(seen.starts_with("Network"), "{seen}");
}

#[tokio::test]
async fn profiles_roles_and_certificates_come_from_files() {
    let w = World::new("profiles").await;
    let scratch = Scratch::new("aws-config");
    let url = w.aws.endpoint();
    let config = scratch.path("config");
    let role =
        w.aws.control("seed", Some(json!({"role": {"name": "reader", "trusts": ["123456789012"]}})))["role"]
            .as_str()
            .unwrap()
            .to_string();
    std::fs::write(
        &config,
        format!(
            "[profile base]\nregion = us-east-1\naws_access_key_id = test\naws_secret_access_key = test\nendpoint_url = {url}\n\
             [profile reader]\nregion = us-east-1\nrole_arn = {role}\nsource_profile = base\nendpoint_url = {url}\n\
             [profile process]\nregion = us-east-1\nendpoint_url = {url}\n\
             credential_process = echo '{{\"Version\": 1, \"AccessKeyId\": \"test\", \"SecretAccessKey\": \"test\"}}'\n"
        ),
    )
    .unwrap();
    let file = config.to_str().unwrap();
    for profile in ["base", "process"] {
        let seen = run(&[("AWS_CONFIG_FILE", file), ("AWS_PROFILE", profile)]);
        assert!(seen.ends_with("sees 3"), "{profile}: {seen}");
    }
    let seen = run(&[("AWS_CONFIG_FILE", file), ("AWS_PROFILE", "reader")]);
    assert!(seen.contains("assumed-role/reader"), "{seen}");

    let seen = run(&[("AWS_CA_BUNDLE", "/nonexistent.pem")]);
    assert!(seen.contains("certificates cannot be read"), "{seen}");
}

#[tokio::test]
async fn without_credentials_it_says_what_to_set() {
    let seen = run(&[("AWS_REGION", "us-east-1"), ("HOME", "/nonexistent")]);
    assert!(seen.starts_with("NoCredentials") && seen.contains("AWS_PROFILE"), "{seen}");
}

/// No such region: its name does not resolve. (Without any network it does not either, and says the same.)
#[tokio::test]
async fn a_region_that_does_not_exist_is_said_to_be_one() {
    let seen = run(&[
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_REGION", "xx-nowhere-9"),
        ("AWS_MAX_ATTEMPTS", "1"),
    ]);
    assert!(seen.starts_with("WrongRegion") || seen.starts_with("Network"), "{seen}");
}
