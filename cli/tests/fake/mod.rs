//! A server for tests that says exactly the bytes it is told to say, and remembers what it was asked;
//! and a home folder in which the real program runs.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test program uses its part")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

/// One request as it came over the wire.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// What the server does with a request.
pub enum Answer {
    /// These bytes, once the request is read.
    Bytes(Vec<u8>),
    /// These bytes, and then the connection is closed.
    Close(Vec<u8>),
    /// These bytes before the body is read; the body is then read away.
    Early(Vec<u8>),
}

/// A running server.
pub struct Fake {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Fake {
    /// Answers every request as `handler` says, which is asked when the head of a request is there.
    pub fn start(handler: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (handler, record) = (Arc::new(handler), Arc::clone(&seen));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (handler, record) = (Arc::clone(&handler), Arc::clone(&record));
                std::thread::spawn(move || serve(stream, &*handler, &record));
            }
        });
        Self { address, seen }
    }

    /// All requests so far but the question what the server is.
    pub fn requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap().iter().filter(|r| !r.target.ends_with("/server")).cloned().collect()
    }

    /// All requests so far.
    pub fn all_requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    pub fn api_root(&self) -> String {
        format!("http://{}/api", self.address)
    }
}

fn serve(stream: TcpStream, handler: &dyn Fn(&Request) -> Answer, record: &Mutex<Vec<Request>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    while let Some(mut request) = read_head(&mut reader) {
        let answer = handler(&request);
        if let Answer::Early(bytes) = &answer {
            record.lock().unwrap().push(request);
            let _ = writer.write_all(bytes);
            let _ = writer.shutdown(std::net::Shutdown::Write);
            let _ = std::io::copy(&mut reader, &mut std::io::sink());
            return;
        }
        if read_body(&mut reader, &mut request).is_none() {
            return;
        }
        record.lock().unwrap().push(request);
        match answer {
            Answer::Bytes(bytes) => {
                if writer.write_all(&bytes).is_err() {
                    return;
                }
            }
            Answer::Close(bytes) | Answer::Early(bytes) => {
                let _ = writer.write_all(&bytes);
                return;
            }
        }
    }
}

fn read_head(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let mut words = line.split_whitespace();
    let mut request = Request { method: words.next()?.into(), target: words.next()?.into(), ..Request::default() };
    request.headers = read_fields(reader)?;
    Some(request)
}

fn read_fields(reader: &mut BufReader<TcpStream>) -> Option<Vec<(String, String)>> {
    let mut fields = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        match line.trim_end().split_once(':') {
            None => return Some(fields),
            Some((name, value)) => fields.push((name.to_owned(), value.trim().to_owned())),
        }
    }
}

fn read_body(reader: &mut BufReader<TcpStream>, request: &mut Request) -> Option<()> {
    if request.header("transfer-encoding") != Some("chunked") {
        let length = request.header("content-length").map_or(0, |text| text.parse().unwrap());
        request.body = vec![0; length];
        return reader.read_exact(&mut request.body).ok();
    }
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let length = usize::from_str_radix(line.trim(), 16).ok()?;
        if length == 0 {
            request.trailers = read_fields(reader)?;
            return Some(());
        }
        let mut chunk = vec![0; length + 2];
        reader.read_exact(&mut chunk).ok()?;
        request.body.extend_from_slice(&chunk[..length]);
    }
}

/// An answer with a JSON body.
pub fn json(status: u16, value: &serde_json::Value) -> Answer {
    let body = format!("{value}\n");
    Answer::Bytes(
        format!(
            "HTTP/1.1 {status} Reason\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes(),
    )
}

/// An answer whose body comes in one chunk, with trailers that need not be announced.
pub fn chunked(head: &str, body: &[u8], trailers: &str) -> Answer {
    let mut bytes = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{head}\r\n").into_bytes();
    if !body.is_empty() {
        bytes.extend(format!("{:x}\r\n", body.len()).into_bytes());
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend(format!("0\r\n{trailers}\r\n").into_bytes());
    Answer::Bytes(bytes)
}

/// A Data as the server shows it.
pub fn data(id: &str) -> serde_json::Value {
    serde_json::json!({
        "knitId": id, "tags": [format!("knit#id:{id}")],
        "upstream": {"mountpoint": {"path": "/upload", "tags": []}, "run": {
            "runId": "r1", "status": "done", "updatedAt": "2024-05-01T10:00:00+00:00",
            "plan": {"planId": "u", "name": "knit#uploaded"},
        }},
        "downstreams": [], "nomination": [],
    })
}

/// A Run as the server shows it.
pub fn run(id: &str, status: &str) -> serde_json::Value {
    serde_json::json!({
        "runId": id, "status": status, "updatedAt": "2024-05-01T10:00:00+00:00",
        "plan": {"planId": "p1", "image": "train:v1"}, "inputs": [], "outputs": [], "log": null,
    })
}

/// A Plan as a server sends it.
pub fn plan(id: &str) -> serde_json::Value {
    serde_json::json!({"planId": id, "image": "train:v1", "active": true, "inputs": [], "outputs": []})
}

/// A home folder and a project folder.
pub struct Home {
    root: tempfile::TempDir,
}

impl Home {
    /// With a profile `p` for this server, which the project uses.
    pub fn of(api_root: &str, token: Option<&str>) -> Self {
        let home = Self { root: tempfile::tempdir().unwrap() };
        std::fs::create_dir_all(home.root.path().join("home/.knit")).unwrap();
        std::fs::create_dir_all(home.project()).unwrap();
        let token = token.map_or_else(String::new, |token| format!("    token: {token}\n"));
        let store = format!("p:\n    apiRoot: {api_root}\n    cert: {{}}\n{token}");
        std::fs::write(home.root.path().join("home/.knit/profile"), store).unwrap();
        std::fs::write(home.project().join(".knitprofile"), "p").unwrap();
        home
    }

    pub fn project(&self) -> PathBuf {
        self.root.path().join("project")
    }

    pub fn store(&self) -> PathBuf {
        self.root.path().join("home/.knit/profile")
    }

    pub fn write(&self, path: &str, content: &str) {
        let path = self.project().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub fn command(&self, folder: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_knit"));
        command.args(arguments).current_dir(folder).env_clear().env("HOME", self.root.path().join("home"));
        command.env("TZ", "UTC").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the program in the project folder.
    pub fn knit(&self, arguments: &[&str]) -> Ended {
        self.knit_in(&self.project(), arguments)
    }

    pub fn knit_in(&self, folder: &Path, arguments: &[&str]) -> Ended {
        Ended::from(self.command(folder, arguments).output().unwrap())
    }

    /// Names in a folder of the project, hidden ones too.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.project().join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// How the program ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ended {
    pub fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }
}
