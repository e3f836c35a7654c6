//! Digests over all records, by where their keys' hashes fall: two nodes find what differs between them by comparing a
//! few numbers, however much they hold.
//!
//! Two levels of 64: one root, 64 branches, 4096 leaves. A digest is the exclusive or of the prints under it, so that a
//! change costs three operations (the idea is Merkle's, 1987; order doesn't matter here, so sums do).

/// Branches of the root, and leaves of a branch.
pub const WIDTH: usize = 64;
/// All leaves.
pub const LEAVES: usize = WIDTH * WIDTH;

/// The digests of one node. 33 KiB, however many records there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forest {
    leaves: Vec<u64>,
    branches: [u64; WIDTH],
}

impl Default for Forest {
    fn default() -> Forest {
        Forest { leaves: vec![0; LEAVES], branches: [0; WIDTH] }
    }
}

impl Forest {
    /// The leaf of a place.
    pub fn leaf(place: u16) -> u16 {
        place % LEAVES as u16
    }

    /// The leaf of this number in a branch.
    pub fn leaf_of(branch: u8, number: u8) -> u16 {
        u16::from(branch) * WIDTH as u16 + u16::from(number)
    }

    /// Puts a print in, or takes it out again.
    pub fn toggle(&mut self, leaf: u16, print: u64) {
        let leaf = usize::from(leaf) % LEAVES;
        self.leaves[leaf] ^= print;
        self.branches[leaf / WIDTH] ^= print;
    }

    /// The digest of everything.
    pub fn root(&self) -> u64 {
        self.branches.iter().fold(0, |root, branch| root ^ branch)
    }

    /// The digests of all branches.
    pub fn branches(&self) -> &[u64] {
        &self.branches
    }

    /// The digests of a branch's leaves; of a branch that there is none, nothing.
    pub fn leaves(&self, branch: u8) -> &[u64] {
        let start = usize::from(branch) * WIDTH;
        self.leaves.get(start..start + WIDTH).unwrap_or_default()
    }
}

/// The numbers of those that differ. What one side lacks differs.
pub fn differing(ours: &[u64], theirs: &[u64]) -> Vec<u8> {
    let at = |digests: &[u64], n: usize| digests.get(n).copied();
    (0..ours.len().max(theirs.len()).min(WIDTH))
        .filter(|n| at(ours, *n) != at(theirs, *n))
        .filter_map(|n| u8::try_from(n).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_differs_is_found_and_nothing_else(
            common in prop::collection::vec((any::<u16>(), 1u64..), 0..200), more in prop::collection::vec((any::<u16>(), 1u64..), 1..5),
        ) {
            let mut here = Forest::default();
            common.iter().for_each(|(place, print)| here.toggle(Forest::leaf(*place), *print));
            let mut there = here.clone();
            more.iter().for_each(|(place, print)| there.toggle(Forest::leaf(*place), *print));
            let mut found = Vec::new();
            for branch in differing(here.branches(), there.branches()) {
                let leaves = differing(here.leaves(branch), there.leaves(branch));
                found.extend(leaves.into_iter().map(|leaf| Forest::leaf_of(branch, leaf)));
            }
            prop_assert!(found.iter().all(|leaf| more.iter().any(|(place, _)| Forest::leaf(*place) == *leaf)));
            more.iter().for_each(|(place, print)| there.toggle(Forest::leaf(*place), *print));
            prop_assert_eq!(here, there);
        }
    }
}
