//! The token that API and registry ask for: whoever has it may start containers, so it is made of
//! the operating system's randomness and lies in a file that only root can read.

use crate::durable;
use crate::problem::{Kind, Problem};
use std::io;
use std::path::Path;

/// Random bytes in a token.
const BYTES: usize = 32;

/// The token kept in this file; made first if there is none.
pub fn keep(path: &Path) -> Result<String, Problem> {
    match durable::write_new(path, format!("{}\n", make()?).as_bytes(), 0o600) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(Problem::file("write the token", path, &e)),
    }
    let text = std::fs::read_to_string(path).map_err(|e| Problem::file("read the token", path, &e))?;
    let token = text.trim();
    if token.len() < 16 || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Problem::new(Kind::Failed, format!("the file {} holds no token", path.display()))
            .advise("remove it: the next `knitctl up` makes a new one"));
    }
    Ok(token.to_owned())
}

/// A new token: hexadecimal, so that it never looks like a flag and needs no quoting anywhere.
fn make() -> Result<String, Problem> {
    let mut bytes = [0_u8; BYTES];
    let mut filled = 0;
    while filled < BYTES {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(n) => filled += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Problem::new(Kind::Failed, format!("the system gives no random bytes: {e}"))),
        }
    }
    Ok(hex::encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_token_is_long_private_and_kept() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("token");
        let first = keep(&path).unwrap();
        assert_eq!(first.len(), BYTES * 2);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(keep(&path).unwrap(), first);
        assert_ne!(keep(&place.path().join("other")).unwrap(), first);
    }

    #[test]
    fn a_damaged_token_file_is_refused_with_advice() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("token");
        for content in ["", "\n", "short", "with a space in the middle of it", "tab\tbed-and-long-enough"] {
            std::fs::write(&path, content).unwrap();
            assert!(keep(&path).unwrap_err().advice.contains("remove it"), "{content:?}");
        }
    }
}
