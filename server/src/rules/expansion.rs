//! Whether a volume that fills up is made larger, and how large.

/// What volumes are rounded up to: the SI giga.
const STEP: u64 = 1_000_000_000;

/// What a node tells of a volume that is mounted there, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filling {
    /// What is in it.
    pub used: u64,
    /// What can still be written.
    pub available: u64,
    /// The size of the file system that it is on, which may be shared with others.
    pub file_system: u64,
}

/// What is known of a volume's claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// It holds Data.
    pub is_data: bool,
    /// Nobody has said that it is to be left alone.
    pub is_managed: bool,
    /// Some container may write to it.
    pub is_written: bool,
    /// Bytes that are asked for.
    pub requested: u64,
    /// Bytes that it has been given.
    pub granted: u64,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expansion {
    /// It is none of this rule's.
    NotOurs,
    /// There is room enough.
    Enough,
    /// It is full, but nothing can be written to it.
    ReadOnly,
    /// It has been asked for more already.
    Growing,
    /// Ask for so many bytes.
    To(u64),
}

/// Decides for one volume: one in which not more than `margin` is free gets `delta` more.
///
/// Where volumes are folders of a shared file system, their size is only a number, and what counts is what they are
/// asked to hold. Where a volume has a file system of its own, that one's overhead counts as well.
pub fn expansion(filling: Filling, claim: Claim, margin: u64, delta: u64) -> Expansion {
    if !(claim.is_data && claim.is_managed) {
        return Expansion::NotOurs;
    }
    let size = claim.requested.max(claim.granted);
    let mut free = size.saturating_sub(filling.used);
    let is_growing = claim.requested > claim.granted;
    let is_own = filling.file_system <= claim.granted;
    if is_own {
        free = free.min(filling.available);
    }
    if free > margin {
        return Expansion::Enough;
    }
    if !claim.is_written {
        return Expansion::ReadOnly;
    }
    // Until it has what was asked for, its file system says nothing about what it will have; and asking again each
    // time would let it grow without end.
    if is_growing {
        return Expansion::Growing;
    }
    let wanted = size.max(filling.used).saturating_add(delta);
    Expansion::To(wanted.checked_next_multiple_of(STEP).unwrap_or(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GI: u64 = 1 << 30;
    const G: u64 = 1_000_000_000;

    #[test]
    fn a_volume_grows_when_it_is_ours_full_written_to_and_not_growing_yet() {
        use Expansion::{Enough, Growing, NotOurs, ReadOnly, To};
        let claim = Claim { is_data: true, is_managed: true, is_written: true, requested: 10 * GI, granted: 10 * GI };
        // A folder of a large disk: what the disk has says nothing.
        let folder = |used| Filling { used, available: 500 * GI, file_system: 1000 * GI };
        // A disk of its own, of which the file system keeps a tenth to itself.
        let own = |used| Filling { used, available: (9 * GI).saturating_sub(used), file_system: 9 * GI };
        for (what, filling, claim, expected) in [
            ("room for a byte more than the margin", folder(9 * GI - 1), claim, Enough),
            ("room for the margin", folder(9 * GI), claim, To(17 * G)),
            ("full", folder(10 * GI), claim, To(17 * G)),
            ("fuller than it may be", folder(20 * GI), claim, To(27 * G)),
            ("empty", folder(0), claim, Enough),
            ("its own, with room", own(7 * GI), claim, Enough),
            ("its own, and the overhead takes the rest", own(8 * GI), claim, To(17 * G)),
            ("not Data", folder(10 * GI), Claim { is_data: false, ..claim }, NotOurs),
            ("left alone", folder(10 * GI), Claim { is_managed: false, ..claim }, NotOurs),
            ("only read", folder(10 * GI), Claim { is_written: false, ..claim }, ReadOnly),
            ("only read, with room", folder(0), Claim { is_written: false, ..claim }, Enough),
            ("asked for more, and that will do", folder(10 * GI), Claim { requested: 16 * GI, ..claim }, Enough),
            ("asked for more, which is full already", folder(16 * GI), Claim { requested: 16 * GI, ..claim }, Growing),
            ("asked for more, its own still small", own(9 * GI), Claim { requested: 16 * GI, ..claim }, Growing),
            ("given more than asked for", folder(10 * GI), Claim { granted: 20 * GI, ..claim }, Enough),
            ("not given anything yet", folder(0), Claim { granted: 0, ..claim }, Enough),
        ] {
            assert_eq!(expansion(filling, claim, GI, 5 * GI), expected, "{what}");
        }
    }

    #[test]
    fn no_number_is_too_large_for_the_rule() {
        let filling = Filling { used: u64::MAX, available: 0, file_system: u64::MAX };
        let claim = Claim { is_data: true, is_managed: true, is_written: true, requested: u64::MAX, granted: u64::MAX };
        assert_eq!(expansion(filling, claim, u64::MAX, u64::MAX), Expansion::To(u64::MAX));
    }
}
