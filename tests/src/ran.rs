//! Commands that were run, with everything that a story may claim of them.

use crate::processes::Process;
use rustix::process::{Pid, Signal};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

/// No command of a story takes this long unless it hangs.
const LIMIT: Duration = Duration::from_mins(10);

/// A command that has ended.
#[derive(Clone, Debug)]
pub struct Ran {
    line: String,
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: Vec<u8>,
    /// What it said.
    pub stderr: String,
}

#[expect(clippy::return_self_not_must_use, reason = "a claim is made for its own sake")]
impl Ran {
    /// Runs a command to its end.
    pub fn run(command: Command) -> Self {
        Self::with_input(command, Vec::new())
    }

    /// Runs a command to its end with this on its standard input.
    pub fn with_input(mut command: Command, input: Vec<u8>) -> Self {
        let line = line_of(&command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot run `{line}`: {e}"));
        let mut stdin = child.stdin.take().expect("stdin is piped");
        let writer = std::thread::spawn(move || {
            // A command need not read its input.
            let _ = stdin.write_all(&input);
        });
        let stdout = collect(child.stdout.take().expect("stdout is piped"));
        let stderr = collect(child.stderr.take().expect("stderr is piped"));
        let hung = !Process::open(child.id() as i32).is_none_or(|process| process.wait(LIMIT));
        if hung {
            // What it said until now is worth more than its end.
            let _ = child.kill();
        }
        let status = child.wait().unwrap_or_else(|e| panic!("cannot wait for `{line}`: {e}"));
        writer.join().expect("the writer does not panic");
        let stdout = stdout.join().expect("the reader does not panic");
        let stderr = String::from_utf8_lossy(&stderr.join().expect("the reader does not panic")).into_owned();
        let ran = Self { line, code: status.code(), stdout, stderr };
        assert!(!hung, "it was still running after {} s: {ran}", LIMIT.as_secs());
        ran
    }

    /// Claims that it succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.code(0)
    }

    /// Claims that it ended with this exit code.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert!(self.code == Some(code), "exit code {code} was expected: {self}");
        self
    }

    /// Claims that it failed with this exit code, and that its message holds each of these texts, whatever their case.
    #[track_caller]
    pub fn fails(self, code: i32, says: &[&str]) -> Self {
        let ran = self.code(code);
        ran.is_fit_for_a_person();
        ran.says(says)
    }

    /// Claims that its talk holds each of these texts, whatever their case.
    #[track_caller]
    pub fn says(self, texts: &[&str]) -> Self {
        let said = self.stderr.to_lowercase();
        for text in texts {
            assert!(said.contains(&text.to_lowercase()), "its message should say \"{text}\": {self}");
        }
        self
    }

    /// Claims that no insides of the program reached the person.
    #[track_caller]
    fn is_fit_for_a_person(&self) {
        for inside in ["panicked at", "RUST_BACKTRACE", "Os { code", "Err(", "Some(", ".rs:"] {
            assert!(!self.stderr.contains(inside), "\"{inside}\" is not for a person: {self}");
        }
    }

    /// What it printed, as text.
    #[track_caller]
    pub fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap_or_else(|_| panic!("its output is not UTF-8: {self}"))
    }

    /// What it printed, as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|e| panic!("its output is not JSON ({e}): {self}"))
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let code = self.code.map_or("a signal".to_owned(), |code| code.to_string());
        let stdout = String::from_utf8_lossy(&self.stdout);
        write!(f, "\n$ {}\n-- ended with {code}", self.line)?;
        write!(f, "\n-- stdout:\n{}\n-- stderr:\n{}", shortened(&stdout), shortened(&self.stderr))
    }
}

fn shortened(text: &str) -> &str {
    let mut end = text.len().min(8000);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn line_of(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy();
    let words = command.get_args().map(|word| word.to_string_lossy());
    std::iter::once(program).chain(words).collect::<Vec<_>>().join(" ")
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What arrived before an error is still worth showing.
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

/// A command that still runs and whose output is read line by line.
#[derive(Debug)]
pub struct Following {
    line: String,
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    seen: Vec<u8>,
}

impl Following {
    /// Starts a command.
    pub fn start(mut command: Command) -> Self {
        let line = line_of(&command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot run `{line}`: {e}"));
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let stderr = Some(collect(child.stderr.take().expect("stderr is piped")));
        Self { line, child, stdout, stderr, seen: Vec::new() }
    }

    /// Waits for a line that holds this text.
    #[track_caller]
    pub fn until(&mut self, text: &str) {
        loop {
            let mut line = Vec::new();
            let read = self.stdout.read_until(b'\n', &mut line).unwrap_or_else(|e| panic!("`{}`: {e}", self.line));
            let seen = String::from_utf8_lossy(&self.seen);
            assert!(read > 0, "`{}` ended without saying \"{text}\"; it said:\n{seen}", self.line);
            self.seen.extend_from_slice(&line);
            if String::from_utf8_lossy(&line).contains(text) {
                return;
            }
        }
    }

    /// Waits for its end and returns everything that it printed, and its exit code.
    pub fn finish(mut self) -> (Vec<u8>, Option<i32>) {
        self.stdout.read_to_end(&mut self.seen).unwrap_or_else(|e| panic!("`{}`: {e}", self.line));
        let status = self.child.wait().unwrap_or_else(|e| panic!("cannot wait for `{}`: {e}", self.line));
        (std::mem::take(&mut self.seen), status.code())
    }

    /// Waits for its end and returns everything that it said on stderr, and its exit code.
    pub fn finish_with_stderr(mut self) -> (String, Option<i32>) {
        self.stdout.read_to_end(&mut self.seen).unwrap_or_else(|e| panic!("`{}`: {e}", self.line));
        let status = self.child.wait().unwrap_or_else(|e| panic!("cannot wait for `{}`: {e}", self.line));
        let said = self.stderr.take().map(|reader| reader.join().expect("the reader does not panic"));
        (String::from_utf8_lossy(&said.unwrap_or_default()).into_owned(), status.code())
    }

    /// Sends it a signal, as a terminal or a supervisor does.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a process has a number");
        rustix::process::kill_process(pid, signal).unwrap_or_else(|e| panic!("`{}`: {e}", self.line));
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.kill();
    }
}
