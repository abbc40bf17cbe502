//! Progress on stderr: bars on a terminal, nothing otherwise.

use super::{note, plain, stderr_has_colour, stderr_is_terminal};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;

/// One thing under way. Dropping it takes its line off the terminal.
#[derive(Clone, Debug)]
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A count of bytes; with a total, a bar.
    pub fn bytes(title: &str, total: Option<u64>) -> Self {
        let template = match (total.is_some(), stderr_has_colour()) {
            (true, true) => "{msg} [{bar:24.green}] {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            (true, false) => "{msg} [{bar:24}] {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            (false, true) => "{spinner:.green} {msg} {bytes} {bytes_per_sec}",
            (false, false) => "{spinner} {msg} {bytes} {bytes_per_sec}",
        };
        Self::start(title, total, template)
    }

    /// Something whose end cannot be foreseen.
    pub fn waiting(title: &str) -> Self {
        Self::start(title, None, "{spinner} {msg} {elapsed}")
    }

    fn start(title: &str, total: Option<u64>, template: &str) -> Self {
        if !stderr_is_terminal() {
            return Self { bar: ProgressBar::hidden() };
        }
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(10));
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("=> "));
        bar.set_message(plain(title).into_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar }
    }

    /// So many more bytes are through.
    pub fn add(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// Sets how many bytes are through.
    pub fn set(&self, bytes: u64) {
        self.bar.set_position(bytes);
    }

    /// The total has become known.
    pub fn total(&self, bytes: u64) {
        self.bar.set_length(bytes);
    }

    /// Changes what is said of it.
    pub fn title(&self, title: &str) {
        self.bar.set_message(plain(title).into_owned());
    }

    /// Says one line of talk beside it.
    pub fn say(&self, text: &str) {
        self.bar.suspend(|| note(text));
    }

    /// Takes it off the terminal.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
