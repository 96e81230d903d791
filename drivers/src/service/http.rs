//! An HTTP/1.1 server that answers every request with one text: RFC 9110 and RFC 9112.
//!
//! GET and HEAD are answered 200, other methods 405. What is no request is answered 400 (431 when its head is too
//! large), after which the connection ends. Bodies of requests are read over. No date is sent: there is no clock here
//! (RFC 9110 section 6.6.1).

use std::sync::Arc;

use httparse::{EMPTY_HEADER, Request, Status};

use crate::stack::{Cause, Stack, Tcp};

/// Largest head of a request in bytes, and most fields of it.
const LARGEST_HEAD: usize = 16 * 1024;
const FIELDS: usize = 100;

/// Requests that are answered in one visit.
const TURN: usize = 64;

/// One connection's requests and answers.
pub(super) struct Conversation {
    text: Arc<[u8]>,
    input: Vec<u8>,
    /// Bytes of a request's body that are still to be read over.
    body: u64,
    answer: Option<Answer>,
    /// Whether no more requests are taken.
    last: bool,
}

struct Answer {
    head: Vec<u8>,
    /// Whether the text follows the head.
    with_text: bool,
    sent: usize,
}

/// How far a conversation got.
pub(super) struct Progress {
    /// Something came.
    pub heard: bool,
    /// The last answer is on its way.
    pub last: bool,
}

/// A request, as far as it matters here.
struct Asked {
    head_bytes: usize,
    body: u64,
    status: &'static str,
    with_text: bool,
    keep: bool,
}

impl Conversation {
    pub fn new(text: Arc<[u8]>) -> Self {
        Self { text, input: Vec::new(), body: 0, answer: None, last: false }
    }

    /// Reads and answers what can be read and answered now. An error is the end of the connection.
    pub fn go_on(&mut self, stack: &mut Stack, tcp: &Tcp) -> Result<Progress, Cause> {
        let mut heard = false;
        let mut ended = false;
        for _ in 0..TURN {
            if !self.send(stack, tcp)? {
                return Ok(Progress { heard, last: false });
            }
            if self.last {
                return Ok(Progress { heard, last: true });
            }
            if self.take_request() {
                continue;
            }
            if ended {
                // The peer sends no more, and what it sent is no whole request.
                if self.input.is_empty() {
                    return Err(Cause::Finished);
                }
                self.say("400 Bad Request", false, false);
                continue;
            }
            match self.read(stack, tcp)? {
                None => return Ok(Progress { heard, last: false }),
                Some(0) => ended = true,
                Some(_) => heard = true,
            }
        }
        Ok(Progress { heard, last: false })
    }

    fn read(&mut self, stack: &mut Stack, tcp: &Tcp) -> Result<Option<usize>, Cause> {
        let room = LARGEST_HEAD.saturating_sub(self.input.len());
        let (input, body) = (&mut self.input, &mut self.body);
        stack.take(tcp, |bytes| {
            let skipped = usize::try_from(*body).unwrap_or(usize::MAX).min(bytes.len());
            *body -= skipped as u64;
            let taken = (bytes.len() - skipped).min(room);
            input.extend_from_slice(&bytes[skipped..skipped + taken]);
            skipped + taken
        })
    }

    /// Takes a request out of the input and prepares its answer. False when there is none yet.
    fn take_request(&mut self) -> bool {
        if self.input.is_empty() || self.body > 0 {
            return false;
        }
        match parse(&self.input) {
            Ok(Some(asked)) => {
                self.input.drain(..asked.head_bytes);
                self.body = asked.body;
                let here = self.input.len().min(usize::try_from(self.body).unwrap_or(usize::MAX));
                self.input.drain(..here);
                self.body -= here as u64;
                self.say(asked.status, asked.with_text, asked.keep);
            }
            Ok(None) if self.input.len() < LARGEST_HEAD => return false,
            Ok(None) => self.say("431 Request Header Fields Too Large", false, false),
            Err(status) => self.say(status, false, false),
        }
        true
    }

    fn say(&mut self, status: &str, with_text: bool, keep: bool) {
        self.last = !keep;
        let is_200 = status.starts_with("200");
        let length = if is_200 { self.text.len() } else { 0 };
        let content = if is_200 { "Content-Type: text/plain; charset=utf-8\r\n" } else { "" };
        let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
        let connection = if keep { "keep-alive" } else { "close" };
        let head = format!(
            "HTTP/1.1 {status}\r\nServer: vnet\r\n{content}Content-Length: {length}\r\n{allow}Connection: {connection}\r\n\r\n"
        );
        self.answer = Some(Answer { head: head.into_bytes(), with_text, sent: 0 });
    }

    /// Sends what is left of the answer. False when there is no room for all of it yet.
    fn send(&mut self, stack: &mut Stack, tcp: &Tcp) -> Result<bool, Cause> {
        let Some(answer) = &mut self.answer else { return Ok(true) };
        let text: &[u8] = if answer.with_text { &self.text } else { &[] };
        while answer.sent < answer.head.len() + text.len() {
            let rest = match answer.head.get(answer.sent..) {
                Some(head) if !head.is_empty() => head,
                _ => &text[answer.sent - answer.head.len()..],
            };
            match stack.send(tcp, rest)? {
                0 => return Ok(false),
                sent => answer.sent += sent,
            }
        }
        self.answer = None;
        Ok(true)
    }
}

/// The request at the beginning of `input`; `None` when it is not whole yet. An error is the status to answer with.
fn parse(input: &[u8]) -> Result<Option<Asked>, &'static str> {
    const NONSENSE: &str = "400 Bad Request";
    let mut fields = [EMPTY_HEADER; FIELDS];
    let mut request = Request::new(&mut fields);
    let head_bytes = match request.parse(input) {
        Ok(Status::Complete(bytes)) => bytes,
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err("431 Request Header Fields Too Large"),
        Err(httparse::Error::Version) => return Err("505 HTTP Version Not Supported"),
        Err(_) => return Err(NONSENSE),
    };
    let is_1_1 = request.version == Some(1);
    let (mut keep, mut hosts, mut body) = (is_1_1, 0, None);
    for field in request.headers.iter() {
        let name = field.name;
        if name.eq_ignore_ascii_case("host") {
            hosts += 1;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            // Where its body ends is not looked for: without it nobody could tell where the next request begins.
            return Err("501 Not Implemented");
        } else if name.eq_ignore_ascii_case("content-length") {
            let length = std::str::from_utf8(field.value).ok().map(str::trim);
            let length = length.filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
            let length: u64 = length.and_then(|text| text.parse().ok()).ok_or(NONSENSE)?;
            // RFC 9112 section 6.3: several that differ are an attack.
            if body.replace(length).is_some_and(|other| other != length) {
                return Err(NONSENSE);
            }
        } else if name.eq_ignore_ascii_case("connection") {
            for option in field.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                if option.eq_ignore_ascii_case(b"close") {
                    keep = false;
                } else if option.eq_ignore_ascii_case(b"keep-alive") && !is_1_1 {
                    keep = true;
                }
            }
        }
    }
    // RFC 9112 section 3.2.
    if hosts > 1 || (is_1_1 && hosts == 0) {
        return Err(NONSENSE);
    }
    let (status, with_text) = match request.method {
        Some("GET") => ("200 OK", true),
        Some("HEAD") => ("200 OK", false),
        _ => ("405 Method Not Allowed", false),
    };
    Ok(Some(Asked { head_bytes, body: body.unwrap_or(0), status, with_text, keep }))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn what_ends_in_the_middle_is_waited_for() {
        let request = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n";
        for end in 1..request.len() {
            assert!(matches!(parse(&request[..end]), Ok(None)), "{end} bytes");
        }
        assert!(matches!(parse(request), Ok(Some(asked)) if asked.head_bytes == request.len()));
    }

    #[test]
    fn two_lengths_that_differ_are_refused() {
        let request = b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n";
        assert_eq!(parse(request).err(), Some("400 Bad Request"));
        let request = b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n";
        assert_eq!(parse(request).err(), Some("400 Bad Request"));
    }

    #[test]
    fn only_1_1_keeps_the_connection_unasked() {
        let keeps = |text: &str| parse(text.as_bytes()).ok().flatten().map(|asked| asked.keep);
        assert_eq!(keeps("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Some(true));
        assert_eq!(keeps("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, close\r\n\r\n"), Some(false));
        assert_eq!(keeps("GET / HTTP/1.0\r\n\r\n"), Some(false));
        assert_eq!(keeps("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"), Some(true));
    }
}
