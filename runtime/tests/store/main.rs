//! The disk, from outside: one conformance suite and one torture suite for every back end.
//!
//! What a back end is known not to promise is asserted as it is, with a comment.

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod full;
#[cfg(test)]
mod place;
