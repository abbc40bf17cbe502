//! Taking main's output from its socket, on a thread of its own.

use super::super::frames::{Frame, Frames, MainEnd};
use crate::engine::local::native::record::Log;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// Buffer between the socket and frames.
const BUFFER: usize = 128 << 10;

/// Adds all that main writes to the log and tells how long that is now. When nothing can come any more the log is on
/// disk; answers how main ended, if it said so, and what a person should know of the log.
pub(super) fn to_the_end(
    main: impl Read,
    mut log: Log,
    file: Option<&Path>,
    mut grown: impl FnMut(u64),
) -> (Option<MainEnd>, Vec<String>) {
    let mut frames = Frames::new(BufReader::with_capacity(BUFFER, main));
    let mut notes = Vec::new();
    let end = loop {
        match frames.next() {
            Ok(Some(Frame::Output(piece))) => {
                log.add(piece);
                grown(log.length());
            }
            Ok(Some(Frame::End(end))) => break Some(end),
            Ok(None) => break None,
            Err(cause) => {
                notes.push(format!("the log is incomplete: {cause}"));
                break None;
            }
        }
    };
    notes.extend(log.note());
    if let Some(Err(cause)) = file.map(|file| File::open(file).and_then(|file| file.sync_all())) {
        notes.push(format!("the log may be incomplete: {cause}"));
    }
    (end, notes)
}

#[cfg(test)]
mod tests {
    use super::super::super::frames::{How, output_header};
    use super::*;

    fn piece(bytes: &[u8]) -> Vec<u8> {
        [&output_header(bytes.len())[..], bytes].concat()
    }

    #[test]
    fn a_log_is_what_main_wrote_up_to_its_limit_and_its_end_is_what_main_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let end = MainEnd { how: How::Exited { code: 4 }, out_of_memory: false, memory_limit: None, alone: true };
        let sent = [piece(b"ab"), piece(b"cd"), end.frame().unwrap(), piece(b"never")].concat();
        let take = |limit, sent: &[u8]| {
            let mut lengths = Vec::new();
            let log = Log::open(Some(&path), limit).unwrap();
            let (end, notes) = to_the_end(sent, log, Some(&path), |length| lengths.push(length));
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::remove_file(&path).unwrap();
            (end, notes, lengths, text)
        };
        assert_eq!(take(100, &sent), (Some(end.clone()), Vec::new(), vec![2, 4], "abcd".to_owned()));
        let (same, notes, lengths, text) = take(3, &sent);
        assert!(same == Some(end) && notes == ["the log was cut at its limit of 3 bytes"], "{notes:?}");
        assert!(text.starts_with("abc\n[knit]") && lengths[1] == text.len() as u64, "{text}");
        assert_eq!(take(100, &sent[..7]), (None, Vec::new(), vec![2], "ab".to_owned()));
        let (end, notes, _, text) = take(100, &sent[..8]);
        assert!(end.is_none() && notes[0].starts_with("the log is incomplete") && text == "ab", "{notes:?}");
    }
}
