//! HTTP/1.1 spoken by hand over plain TCP, byte for byte as foreign clients do it.

use base64::Engine as _;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A server that says nothing for this long hangs.
const LIMIT: Duration = Duration::from_mins(2);

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    None,
    /// With its length announced.
    Whole(Vec<u8>),
    /// In chunks, with trailers that nothing announces.
    Chunked {
        content: Vec<u8>,
        trailers: Vec<(String, String)>,
    },
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// After chunks were put together.
    pub body: Vec<u8>,
    /// Names in lower case.
    pub trailers: Vec<(String, String)>,
}

impl Request {
    /// A request without a body.
    pub fn new(method: &str, path: &str) -> Self {
        Self { method: method.to_owned(), path: path.to_owned(), headers: Vec::new(), body: Body::None }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a bearer token.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    /// Adds a user and a password.
    #[must_use]
    pub fn basic(self, user: &str, password: &str) -> Self {
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        self.header("Authorization", &format!("Basic {pair}"))
    }

    /// Sends this with its length announced.
    #[must_use]
    pub fn body(mut self, content: impl Into<Vec<u8>>) -> Self {
        self.body = Body::Whole(content.into());
        self
    }

    /// Sends this as JSON.
    #[must_use]
    pub fn json(self, content: &Value) -> Self {
        self.header("Content-Type", "application/json").body(content.to_string())
    }

    /// Sends this in chunks, then trailers without having announced them.
    #[must_use]
    pub fn chunked(mut self, content: impl Into<Vec<u8>>, trailers: &[(&str, &str)]) -> Self {
        let trailers = trailers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.body = Body::Chunked { content: content.into(), trailers };
        self
    }

    /// Sends it to `host:port` and reads the whole answer.
    #[track_caller]
    pub fn send(&self, to: &str) -> Answer {
        self.exchange(to).unwrap_or_else(|e| panic!("{} {} at {to}: {e}", self.method, self.path))
    }

    /// Sends it; an error when the connection breaks before the end of the answer.
    pub fn exchange(&self, to: &str) -> std::io::Result<Answer> {
        let mut stream = TcpStream::connect(to)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        let mut sent = stream.try_clone()?;
        let bytes = self.bytes(to);
        // On the side, since a server may answer before it has read all; and it may stop reading then.
        let writer = std::thread::spawn(move || {
            let _ = sent.write_all(&bytes);
        });
        let answer = read(&mut BufReader::new(&mut stream), &self.method);
        let _ = stream.shutdown(std::net::Shutdown::Both);
        writer.join().expect("the writer does not panic");
        answer
    }

    fn bytes(&self, to: &str) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: {to}\r\n", self.method, self.path);
        head.push_str("User-Agent: Go-http-client/1.1\r\nAccept-Encoding: gzip\r\nConnection: close\r\n");
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let mut tail = Vec::new();
        match &self.body {
            Body::None => head.push_str("\r\n"),
            Body::Whole(content) => {
                let _ = write!(head, "Content-Length: {}\r\n\r\n", content.len());
                tail.extend_from_slice(content);
            }
            Body::Chunked { content, trailers } => {
                head.push_str("Transfer-Encoding: chunked\r\n\r\n");
                for chunk in content.chunks(8192) {
                    tail.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    tail.extend_from_slice(chunk);
                    tail.extend_from_slice(b"\r\n");
                }
                tail.extend_from_slice(b"0\r\n");
                for (name, value) in trailers {
                    tail.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
                }
                tail.extend_from_slice(b"\r\n");
            }
        }
        let mut bytes = head.into_bytes();
        bytes.append(&mut tail);
        bytes
    }
}

#[expect(clippy::return_self_not_must_use, reason = "a claim is made for its own sake")]
impl Answer {
    /// Claims this status.
    #[track_caller]
    pub fn status(self, status: u16) -> Self {
        let body = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "the answer was: {}", &body[..body.len().min(2000)]);
        self
    }

    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("the answer is not JSON ({e}): {text}"))
    }
}

fn broken(why: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, why.to_owned())
}

fn line(from: &mut impl BufRead) -> std::io::Result<String> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn fields(from: &mut impl BufRead) -> std::io::Result<Vec<(String, String)>> {
    let mut fields = Vec::new();
    loop {
        let line = line(from)?;
        if line.is_empty() {
            return Ok(fields);
        }
        let (name, value) = line.split_once(':').ok_or_else(|| broken("a header without a colon"))?;
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn read(from: &mut impl BufRead, method: &str) -> std::io::Result<Answer> {
    let first = line(from)?;
    let status = first.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(|| broken("no status line"))?;
    let headers = fields(from)?;
    let get = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
    let (mut body, mut trailers) = (Vec::new(), Vec::new());
    if method == "HEAD" || status == 204 || status == 304 {
        return Ok(Answer { status, headers, body, trailers });
    }
    if get("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        loop {
            let size = line(from)?;
            let size = usize::from_str_radix(size.split(';').next().unwrap_or("").trim(), 16)
                .map_err(|_| broken("a chunk without a size"))?;
            if size == 0 {
                trailers = fields(from)?;
                break;
            }
            let start = body.len();
            body.resize(start + size, 0);
            from.read_exact(&mut body[start..])?;
            line(from)?;
        }
    } else if let Some(length) = get("content-length") {
        body.resize(length.parse().map_err(|_| broken("a length that is no number"))?, 0);
        from.read_exact(&mut body)?;
    } else {
        from.read_to_end(&mut body)?;
    }
    Ok(Answer { status, headers, body, trailers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_answer_is_put_together_with_its_trailers() {
        let text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 1\r\n\r\n";
        let answer = read(&mut text.as_bytes(), "GET").expect("it is whole");
        assert_eq!((answer.status, answer.body.as_slice()), (200, b"abcde".as_slice()));
        assert_eq!(answer.trailers, [("x-sum".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn an_answer_that_breaks_off_is_an_error() {
        for text in [
            "",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        ] {
            assert!(read(&mut text.as_bytes(), "GET").is_err(), "{text:?}");
        }
    }
}
