//! How careful a node is before it calls another one dead.
//!
//! Production has all of it; what can be left out is there so that the simulator can say what each part is worth.
//! Not here: the parts themselves ([`super::health`], [`super::suspicion`], [`super::accusation`]).

/// Which of Lifeguard's parts stand between silence and `Down`. Lifeguard: Dadgar, Phillips, Currey, 2018.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// A node that is behind with its own work probes more slowly and waits longer before it accuses.
    pub local_health: bool,
    /// A suspect's time starts long and shrinks as others find it silent too; it hears who accuses it, and answers
    /// them.
    pub dogpile: bool,
    /// A connection that broke without a word is evidence, and shortens a suspect's time.
    pub loss: bool,
}

impl Policy {
    /// What production runs.
    pub const LIFEGUARD: Policy = Policy { local_health: true, dogpile: true, loss: true };
    /// SWIM with a fixed time for every suspect, as foca is without us. For comparison alone.
    pub const PLAIN: Policy = Policy { local_health: false, dogpile: false, loss: false };
}

impl Default for Policy {
    fn default() -> Policy {
        Policy::LIFEGUARD
    }
}
