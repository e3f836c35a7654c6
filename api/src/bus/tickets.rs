//! `/api/ws/ticket`: a word that opens one WebSocket, for browsers' scripts that have the token and can't send headers.

use crate::{Reply, caller::Caller, limits::TICKET_TIMEOUT, session::Sessions, tag::Tag};
use poem::{Request, http::header};
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
    /// For `/ws?ticket=`: it works once, within seconds, and for the browser that is signed in, if one asked for it. The
    /// answer is a secret until then, and worth nothing afterwards.
    #[oai(path = "/api/ws/ticket", method = "post", operation_id = "tickets_create")]
    async fn create(&self, _caller: Caller, request: &Request) -> Reply<Json<Ticket>> {
        let ticket = self.sessions.ticket(request.header(header::COOKIE));
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
