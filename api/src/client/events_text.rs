//! The text form of server-sent events, as the HTML standard defines it: fed with whatever pieces the network
//! brings, it gives whole events. Lengths are bounded.

/// Longest event that is read, in bytes: a Run with very many large tags.
const LONGEST: usize = 16 << 20;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    /// Its name; empty when none is given.
    pub(super) name: String,
    /// Its data, lines joined by line feeds.
    pub(super) data: Vec<u8>,
}

/// An event that is longer than anything a server of ours says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Takes bytes, gives events.
#[derive(Debug, Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    message: Message,
    has_data: bool,
    /// The last byte was a carriage return: a line feed behind it belongs to it.
    after_return: bool,
    /// The first line is through, before which a byte order mark may stand.
    begun: bool,
}

impl Parser {
    /// Takes the next bytes and appends the events that they complete.
    pub(super) fn feed(&mut self, bytes: &[u8], whole: &mut impl Extend<Message>) -> Result<(), TooLong> {
        for &byte in bytes {
            let after_return = std::mem::take(&mut self.after_return);
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' => {
                    self.after_return = byte == b'\r';
                    let line = std::mem::take(&mut self.line);
                    whole.extend(self.end_line(&line));
                    // Its room is used again.
                    self.line = line;
                    self.line.clear();
                }
                _ if self.line.len() + self.message.data.len() >= LONGEST => return Err(TooLong),
                _ => self.line.push(byte),
            }
        }
        Ok(())
    }

    /// What a line adds, or the event that an empty line ends.
    fn end_line(&mut self, line: &[u8]) -> Option<Message> {
        let line = match line.strip_prefix("\u{feff}".as_bytes()) {
            Some(rest) if !self.begun => rest,
            _ => line,
        };
        self.begun = true;
        if line.is_empty() {
            let message = std::mem::take(&mut self.message);
            return std::mem::take(&mut self.has_data).then_some(message);
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (field, value) = line.split_at(colon.unwrap_or(line.len()));
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"event" => self.message.name = String::from_utf8_lossy(value).into_owned(),
            b"data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.message.data.push(b'\n');
                }
                self.message.data.extend_from_slice(value);
            }
            // Comments have an empty field. Ids and pauses are of no use: everything is told again.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&[u8]]) -> Result<Vec<(String, String)>, TooLong> {
        let (mut parser, mut whole) = (Parser::default(), Vec::new());
        for piece in pieces {
            parser.feed(piece, &mut whole)?;
        }
        Ok(whole.into_iter().map(|one| (one.name, String::from_utf8_lossy(&one.data).into_owned())).collect())
    }

    #[test]
    fn events_are_read_as_the_standard_says() {
        let pair = |name: &str, data: &str| (name.to_owned(), data.to_owned());
        for (text, events) in [
            ("event: run\ndata: {}\n\n", vec![pair("run", "{}")]),
            ("\u{feff}event:run\r\ndata:{}\r\n\r\n", vec![pair("run", "{}")]),
            ("data: a\rdata:  b\r\rdata\n\n", vec![pair("", "a\n b"), pair("", "")]),
            (": heartbeat\n\nretry: 1000\n\nid: 7\nevent: x\n\n", vec![]),
            ("event: x\n\ndata: y\n\n", vec![pair("", "y")]),
            ("data: cut off\n", vec![]),
            ("data:\u{feff}\n\n", vec![pair("", "\u{feff}")]),
        ] {
            assert_eq!(read(&[text.as_bytes()]).unwrap(), events, "{text:?}");
        }
    }

    #[test]
    fn an_event_that_never_ends_is_not_kept() {
        let (mut parser, mut whole) = (Parser::default(), Vec::new());
        let piece = [b"data: ", vec![b'x'; 1 << 20].as_slice(), b"\n"].concat();
        let fed = (0..20).find_map(|_| parser.feed(&piece, &mut whole).err());
        assert_eq!((fed, whole.len()), (Some(TooLong), 0));
        assert_eq!(read(&[&vec![b'x'; LONGEST + 1]]), Err(TooLong));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_in_any_pieces_give_the_same_events(
            parts in proptest::collection::vec(
                proptest::prop_oneof![
                    proptest::sample::select(vec![
                        &b"data: x"[..], b"data:", b"event: run", b"\n", b"\r", b"\r\n", b"\n\n", b":", b" ", b"\xef\xbb\xbf", b"id",
                    ]).prop_map(<[u8]>::to_vec),
                    proptest::collection::vec(0_u8.., 0..8),
                ],
                0..40,
            ),
            cuts in proptest::collection::vec(0_usize..200, 0..12),
        ) {
            let bytes = parts.concat();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            proptest::prop_assert_eq!(read(&pieces), read(&[&bytes]));
        }
    }

    use proptest::strategy::Strategy as _;
}
