//! Lines that are replaced in place, on a terminal: what is under way, for as long as it is.

use super::plain;
use dialoguer::console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;
use unicode_width::UnicodeWidthChar as _;

/// Times in a second that a board may be drawn.
const HERTZ: u8 = 10;

/// A block of lines at the end of the terminal. Dropping it takes a passing one away, and leaves a lasting one.
#[derive(Debug)]
pub struct Board {
    bar: ProgressBar,
    term: Term,
    lasting: bool,
}

impl Board {
    /// On stderr, while something is waited for.
    pub fn passing() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(HERTZ));
        bar.set_style(style("{msg}{spinner} {prefix} {elapsed}"));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar, term: Term::stderr(), lasting: false }
    }

    /// On stdout, as a result that changes.
    pub fn lasting() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout_with_hz(HERTZ));
        bar.set_style(style("{msg}{prefix}"));
        Self { bar, term: Term::stdout(), lasting: true }
    }

    /// How many lines there is room for above the last one.
    pub fn room(&self) -> usize {
        usize::from(self.term.size().0).saturating_sub(2).max(1)
    }

    /// How wide a line may be.
    pub fn width(&self) -> usize {
        usize::from(self.term.size().1).saturating_sub(1)
    }

    /// Replaces everything: these lines, as far as there is room, how many more there are besides, and the last line.
    pub fn show<I: IntoIterator<Item: AsRef<str>>>(&self, lines: I, mut more: usize, last: &str) {
        let width = self.width();
        let mut lines: Vec<String> = lines.into_iter().map(|line| cut(line.as_ref(), width)).collect();
        let room = self.room();
        if lines.len() > room || (more > 0 && lines.len() == room) {
            more += lines.len() - (room - 1);
            lines.truncate(room - 1);
        }
        if more > 0 {
            lines.push(format!("... and {more} more"));
        }
        self.bar.set_message(lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect::<String>());
        self.bar.set_prefix(cut(last, width.saturating_sub(12)));
        if self.lasting {
            self.bar.tick();
        }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        if self.lasting {
            self.bar.abandon();
            // Whatever follows begins on a line of its own. A terminal that is gone needs none.
            let _ = self.term.write_line("");
        } else {
            self.bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// One line without control characters, no wider than this.
fn cut(line: &str, width: usize) -> String {
    let mut left = width;
    plain(line)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take_while(|c| {
            let wide = c.width().unwrap_or(0);
            let fits = wide <= left;
            left = left.saturating_sub(wide);
            fits
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_no_wider_than_the_terminal() {
        assert_eq!(cut("abc\ndef\u{1b}[1m", 5), "abc d");
        assert_eq!(cut("日本語", 5), "日本");
        assert_eq!(cut("abc", 0), "");
    }
}
