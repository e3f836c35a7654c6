//! `/api/ws/ticket`: a word that opens one WebSocket, for browsers' scripts that have the token and can't send headers.

use crate::{Problem, Reply, caller::Caller, limits::TICKET_TIMEOUT, session::Sessions, tag::Tag};
use poem::{
    Request,
    http::{StatusCode, header},
};
use poem_openapi::{Object, OpenApi, payload::Json};

/// The endpoint of the tickets.
#[derive(Clone)]
pub struct Tickets {
    sessions: Sessions,
}

impl Tickets {
    pub(crate) fn new(sessions: Sessions) -> Tickets {
        Tickets { sessions }
    }
}

#[OpenApi(tag = "Tag::Events")]
impl Tickets {
    /// Make a ticket for one WebSocket
    ///
    /// For `/ws?ticket=`: it works once, within seconds, and for the browser that is signed in, if one asked for it. What
    /// it opens ends with that browser's session, listens, and injects nothing. The answer is a secret until it is used.
    #[oai(path = "/api/ws/ticket", method = "post", operation_id = "tickets_create")]
    async fn create(&self, caller: Caller, request: &Request) -> Reply<Json<Ticket>> {
        let text = "the session has ended: run `skep open`";
        let ended = || Problem::new(StatusCode::UNAUTHORIZED, "session_ended", text);
        let ticket = self.sessions.ticket(caller, request.header(header::COOKIE)).ok_or_else(ended)?;
        Ok(Json(Ticket { ticket, expires_in_s: TICKET_TIMEOUT.as_secs() }))
    }
}

/// A ticket.
#[derive(Object)]
#[oai(rename = "SocketTicket")]
pub struct Ticket {
    /// What to open `/ws?ticket=` with.
    pub ticket: String,
    /// Seconds within which it works.
    pub expires_in_s: u64,
}
