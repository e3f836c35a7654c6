//! Who asks: the owner, shown by the token or a browser's cookie. An endpoint that takes a [`Caller`] says so in
//! the specification.
//!
//! Decides nothing: `guard` looked at the request before any route did.

use crate::Problem;
use poem::{Request, RequestBody, http::StatusCode};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaSecurityScheme, Registry},
};

/// The owner of the node.
#[derive(Debug, Clone, Copy)]
pub struct Caller;

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
