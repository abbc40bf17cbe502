//! What is remembered of files with several hard links, within a bound that both sides of a stream
//! compute alike.

use std::collections::HashMap;
use std::hash::Hash;

/// Memory for remembered files, by the estimate of [`cost`].
pub(super) const MEMORY: usize = 16 * 1024 * 1024;

/// Files by key, each until all of its further links were seen.
pub(super) struct Links<K, V> {
    seen: HashMap<K, Remembered<V>>,
    spent: usize,
}

struct Remembered<V> {
    value: V,
    cost: usize,
    left: u64,
}

impl<K: Eq + Hash, V> Links<K, V> {
    pub(super) fn new() -> Self {
        Self { seen: HashMap::new(), spent: 0 }
    }

    /// Whether a file at a path of that length can still be remembered.
    pub(super) fn has_room(&self, path_length: usize) -> bool {
        self.spent + cost(path_length) <= MEMORY
    }

    /// Remembers a file that has `links` names in all.
    pub(super) fn remember(&mut self, key: K, path_length: usize, links: u64, value: V) {
        let cost = cost(path_length);
        let left = links.saturating_sub(1);
        if left > 0 && self.seen.insert(key, Remembered { value, cost, left }).is_none() {
            self.spent += cost;
        }
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.seen.get(key).map(|remembered| &remembered.value)
    }

    /// One further link to it was seen: after the last one it is forgotten.
    pub(super) fn used(&mut self, key: &K) {
        if let Some(remembered) = self.seen.get_mut(key) {
            remembered.left -= 1;
            if remembered.left == 0 {
                self.spent -= remembered.cost;
                self.seen.remove(key);
            }
        }
    }
}

/// Estimated memory of one file: its path, once as key or value, and what the table adds.
fn cost(path_length: usize) -> usize {
    path_length + 192
}
