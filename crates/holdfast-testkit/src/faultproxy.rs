//! A reverse proxy in front of an object store that goes wrong on request.
//!
//! ```text
//! program under test ──► FaultProxy ──► store
//!                        rules, counts
//! ```
//!
//! Rules are tried in the order in which they were added; the first one that matches and whose
//! turn it is decides what happens to the request. Every rule counts the requests that it matches,
//! so "the third PUT of a pack" is `Rule::on("PUT", "/packs/").nth(3)`.
//!
//! What holds:
//! * heads are passed on as they came (`Host` included), so signatures stay valid;
//! * bodies of any length are streamed, never held;
//! * connections are kept alive towards the client;
//! * with the same seed and one client connection the same requests fail.
//!
//! [`Fault::LoseReply`] is the important one: the store did the work and the client cannot know.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use crate::http::{self, Framing, Head, copy_body};
use crate::seed::TestRng;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This status is answered, with an S3 error body; the store never sees the request.
    Status(u16),
    /// The request waits, then goes through.
    Delay(Duration),
    /// The connection breaks after so many bytes of the request's body; the store sees a torn one.
    CutRequest(u64),
    /// The store does the work, and the connection breaks after so many bytes of its answer's body.
    CutResponse(u64),
    /// The store does the work, and its answer is lost.
    LoseReply,
    /// One bit of the answer's body, in the byte at this offset, is wrong.
    FlipBit(u64),
    /// The connection is closed at once; the store never sees the request.
    Refuse,
}

/// Which requests a fault happens to.
#[derive(Debug, Clone)]
pub struct Rule {
    method: String,
    path: String,
    when: When,
    fault: Fault,
    seen: u64,
    times_left: u64,
}

#[derive(Debug, Clone, Copy)]
enum When {
    Always,
    Nth(u64),
    Every(u64),
    PerMille(u32),
}

impl Rule {
    /// Requests with this method (`""`: any) whose path and query contain this text (`""`: any).
    /// Without more said, each of them is answered with 503.
    pub fn on(method: &str, path: &str) -> Rule {
        Rule {
            method: method.to_owned(),
            path: path.to_owned(),
            when: When::Always,
            fault: Fault::Status(503),
            seen: 0,
            times_left: u64::MAX,
        }
    }

    /// Only the n-th matching request, counted from 1.
    pub fn nth(mut self, n: u64) -> Rule {
        self.when = When::Nth(n);
        self
    }

    /// Every n-th matching request.
    pub fn every(mut self, n: u64) -> Rule {
        self.when = When::Every(n.max(1));
        self
    }

    /// By chance, in so many of 1000 cases.
    pub fn per_mille(mut self, per_mille: u32) -> Rule {
        self.when = When::PerMille(per_mille);
        self
    }

    /// Not more than so many times.
    pub fn times(mut self, times: u64) -> Rule {
        self.times_left = times;
        self
    }

    /// What happens to them.
    pub fn fault(mut self, fault: Fault) -> Rule {
        self.fault = fault;
        self
    }

    fn decide(&mut self, method: &str, target: &str, rng: &mut TestRng) -> Option<Fault> {
        let matches = (self.method.is_empty() || self.method == method)
            && (self.path.is_empty() || target.contains(&self.path));
        if !matches {
            return None;
        }
        self.seen += 1;
        let due = match self.when {
            When::Always => true,
            When::Nth(n) => self.seen == n,
            When::Every(n) => self.seen.is_multiple_of(n),
            When::PerMille(chance) => rng.chance(chance),
        };
        if !due || self.times_left == 0 {
            return None;
        }
        self.times_left -= 1;
        Some(self.fault)
    }
}

/// A request that the proxy saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Method.
    pub method: String,
    /// Path and query, as sent.
    pub target: String,
    /// What was done to it.
    pub fault: Option<Fault>,
}

/// A running proxy. It stops, and its connections break, when it is dropped.
#[derive(Debug)]
pub struct FaultProxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    upstream: String,
    stopped: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    rules: Vec<Rule>,
    rng: TestRng,
    seen: Vec<Seen>,
    clients: BTreeMap<u64, TcpStream>,
    next_client: u64,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds the proxy's state")
    }
}

impl FaultProxy {
    /// A proxy in front of `upstream` (`http://127.0.0.1:port`), without rules, with seed 0.
    pub fn start(upstream: &str) -> FaultProxy {
        FaultProxy::with_seed(upstream, 0)
    }

    /// The same, with a seed for the rules that act by chance.
    pub fn with_seed(upstream: &str, seed: u64) -> FaultProxy {
        let authority = upstream.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let rng = TestRng::new(seed);
        let state =
            State { rules: Vec::new(), rng, seen: Vec::new(), clients: BTreeMap::new(), next_client: 0 };
        let stopped = AtomicBool::new(false);
        let shared = Arc::new(Shared { upstream: authority, stopped, state: Mutex::new(state) });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &accepting));
        FaultProxy { port, shared }
    }

    /// The URL to use instead of the store's.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Adds a rule.
    pub fn add(&self, rule: Rule) {
        self.shared.state().rules.push(rule);
    }

    /// Removes all rules: from now on everything goes through.
    pub fn heal(&self) {
        self.shared.state().rules.clear();
    }

    /// The requests so far, in the order in which they came.
    pub fn requests(&self) -> Vec<Seen> {
        self.shared.state().seen.clone()
    }

    /// The number of requests by method.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for seen in &self.shared.state().seen {
            *counts.entry(seen.method.clone()).or_insert(0) += 1;
        }
        counts
    }

    /// The number of requests with this method whose path contains this text (`""`: any).
    pub fn count(&self, method: &str, path: &str) -> u64 {
        let matches =
            |seen: &&Seen| (method.is_empty() || seen.method == method) && seen.target.contains(path);
        self.shared.state().seen.iter().filter(matches).count() as u64
    }

    /// The number of faults injected.
    pub fn faults(&self) -> u64 {
        self.shared.state().seen.iter().filter(|seen| seen.fault.is_some()).count() as u64
    }

    /// Forgets the requests so far.
    pub fn reset_counts(&self) {
        self.shared.state().seen.clear();
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        for client in self.shared.state().clients.values() {
            let _ = client.shutdown(Shutdown::Both);
        }
        // Wakes the accepting thread, which then sees the flag.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else { continue };
        let Ok(handle) = client.try_clone() else { continue };
        let number = {
            let mut state = shared.state();
            state.next_client += 1;
            let number = state.next_client;
            let _ = state.clients.insert(number, handle);
            number
        };
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            // A connection that breaks is the point of the exercise, not an error.
            let _ = serve(&client, &shared);
            let _ = client.shutdown(Shutdown::Both);
            // With the last descriptor gone, what was sent and not read becomes a reset. A client
            // whose window is full would otherwise wait for ever: its probes of a closed window
            // carry no data, so a socket that is only shut down does not answer them with one.
            let _ = shared.state().clients.remove(&number);
        });
    }
}

type Upstream = BufReader<TcpStream>;

/// Serves one client connection until it ends or is made to.
fn serve(client: &TcpStream, shared: &Shared) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(128 << 10, client.try_clone()?);
    let mut writer = client.try_clone()?;
    let mut upstream: Option<Upstream> = None;
    while let Some(mut request) = Head::read(&mut reader)? {
        let fault = decide(shared, &request);
        if request.header_has("expect", "100-continue") {
            writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            request.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("expect"));
        }
        match fault {
            Some(Fault::Refuse) => return Ok(()),
            Some(Fault::Status(status)) => {
                copy_body(&mut reader, request.request_framing(), |_, _| Ok(()))?;
                writer.write_all(&error_answer(status, request.method()))?;
                continue;
            }
            Some(Fault::Delay(pause)) => thread::sleep(pause),
            _ => {}
        }
        let answer = forward(&mut reader, &request, &mut upstream, shared, fault)?;
        let Some((answer, body_taken)) = answer else { return Ok(()) };
        let Some(store) = upstream.as_mut() else { return Ok(()) };
        let framing = answer.response_framing(request.method());
        if fault == Some(Fault::LoseReply) {
            copy_body(store, framing, |_, _| Ok(()))?;
            return Ok(());
        }
        reply(&mut writer, &answer, store, framing, fault)?;
        let closes = answer.header_has("connection", "close") || framing == Framing::UntilClose;
        if closes {
            upstream = None;
        }
        if closes || !body_taken || request.header_has("connection", "close") {
            return Ok(());
        }
    }
    Ok(())
}

fn decide(shared: &Shared, request: &Head) -> Option<Fault> {
    let (method, target) = (request.method(), request.target());
    let mut state = shared.state();
    let State { rules, rng, seen, .. } = &mut *state;
    let mut fault = None;
    for rule in rules {
        // Every rule sees every request, so that adding one does not change another's count.
        let decided = rule.decide(method, target, rng);
        fault = fault.or(decided);
    }
    seen.push(Seen { method: method.to_owned(), target: target.to_owned(), fault });
    fault
}

/// Sends the request on. Gives the answer's head and whether the whole body was taken; `None` when
/// the request was to be cut.
///
/// That the store has closed an idle connection shows only when the answer is awaited. So a
/// connection is used again only for requests that may be repeated, and then they are.
fn forward(
    reader: &mut BufReader<TcpStream>,
    request: &Head,
    upstream: &mut Option<Upstream>,
    shared: &Shared,
    fault: Option<Fault>,
) -> io::Result<Option<(Head, bool)>> {
    let framing = request.request_framing();
    let repeatable = framing == Framing::Length(0) && matches!(request.method(), "GET" | "HEAD");
    let cut = matches!(fault, Some(Fault::CutRequest(_)));
    if repeatable
        && !cut
        && let Some(store) = upstream.as_mut()
    {
        let sent = store.get_mut().write_all(&request.to_bytes());
        if let (Ok(()), Ok(Some(answer))) = (sent, read_answer(store)) {
            return Ok(Some((answer, true)));
        }
    }
    let stream = TcpStream::connect(&shared.upstream)?;
    stream.set_nodelay(true)?;
    let store = upstream.insert(BufReader::with_capacity(128 << 10, stream));
    store.get_mut().write_all(&request.to_bytes())?;
    let limit = match fault {
        Some(Fault::CutRequest(limit)) => limit,
        _ => u64::MAX,
    };
    let mut sent = 0;
    let copied = copy_body(reader, framing, |piece, payload| {
        let room = if payload { limit - sent } else { u64::MAX };
        let piece = &piece[..piece.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
        store.get_mut().write_all(piece)?;
        sent += if payload { piece.len() as u64 } else { 0 };
        if sent >= limit { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    });
    if limit != u64::MAX {
        // Also when the body was shorter than the limit: the answer must not arrive.
        let _ = store.get_ref().shutdown(Shutdown::Both);
        *upstream = None;
        return Ok(None);
    }
    // A store may answer early, without reading the whole body: then the answer counts.
    let answer = read_answer(store)?;
    if copied.is_err() {
        let _ = reader.get_ref().set_read_timeout(Some(Duration::from_millis(200)));
        http::drain(reader);
    }
    Ok(answer.map(|answer| (answer, copied.is_ok())))
}

fn read_answer(store: &mut Upstream) -> io::Result<Option<Head>> {
    loop {
        match Head::read(store)? {
            Some(head) if head.status() == 100 => {}
            other => return Ok(other),
        }
    }
}

fn reply(
    writer: &mut TcpStream,
    answer: &Head,
    store: &mut Upstream,
    framing: Framing,
    fault: Option<Fault>,
) -> io::Result<()> {
    writer.write_all(&answer.to_bytes())?;
    let limit = match fault {
        Some(Fault::CutResponse(limit)) => limit,
        _ => u64::MAX,
    };
    let mut sent = 0;
    copy_body(store, framing, |piece, payload| {
        if !payload {
            return writer.write_all(piece);
        }
        let room = usize::try_from(limit - sent).unwrap_or(usize::MAX);
        let piece = &piece[..piece.len().min(room)];
        let flipped = match fault {
            Some(Fault::FlipBit(at)) if (sent..sent + piece.len() as u64).contains(&at) => {
                let mut copy = piece.to_vec();
                copy[(at - sent) as usize] ^= 1;
                Some(copy)
            }
            _ => None,
        };
        writer.write_all(flipped.as_deref().unwrap_or(piece))?;
        sent += piece.len() as u64;
        if sent >= limit { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    })?;
    if limit != u64::MAX {
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    Ok(())
}

fn error_answer(status: u16, method: &str) -> Vec<u8> {
    let (reason, code) = match status {
        403 => ("Forbidden", "AccessDenied"),
        404 => ("Not Found", "NoSuchKey"),
        409 => ("Conflict", "OperationAborted"),
        412 => ("Precondition Failed", "PreconditionFailed"),
        429 => ("Too Many Requests", "TooManyRequests"),
        500 => ("Internal Server Error", "InternalError"),
        503 => ("Service Unavailable", "SlowDown"),
        _ => ("Injected", "Injected"),
    };
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code>\
         <Message>injected by the test</Message><RequestId>testkit</RequestId></Error>"
    );
    let sent = if method == "HEAD" { "" } else { &body };
    format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: application/xml\r\n\
         Content-Length: {}\r\n\r\n{sent}",
        body.len()
    )
    .into_bytes()
}
