//! `/api/cluster/join-token`, `join`, `join-remote`, `leave`: invitations to this swarm, and this node's own way
//! into another and out again.
//!
//! The documented handshake of a joiner over HTTP is refused: machines join over QUIC, where the joiner knows whom it
//! talks to before it says anything. Both `join`, without a joiner's `node_id`, and `join-remote` let *this* node join.

use crate::{Problem, Reply, caller::Caller, input::Input, limits::JOIN_TIMEOUT, tag::Tag, when::rfc3339};
use poem::http::StatusCode;
use poem_openapi::{Object, OpenApi, param::Query, payload::Json};
use skep_actors::{
    Context,
    node::{self, Message},
    runtime::{Handle, Wire, defaults::ASK_TIMEOUT, swarm::Invite},
};

/// Endpoints of joining.
#[derive(Clone)]
pub struct Invites(pub Context);

#[OpenApi(prefix_path = "/api/cluster", tag = "Tag::Onboarding")]
impl Invites {
    /// Invite a machine
    ///
    /// Opens an invitation that works once, within ten minutes. The answer is a secret.
    #[oai(path = "/join-token", method = "get", operation_id = "invites_create")]
    async fn create(&self, _caller: Caller) -> Reply<Json<JoinToken>> {
        let invite = self.node().ask(JOIN_TIMEOUT, Message::Invite).await??;
        Ok(Json(invite.into()))
    }

    /// Join the swarm of an invite
    ///
    /// This node joins; the answer comes when it is a member. It must not have company already. A machine that sends
    /// its own `node_id`, to be taken in over HTTP, is refused with 424.
    #[oai(path = "/join", method = "post", operation_id = "invites_accept")]
    async fn accept(&self, _caller: Caller, body: Input<Token>) -> Reply<Json<Joined>> {
        if body.0.node_id.is_some() {
            let text = "machines join over QUIC: run `skep join` with this token on the machine that shall join";
            return Err(Problem::new(StatusCode::FAILED_DEPENDENCY, "joins_over_quic", text).in_field("node_id"));
        }
        self.join(body.0.token).await
    }

    /// Join the swarm of another machine
    ///
    /// By a whole invite line, or by a machine's address and the short code that it shows.
    #[oai(path = "/join-remote", method = "post", operation_id = "invites_accept_remote")]
    async fn accept_remote(&self, _caller: Caller, body: Input<Remote>) -> Reply<Json<Joined>> {
        self.join(body.0.line()?).await
    }

    /// Leave the swarm
    #[oai(path = "/leave", method = "post", operation_id = "cluster_leave")]
    async fn leave(
        &self,
        _caller: Caller,
        /// Also take this node off the roster: it becomes a swarm of one
        forget: Query<Option<bool>>,
    ) -> Reply<Json<Joined>> {
        let forget = forget.0.unwrap_or(false);
        self.node().ask(JOIN_TIMEOUT, |port| Message::Leave(Wire(forget), port)).await??;
        let message = if forget { "this node is a swarm of one" } else { "this node said goodbye; it stays a member" };
        Ok(Json(Joined::success(message)))
    }

    async fn join(&self, invite: String) -> Reply<Json<Joined>> {
        self.node().ask(JOIN_TIMEOUT, |port| Message::Join(Wire(invite), port)).await??;
        let members = self.node().ask(ASK_TIMEOUT, Message::Summary).await?.nodes;
        Ok(Json(Joined::success(&format!("this node is in a swarm of {members}"))))
    }

    fn node(&self) -> Handle<Message> {
        self.0.directory.here(node::NAME)
    }
}

/// An open invitation. All of it is secret until it was used.
#[derive(Object)]
pub struct JoinToken {
    /// One line that does everything: the inviter's key, its addresses, and a secret.
    pub token: String,
    /// Six characters that do the same when typed beside an address.
    pub short_code: String,
    /// Where this node can be reached, as `host:port`: what to type beside the short code.
    pub addresses: Vec<String>,
    /// When it stops working.
    pub expires_at: String,
    /// What to run on the other machine.
    pub cli_command: String,
    /// The path of a page with these commands, on this server; other machines see it only if the API listens for them
    /// (`skep up --api`).
    pub join_url: String,
}

impl From<Invite> for JoinToken {
    fn from(invite: Invite) -> JoinToken {
        JoinToken {
            expires_at: rfc3339(invite.expires_ms),
            cli_command: format!("skep join {}", invite.line),
            join_url: format!("/join/{}", invite.line),
            short_code: invite.code,
            addresses: invite.addresses.iter().map(ToString::to_string).collect(),
            token: invite.line,
        }
    }
}

/// An invitation to accept.
#[derive(Object)]
pub struct Token {
    /// The whole line that `skep invite` printed there, or `CODE@HOST:PORT`.
    #[oai(validator(min_length = 1, max_length = 1024))]
    pub token: String,
    /// The key of a machine that wants to be taken in over HTTP: refused.
    pub node_id: Option<String>,
}

/// A machine to join: `invite`, or `coordinator_ip` and `token`.
#[derive(Object)]
pub struct Remote {
    /// The whole line that `skep invite` printed there, or `CODE@HOST:PORT`.
    #[oai(validator(min_length = 1, max_length = 1024))]
    pub invite: Option<String>,
    /// Its address, as `host` or `host:port`.
    #[oai(validator(min_length = 1, max_length = 255))]
    pub coordinator_ip: Option<String>,
    /// The same, under its shorter name.
    #[oai(validator(min_length = 1, max_length = 255))]
    pub coordinator: Option<String>,
    /// Its short code; or a whole invite line, which needs no address.
    #[oai(validator(min_length = 1, max_length = 1024))]
    pub token: Option<String>,
}

impl Remote {
    /// The one text that the NodeActor takes.
    fn line(self) -> Result<String, Problem> {
        if let Some(invite) = self.invite {
            return Ok(invite);
        }
        let token = self.token.ok_or_else(|| Problem::invalid("token", "is required, unless there is an invite"))?;
        let address = self.coordinator_ip.or(self.coordinator);
        match address {
            // A short code needs to know where; a line knows itself.
            Some(address) if token.len() <= 8 && !token.contains('@') => Ok(format!("{token}@{address}")),
            None if token.len() <= 8 => Err(Problem::invalid("coordinator_ip", "is required with a short code")),
            _ => Ok(token),
        }
    }
}

/// It worked.
#[derive(Object)]
pub struct Joined {
    /// `success`.
    pub status: String,
    /// For people.
    pub message: String,
}

impl Joined {
    fn success(message: &str) -> Joined {
        Joined { status: "success".into(), message: message.into() }
    }
}
