//! A member by what people type: its key, its name, or the beginning of its key.

use super::messages::NodeError;
use skep_runtime::{Member, NodeId};
use std::{collections::BTreeMap, sync::Arc};

/// The member that `text` means. A whole key goes before a name, a name before the beginning of a key.
///
/// # Errors
/// [`NodeError::NoSuchNode`], or [`NodeError::Ambiguous`] if several members fit.
pub fn find<'a>(members: &'a BTreeMap<NodeId, Arc<Member>>, text: &str) -> Result<&'a Member, NodeError> {
    if let Some(member) = text.parse().ok().and_then(|id: NodeId| members.get(&id)) {
        return Ok(member);
    }
    let named = only(members.values().filter(|m| m.name == text), text);
    if !matches!(named, Err(NodeError::NoSuchNode(_))) {
        return named;
    }
    if text.is_empty() {
        return named;
    }
    only(members.values().filter(|m| m.id.to_string().starts_with(text)), text)
}

fn only<'a>(mut fit: impl Iterator<Item = &'a Arc<Member>>, text: &str) -> Result<&'a Member, NodeError> {
    let first = fit.next().ok_or_else(|| NodeError::NoSuchNode(text.into()))?;
    match fit.next() {
        None => Ok(first),
        Some(_) => Err(NodeError::Ambiguous(text.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Swarm;

    #[tokio::test(start_paused = true)]
    async fn a_member_is_found_by_key_name_or_unique_beginning() {
        let swarm = Swarm::new(3).await;
        let members = swarm.context(0).members.now();
        let key = swarm.id(1).to_string();
        let check = |text: &str, expected: Result<usize, NodeError>| {
            assert_eq!(find(&members, text).map(|m| m.id), expected.map(|i| swarm.id(i)), "{text}");
        };
        check(&key, Ok(1));
        check("n2", Ok(2));
        check(&key[..4], Ok(1));
        check("a", Err(NodeError::Ambiguous("a".into())));
        check("", Err(NodeError::NoSuchNode(String::new())));
        check("n9", Err(NodeError::NoSuchNode("n9".into())));
    }
}
