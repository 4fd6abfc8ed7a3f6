//! Just enough HTTP/1.1 for the tests' own requests and for the fault proxy.
//!
//! Heads are read and kept as they came, so that a proxied request keeps the bytes that its
//! signature covers. No TLS, no redirects, one request per connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The start line and the header lines of a message.
#[derive(Debug, Clone)]
pub struct Head {
    /// First line, without its line end.
    pub start: String,
    /// Name and value of each header, in order.
    pub headers: Vec<(String, String)>,
}

/// How long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes, possibly none.
    Length(u64),
    /// In chunks, each with its length.
    Chunked,
    /// Up to the end of the connection (responses only).
    UntilClose,
}

impl Head {
    /// Reads a head; `None` when the peer closed the connection before one.
    pub fn read(reader: &mut impl BufRead) -> io::Result<Option<Head>> {
        let mut start = String::new();
        if reader.read_line(&mut start)? == 0 {
            return Ok(None);
        }
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end_matches(['\r', '\n']);
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        Ok(Some(Head { start: start.trim_end_matches(['\r', '\n']).to_owned(), headers }))
    }

    /// The head in wire form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.start);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        text.into_bytes()
    }

    /// The value of a header; names compare without regard to case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// Whether a header's value contains a word, without regard to case.
    pub fn header_has(&self, name: &str, word: &str) -> bool {
        self.header(name).is_some_and(|value| value.to_ascii_lowercase().contains(word))
    }

    /// Of a request: its method.
    pub fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }

    /// Of a request: path and query, as sent.
    pub fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// Of a response: its status, 0 when it has none.
    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    /// How the body of this request is framed.
    pub fn request_framing(&self) -> Framing {
        if self.header_has("transfer-encoding", "chunked") {
            Framing::Chunked
        } else {
            Framing::Length(self.content_length().unwrap_or(0))
        }
    }

    /// How the body of this response, to a request with that method, is framed.
    pub fn response_framing(&self, method: &str) -> Framing {
        let status = self.status();
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            Framing::Length(0)
        } else if self.header_has("transfer-encoding", "chunked") {
            Framing::Chunked
        } else {
            self.content_length().map_or(Framing::UntilClose, Framing::Length)
        }
    }

    fn content_length(&self) -> Option<u64> {
        self.header("content-length").and_then(|value| value.parse().ok())
    }
}

/// Copies a body in its wire form. `sink` gets each piece with `true` when it is payload and
/// `false` when it is chunk framing; an error from it stops the copy.
pub fn copy_body(
    reader: &mut impl BufRead,
    framing: Framing,
    mut sink: impl FnMut(&[u8], bool) -> io::Result<()>,
) -> io::Result<()> {
    match framing {
        Framing::Length(length) => copy_exactly(reader, length, &mut sink),
        Framing::UntilClose => loop {
            let piece = reader.fill_buf()?;
            if piece.is_empty() {
                return Ok(());
            }
            sink(piece, true)?;
            let used = piece.len();
            reader.consume(used);
        },
        Framing::Chunked => loop {
            let line = read_raw_line(reader)?;
            let text = String::from_utf8_lossy(&line);
            let digits = text.split([';', '\r', '\n']).next().unwrap_or_default().trim();
            let length = u64::from_str_radix(digits, 16).map_err(|_| io::ErrorKind::InvalidData)?;
            sink(&line, false)?;
            if length > 0 {
                copy_exactly(reader, length, &mut sink)?;
                sink(&read_raw_line(reader)?, false)?;
                continue;
            }
            // Trailers, up to an empty line.
            loop {
                let line = read_raw_line(reader)?;
                sink(&line, false)?;
                if line == b"\r\n" || line == b"\n" {
                    return Ok(());
                }
            }
        },
    }
}

fn copy_exactly(
    reader: &mut impl BufRead,
    mut left: u64,
    sink: &mut impl FnMut(&[u8], bool) -> io::Result<()>,
) -> io::Result<()> {
    while left > 0 {
        let piece = reader.fill_buf()?;
        if piece.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let used = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        sink(&piece[..used], true)?;
        reader.consume(used);
        left -= used as u64;
    }
    Ok(())
}

fn read_raw_line(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    if reader.read_until(b'\n', &mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line)
}

/// A response with its whole body.
#[derive(Debug, Clone)]
pub struct Response {
    /// Status and headers.
    pub head: Head,
    /// The payload.
    pub body: Vec<u8>,
}

impl Response {
    /// Status code.
    pub fn status(&self) -> u16 {
        self.head.status()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends one request to `http://host:port/…` and reads the whole answer.
pub fn request(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Response> {
    let rest = url.strip_prefix("http://").ok_or(io::ErrorKind::InvalidInput)?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut stream = TcpStream::connect(authority)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.set_nodelay(true)?;
    let mut head = Head { start: format!("{method} /{path} HTTP/1.1"), headers: Vec::new() };
    let mut add = |name: &str, value: &str| head.headers.push((name.into(), value.into()));
    add("Host", authority);
    add("Connection", "close");
    add("Content-Length", &body.len().to_string());
    for (name, value) in headers {
        add(name, value);
    }
    let mut message = head.to_bytes();
    message.extend_from_slice(body);
    stream.write_all(&message)?;
    let mut reader = BufReader::new(stream);
    loop {
        let head = Head::read(&mut reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if head.status() == 100 {
            continue;
        }
        let mut body = Vec::new();
        copy_body(&mut reader, head.response_framing(method), |piece, payload| {
            if payload {
                body.extend_from_slice(piece);
            }
            Ok(())
        })?;
        return Ok(Response { head, body });
    }
}

/// Drains what is left to read, for as long as it comes at once.
pub(crate) fn drain(stream: &mut impl Read) {
    let mut buffer = [0; 65536];
    while matches!(stream.read(&mut buffer), Ok(count) if count > 0) {}
}
