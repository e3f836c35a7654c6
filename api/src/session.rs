//! Browsers that are signed in: a one-time link from `skep open` becomes a cookie that scripts can't read.
//!
//! Both live in memory only: a restart signs everyone out, and the token itself never enters a browser.

use crate::limits::{LINK_TIMEOUT, SESSION_TIMEOUT, SESSIONS_MAX};
use skep_actors::runtime::Env;
use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// The cookie's name.
const COOKIE: &str = "skep_session";

/// The links that were given out and the browsers that came in. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Sessions {
    env: Env,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    /// Until when, by secret. The map's order by secret tells an attacker nothing that 128 bits don't outweigh.
    links: BTreeMap<String, Instant>,
    sessions: BTreeMap<String, Instant>,
}

impl Sessions {
    pub(crate) fn new(env: Env) -> Sessions {
        Sessions { env, inner: Arc::default() }
    }

    /// A secret for one sign-in within [`LINK_TIMEOUT`].
    pub(crate) fn link(&self) -> String {
        let secret = self.secret();
        insert(&mut self.lock().links, secret.clone(), LINK_TIMEOUT);
        secret
    }

    /// The `Set-Cookie` for whoever holds an unused link.
    pub(crate) fn enter(&self, link: &str) -> Option<String> {
        let secret = self.secret();
        let mut inner = self.lock();
        let until = inner.links.remove(link)?;
        if until < Instant::now() {
            return None;
        }
        insert(&mut inner.sessions, secret.clone(), SESSION_TIMEOUT);
        let seconds = SESSION_TIMEOUT.as_secs();
        Some(format!("{COOKIE}={secret}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict"))
    }

    /// Whether this `Cookie` header belongs to a browser that is signed in.
    pub(crate) fn holds(&self, cookies: &str) -> bool {
        let own = |pair: &str| pair.trim().strip_prefix(COOKIE)?.strip_prefix('=').map(str::to_owned);
        let Some(secret) = cookies.split(';').find_map(own) else { return false };
        self.lock().sessions.get(&secret).is_some_and(|until| *until > Instant::now())
    }

    fn secret(&self) -> String {
        self.env.bytes::<16>().iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a string can't fail");
            text
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds a secret; beyond the bound the one that would expire first goes.
fn insert(map: &mut BTreeMap<String, Instant>, secret: String, life: Duration) {
    let now = Instant::now();
    map.retain(|_, until| *until > now);
    if map.len() >= SESSIONS_MAX {
        let first = map.iter().min_by_key(|(_, until)| **until).map(|(secret, _)| secret.clone());
        first.map(|secret| map.remove(&secret));
    }
    map.insert(secret, now + life);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions() -> Sessions {
        Sessions::new(Env::seeded([1; 32], Duration::ZERO))
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_lets_one_browser_in_and_only_once() {
        let sessions = sessions();
        let link = sessions.link();
        let cookie = sessions.enter(&link).unwrap();
        assert!(cookie.contains("HttpOnly; SameSite=Strict"));
        let pair = cookie.split(';').next().unwrap();
        assert!(sessions.holds(&format!("theme=dark; {pair}")));
        assert!(sessions.enter(&link).is_none());
        assert!(!sessions.holds("skep_session=00") && !sessions.holds(""));
    }

    #[tokio::test(start_paused = true)]
    async fn links_and_sessions_expire() {
        let sessions = sessions();
        let (late, used) = (sessions.link(), sessions.link());
        let cookie = sessions.enter(&used).unwrap();
        tokio::time::advance(LINK_TIMEOUT + Duration::from_secs(1)).await;
        assert!(sessions.enter(&late).is_none());
        tokio::time::advance(SESSION_TIMEOUT).await;
        assert!(!sessions.holds(&cookie));
    }

    #[tokio::test(start_paused = true)]
    async fn links_are_bounded_and_the_oldest_goes_first() {
        let sessions = sessions();
        let first = sessions.link();
        for _ in 0..SESSIONS_MAX {
            tokio::time::advance(Duration::from_millis(1)).await;
            sessions.link();
        }
        assert!(sessions.enter(&first).is_none());
        assert_eq!(sessions.lock().links.len(), SESSIONS_MAX);
    }
}
