//! Who asks: the owner, shown by the token or a browser's cookie. An endpoint that takes a [`Caller`] says so in
//! the specification.
//!
//! Decides nothing: `guard` looked at the request before any route did. What showed who asks is kept, so that nothing
//! short-lived makes something that lives longer or may more (GHSA-4jpw-hj22-2xmc).

use crate::Problem;
use poem::{Request, RequestBody, http::StatusCode};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaSecurityScheme, Registry},
};
use tokio::time::{Instant, sleep_until};

/// The owner of the node, and how that was shown.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    pub(crate) by: By,
    /// When what showed it ends; what it opened ends with it. `None`: it doesn't.
    pub(crate) until: Option<Instant>,
}

/// What shows that the owner asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// The token: may do all.
    Token,
    /// A browser's cookie: may do all but make links for further browsers.
    Session,
    /// A ticket: opens one socket, which listens.
    Ticket,
}

impl Caller {
    /// Whoever has the token.
    pub(crate) const OWNER: Caller = Caller { by: By::Token, until: None };

    /// Resolves when what showed who asks has ended.
    pub(crate) async fn ended(self) {
        match self.until {
            Some(until) => sleep_until(until).await,
            None => std::future::pending().await,
        }
    }
}

impl<'a> ApiExtractor<'a> for Caller {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        let scheme = MetaSecurityScheme {
            ty: "http",
            description: Some("The node's token, as `skep token` prints it"),
            name: None,
            key_in: None,
            scheme: Some("bearer"),
            bearer_format: None,
            flows: None,
            openid_connect_url: None,
        };
        registry.create_security_scheme("token", scheme);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec!["token"]
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Caller> {
        let unknown = || Problem::new(StatusCode::UNAUTHORIZED, "invalid_api_key", "this needs the node's token");
        Ok(request.data::<Caller>().copied().ok_or_else(unknown)?)
    }
}
