//! Browsers that are signed in: a one-time link from `skep open` becomes a cookie that scripts can't read.
//!
//! Both live in memory only: a restart signs everyone out, and the token itself never enters a browser. So do tickets: one
//! opens one WebSocket within seconds, and what asked for it with a cookie has to show that cookie again. None of them
//! makes anything that lives longer: links are the token's alone, what a ticket opens ends with the session behind it.

use crate::{
    caller::{By, Caller},
    limits::{LINK_TIMEOUT, SESSION_TIMEOUT, SESSIONS_MAX, TICKET_TIMEOUT},
};
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
    tickets: BTreeMap<String, Instant>,
    /// The sessions that asked for tickets, by ticket.
    bound: BTreeMap<String, String>,
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

    /// The browser of this `Cookie` header, if it is signed in.
    pub(crate) fn caller(&self, cookies: &str) -> Option<Caller> {
        let (_, until) = self.whose(cookies)?;
        Some(Caller { by: By::Session, until: Some(until) })
    }

    /// A secret for one WebSocket within [`TICKET_TIMEOUT`], for the browser of this `Cookie` header if it is one's.
    /// `None` for a browser whose session has just ended.
    pub(crate) fn ticket(&self, caller: Caller, cookies: Option<&str>) -> Option<String> {
        let session = cookies.and_then(|cookies| self.whose(cookies)).map(|(session, _)| session);
        if caller.by != By::Token && session.is_none() {
            return None;
        }
        let ticket = self.secret();
        let mut inner = self.lock();
        let Inner { tickets, bound, .. } = &mut *inner;
        insert(tickets, ticket.clone(), TICKET_TIMEOUT);
        bound.retain(|ticket, _| tickets.contains_key(ticket));
        bound.extend(session.map(|session| (ticket.clone(), session)));
        Some(ticket)
    }

    /// Who opens a WebSocket with this ticket and these cookies. It doesn't do so again.
    pub(crate) fn redeem(&self, ticket: &str, cookies: Option<&str>) -> Option<Caller> {
        let session = cookies.and_then(|cookies| self.whose(cookies));
        let mut inner = self.lock();
        let (works, bound) = (inner.tickets.remove(ticket)?, inner.bound.remove(ticket));
        let until = match (bound, session) {
            (None, _) => None,
            (Some(bound), Some((session, until))) if bound == session => Some(until),
            (Some(_), _) => return None,
        };
        (works > Instant::now()).then_some(Caller { by: By::Ticket, until })
    }

    /// The session of a `Cookie` header and its end, if it is a browser's that is signed in.
    fn whose(&self, cookies: &str) -> Option<(String, Instant)> {
        let own = |pair: &str| pair.trim().strip_prefix(COOKIE)?.strip_prefix('=').map(str::to_owned);
        let secret = cookies.split(';').find_map(own)?;
        let until = self.lock().sessions.get(&secret).copied().filter(|until| *until > Instant::now())?;
        Some((secret, until))
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
        assert!(sessions.caller(&format!("theme=dark; {pair}")).is_some());
        assert!(sessions.enter(&link).is_none());
        assert!(sessions.caller("skep_session=00").is_none() && sessions.caller("").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn links_and_sessions_expire() {
        let sessions = sessions();
        let (late, used) = (sessions.link(), sessions.link());
        let cookie = sessions.enter(&used).unwrap();
        tokio::time::advance(LINK_TIMEOUT + Duration::from_secs(1)).await;
        assert!(sessions.enter(&late).is_none());
        tokio::time::advance(SESSION_TIMEOUT).await;
        assert!(sessions.caller(&cookie).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_ticket_opens_one_socket_within_seconds() {
        let sessions = sessions();
        let ticket = || sessions.ticket(Caller::OWNER, None).unwrap();
        let (used, late) = (ticket(), ticket());
        assert!(sessions.redeem(&used, None).is_some());
        assert!(sessions.redeem(&used, None).is_none(), "once");
        tokio::time::advance(TICKET_TIMEOUT + Duration::from_secs(1)).await;
        assert!(sessions.redeem(&late, None).is_none() && sessions.redeem("", None).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_browsers_ticket_is_that_browsers_alone() {
        let sessions = sessions();
        let enter = || sessions.enter(&sessions.link()).unwrap().split(';').next().unwrap().to_owned();
        let (mine, other) = (enter(), enter());
        let session = sessions.caller(&mine).unwrap();
        let ticket = || sessions.ticket(session, Some(&mine)).unwrap();
        let stolen = ticket();
        assert!(sessions.redeem(&stolen, Some(&other)).is_none());
        assert!(sessions.redeem(&stolen, Some(&mine)).is_none(), "whoever tried has used it up");
        assert!(sessions.redeem(&ticket(), None).is_none());
        let redeemed = sessions.redeem(&ticket(), Some(&mine)).unwrap();
        assert_eq!((redeemed.by, redeemed.until), (By::Ticket, session.until), "it ends with its session");
        let late = ticket();
        sessions.lock().sessions.clear();
        assert!(sessions.redeem(&late, Some(&mine)).is_none(), "the session has ended");
        assert!(sessions.ticket(session, Some(&mine)).is_none(), "so it makes no ticket that nothing ends");
        assert!(sessions.lock().bound.is_empty());
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
