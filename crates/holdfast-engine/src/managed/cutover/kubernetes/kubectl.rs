//! The cluster, through kubectl: it finds it, and gets in, as the user does (kubeconfig, contexts, certificates, exec
//! plugins such as `aws eks get-token`, a pod's service account).
//!
//! Two calls: read one workload, change one with a strategic merge patch. Patches go in through a pipe, because the
//! list of processes shows arguments to everybody.

use super::Change;
use super::workload::Workload;
use crate::error::EngineError;
use serde_json::Value;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;

const PROGRAM: &str = "kubectl";
/// Of one request to the API server.
const REQUEST: &str = "--request-timeout=20s";
/// Of kubectl as a whole: with it go discovery and the plugin that gets a token.
const LIMIT: Duration = Duration::from_secs(90);

/// Why a call failed.
#[derive(Debug)]
pub enum Fault {
    /// Another try may find it otherwise.
    Passing(String),
    /// Somebody else wrote between our read and our write.
    Conflict(String),
    Final(EngineError),
}

pub async fn get(change: &Change) -> Result<Workload, Fault> {
    let out = call(change, "get", &["-o", "json"], None).await?;
    Workload::parse(&out).ok_or_else(|| {
        Fault::Final(EngineError::failed(
            format!("kubectl gives no {} for {change}", change.kind.as_str()),
            "look at what `kubectl get -o json` of it prints",
        ))
    })
}

pub async fn patch(change: &Change, patch: &Value) -> Result<(), Fault> {
    let arguments =
        ["--type", "strategic", "--field-manager", "holdfast", "--patch-file", "/dev/stdin", "-o", "name"];
    call(change, "patch", &arguments, Some(patch.to_string())).await.map(drop)
}

async fn call(change: &Change, verb: &str, more: &[&str], input: Option<String>) -> Result<Vec<u8>, Fault> {
    let mut command = tokio::process::Command::new(PROGRAM);
    command.arg(verb).arg(format!("{}/{}", change.kind.as_str(), change.name));
    command.args(["--namespace", &change.namespace, REQUEST]).args(more);
    if let Some(context) = &change.context {
        command.args(["--context", context]);
    }
    if let Some(file) = &change.kubeconfig {
        command.args(["--kubeconfig", file]);
    }
    command
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(|e| Fault::Final(cannot_start(change, &e)))?;
    let stdin = child.stdin.take();
    let talk = async {
        if let (Some(mut pipe), Some(text)) = (stdin, input) {
            // One that ends before it has read says why by itself.
            let _ = pipe.write_all(text.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let done = match tokio::time::timeout(LIMIT, talk).await {
        Ok(done) => done.map_err(|e| Fault::Passing(e.to_string()))?,
        Err(_) => return Err(Fault::Passing(format!("kubectl has not ended within {} s", LIMIT.as_secs()))),
    };
    match done.status.success() {
        true => Ok(done.stdout),
        // Without credentials it asks for a name and a password, on stdout.
        false => Err(judge(
            change,
            verb,
            &match done.stdout.starts_with(b"Please enter") {
                true => "there are no credentials: You must be logged in".into(),
                false => String::from_utf8_lossy(&done.stderr),
            },
        )),
    }
}

fn cannot_start(change: &Change, e: &std::io::Error) -> EngineError {
    match e.kind() {
        std::io::ErrorKind::NotFound => EngineError::refused(
            format!("{change} cannot be changed: there is no `{PROGRAM}` on this host"),
            "install kubectl (Debian: kubernetes-client) so that it is in PATH, or use a command step",
        ),
        _ => EngineError::failed(
            format!("`{PROGRAM}` cannot be started: {e}"),
            "check it with `kubectl version`",
        ),
    }
}

/// What kubectl's message means. The words in brackets are the API's reasons (apimachinery, metav1.StatusReason).
fn judge(change: &Change, verb: &str, stderr: &str) -> Fault {
    let said = stderr.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("no reason").trim().to_string();
    let reason = |r: &str| stderr.contains(&format!("({r})"));
    let any = |words: &[&str]| words.iter().any(|w| stderr.contains(w));
    if reason("Conflict") {
        return Fault::Conflict(said);
    }
    if reason("NotFound") {
        return Fault::Final(EngineError::not_found(
            format!("{change} is not there: {said}"),
            "check `kubernetes`, `namespace` and `context` of the cutover step",
        ));
    }
    if reason("Forbidden") {
        return Fault::Final(EngineError::refused(
            format!("{change}: not allowed to {verb} it: {said}"),
            format!(
                "a Role in namespace `{}` must allow get and patch on {}s",
                change.namespace,
                change.kind.as_str()
            ),
        ));
    }
    if reason("Unauthorized") || any(&["must be logged in", "getting credentials", "no Auth Provider"]) {
        return Fault::Final(EngineError::refused(
            format!("the cluster of {change} does not let us in: {said}"),
            "on EKS: `aws eks update-kubeconfig`; check that `kubectl auth can-i get deployments` works here",
        ));
    }
    let passing = [
        "(ServiceUnavailable)",
        "(ServerTimeout)",
        "(Timeout)",
        "(TooManyRequests)",
        "(InternalError)",
        "Unable to connect",
        "connection refused",
        "was refused",
        "connection reset",
        "i/o timeout",
        "TLS handshake timeout",
        "deadline exceeded",
        "Client.Timeout",
        "\": EOF",
        "unexpected EOF",
        "etcdserver",
    ];
    // Not one that can never be found: certificates and names of clusters are a matter of the kubeconfig.
    if any(&passing) && !any(&["x509:", "no such host", "localhost:8080"]) {
        return Fault::Passing(said);
    }
    Fault::Final(EngineError::failed(
        format!("kubectl {verb} of {change}: {said}"),
        "check that kubectl works with this kubeconfig and context: KUBECONFIG, `kubeconfig` and `context` of the step",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::managed::cutover::kubernetes::workload::tests::change;

    #[test]
    fn messages_are_understood() {
        let judged = |text: &str| judge(&change(&[]), "patch", text);
        let conflict = "Error from server (Conflict): Operation cannot be fulfilled on deployments.apps \"backend\": \
                        the object has been modified; please apply your changes to the latest version and try again";
        assert!(matches!(judged(conflict), Fault::Conflict(_)));
        for passing in [
            "The connection to the server 10.0.0.1:6443 was refused - did you specify the right host or port?",
            "Unable to connect to the server: net/http: TLS handshake timeout",
            "Error from server (ServiceUnavailable): the server is currently unable to handle the request",
            "error: unexpected EOF",
        ] {
            assert!(matches!(judged(passing), Fault::Passing(_)), "{passing}");
        }
        for (text, says, hint) in [
            (
                "Error from server (NotFound): deployments.apps \"backend\" not found",
                "not there",
                "namespace",
            ),
            (
                "Error from server (Forbidden): deployments.apps \"backend\" is forbidden: User \"u\" cannot patch",
                "not allowed to patch",
                "get and patch on deployments",
            ),
            ("error: You must be logged in to the server (Unauthorized)", "does not let us in", "eks"),
            ("error: context \"prod\" does not exist", "context \"prod\" does not exist", "kubeconfig"),
            (
                "The connection to the server localhost:8080 was refused - did you specify the right host or port?",
                "localhost:8080",
                "KUBECONFIG",
            ),
            (
                "Unable to connect to the server: x509: certificate signed by unknown authority",
                "x509",
                "kubectl works",
            ),
            ("", "no reason", "kubectl works"),
        ] {
            let Fault::Final(e) = judged(text) else { panic!("{text}") };
            assert!(e.to_string().contains(says) && e.hint().unwrap().contains(hint), "{e} / {:?}", e.hint());
        }
    }
}
