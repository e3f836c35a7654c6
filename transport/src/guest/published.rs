//! The names that guests have published: each becomes a [`Proxy`] in the node's directory for as long as the guest's
//! actor lives and stays in its group.
//!
//! First come, first served: a name of the node's own, or of another guest, is not taken over. A second actor of
//! the same group waits until the first has left.

use super::proxy::{self, Proxy};
use crate::defaults::{DOOR_TIMEOUT, GUEST_NAMES_MAX};
use ractor::{
    ActorCell, ActorId,
    pg::{self, GroupChangeMessage},
};
use skep_runtime::{Directory, NodeId, Reach, defaults::NAME_CHARS_MAX, tasks::Spawner};
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::watch;

/// How the scope of published actors begins; a slash and the node's id follow. The group is the actor's name.
pub const PUBLISHED: &str = "skep/published";

/// The process groups' scope in which a guest of `node` publishes.
pub fn scope_of(node: NodeId) -> String {
    format!("{PUBLISHED}/{node}")
}

/// What one door's guests have published.
pub(super) struct Published {
    scope: String,
    directory: Directory,
    spawner: Spawner,
    entries: BTreeMap<String, Entry>,
    names: watch::Sender<BTreeSet<String>>,
}

struct Entry {
    guest: ActorCell,
    proxy: ActorCell,
}

impl Published {
    /// Nothing yet; `me` hears of changes, as process groups tell them, and hands them to [`Published::changed`].
    pub(super) fn watch(
        me: ActorCell,
        directory: Directory,
        spawner: Spawner,
        names: watch::Sender<BTreeSet<String>>,
    ) -> Published {
        let scope = scope_of(directory.id());
        pg::monitor_scope(scope.clone(), me);
        Published { scope, directory, spawner, entries: BTreeMap::new(), names }
    }

    pub(super) async fn changed(&mut self, change: GroupChangeMessage) {
        let group = change.get_group();
        match change {
            GroupChangeMessage::Join(_, _, actors) => {
                for guest in actors {
                    self.join(&group, guest).await;
                }
            }
            GroupChangeMessage::Leave(_, _, actors) => {
                for guest in actors {
                    self.leave(&group, guest.get_id()).await;
                }
                let mut waiting = pg::get_scoped_members(&self.scope, &group);
                waiting.sort_by_key(ActorCell::get_id);
                for guest in waiting {
                    self.join(&group, guest).await;
                }
            }
        }
        self.names.send_replace(self.entries.keys().cloned().collect());
    }

    async fn join(&mut self, name: &str, guest: ActorCell) {
        // An actor of this very process has the directory for that.
        if guest.get_id().is_local() || self.entries.contains_key(name) {
            return;
        }
        if let Err(why) = self.publish(name, guest).await {
            tracing::warn!(?name, why, "a guest's actor was not published");
        }
    }

    async fn publish(&mut self, name: &str, guest: ActorCell) -> Result<(), String> {
        if name.is_empty() || name.len() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
            return Err(format!("a published name has 1 to {NAME_CHARS_MAX} printable characters"));
        }
        if self.entries.len() >= GUEST_NAMES_MAX {
            return Err(format!("guests have published {GUEST_NAMES_MAX} names already"));
        }
        if self.directory.names().iter().any(|taken| taken == name) {
            return Err("the name is taken on this node".into());
        }
        // Guests may call each other.
        let setup = proxy::Setup { guest: guest.clone(), spawner: self.spawner.clone() };
        // The guest's actor is the supervisor: its proxy dies with it, whoever hears of it first.
        let proxy = self.directory.spawn_within(Reach::Guests, name, Proxy, setup, Some(guest.clone())).await;
        let proxy = proxy.map_err(|e| e.to_string())?;
        tracing::info!(name, "a guest published an actor");
        self.entries.insert(name.into(), Entry { guest, proxy: proxy.get_cell() });
        Ok(())
    }

    async fn leave(&mut self, name: &str, guest: ActorId) {
        if self.entries.get(name).is_none_or(|entry| entry.guest.get_id() != guest) {
            return;
        }
        let Some(Entry { guest, proxy }) = self.entries.remove(name) else { return };
        // The guest's actor may live on: it must not follow its proxy.
        proxy.unlink(guest);
        proxy.kill();
        // Only then is the name free, for the same program come back.
        if proxy.wait(Some(DOOR_TIMEOUT)).await.is_err() {
            tracing::warn!(name, "a guest's name is slow to go");
        }
    }
}
