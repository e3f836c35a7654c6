//! The specification: OpenAPI 3.0 made from the endpoints' types, and where it is read.

use crate::app::Api;
use poem::{
    Endpoint, Response,
    endpoint::make_sync,
    http::{HeaderValue, header},
};
use poem_openapi::{
    LicenseObject, OpenApi, OpenApiService,
    registry::{MetaApi, Registry},
};
use std::marker::PhantomData;

/// The API's name.
pub const TITLE: &str = "Skep";

/// The API's version: the program's.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

const DESCRIPTION: &str = "Turns the machines on a LAN into one: commands, agents and language models on all of them.

Every request needs the node's token (`skep token`) as `Authorization: Bearer ...`, also from the same machine. \
Errors are `application/problem+json` (RFC 9457); below `/v1` they carry OpenAI's `error` object as well.";

/// The resources of `T`, without any value of it: enough for its specification.
struct Described<T>(PhantomData<fn() -> T>);

impl<T: OpenApi> OpenApi for Described<T> {
    fn meta() -> Vec<MetaApi> {
        T::meta()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn add_routes(self, _: &mut crate::surface::Table) {}
}

fn service() -> OpenApiService<Described<Api>, ()> {
    OpenApiService::new(Described(PhantomData), TITLE, VERSION)
        .description(DESCRIPTION)
        .license(LicenseObject::new("MIT OR Apache-2.0"))
        .server("http://127.0.0.1:4892")
}

/// The specification as pretty JSON. Needs no node; the same for the same program.
pub fn spec() -> String {
    service().spec()
}

/// `/openapi.json`.
pub(crate) fn endpoint() -> impl Endpoint<Output = Response> {
    let text = spec();
    make_sync(move |_| Response::builder().content_type("application/json").body(text.clone()))
}

/// `/docs`: Swagger UI, whole and offline.
pub(crate) fn page() -> impl Endpoint<Output = Response> {
    // It is one page with its script inside; it asks nobody but this server.
    const POLICY: HeaderValue = HeaderValue::from_static(
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'",
    );
    let html = service().swagger_ui_html();
    make_sync(move |_| {
        let page = Response::builder().content_type("text/html; charset=utf-8");
        page.header(header::CONTENT_SECURITY_POLICY, POLICY).body(html.clone())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::is_open;
    use poem_openapi::registry::{MetaOperation, MetaPath};
    use std::collections::BTreeSet;

    fn operations() -> Vec<(String, MetaOperation)> {
        let paths = Api::meta().into_iter().flat_map(|api| api.paths);
        paths.flat_map(|MetaPath { path, operations }| operations.into_iter().map(move |o| (path.clone(), o))).collect()
    }

    #[test]
    fn every_operation_is_named_summed_up_and_tagged() {
        let mut ids = BTreeSet::new();
        for (path, operation) in operations() {
            let id = operation.operation_id.unwrap_or_else(|| panic!("{path} has no operation id"));
            let plain = id.chars().all(|c| c.is_ascii_lowercase() || c == '_') && id.contains('_');
            assert!(plain, "{id} is not of the form resource_verb");
            assert!(ids.insert(id), "{id} is there twice");
            let summary = operation.summary.unwrap_or_else(|| panic!("{id} has no summary"));
            assert!(summary.split_whitespace().count() <= 8, "{id}: the summary is too long: {summary}");
            assert!(!summary.ends_with('.'), "{id}: a summary is no sentence");
            assert_eq!(operation.tags.len(), 1, "{id} has one tag");
        }
        assert!(ids.len() >= 40, "only {} operations", ids.len());
    }

    #[test]
    fn every_operation_tells_its_problems() {
        for (_, operation) in operations() {
            let id = operation.operation_id.unwrap();
            let told: Vec<_> = operation.responses.responses.iter().filter_map(|r| r.status_range.as_deref()).collect();
            assert!(told.contains(&"4XX") && told.contains(&"5XX"), "{id} tells {told:?}");
        }
    }

    #[test]
    fn whatever_needs_no_token_is_on_the_guards_list_and_the_other_way_round() {
        for (path, operation) in operations() {
            let open = is_open(&path);
            assert_eq!(operation.security.is_empty(), open, "{path}");
        }
    }

    #[test]
    fn the_specification_is_the_same_each_time_and_has_each_path_once() {
        let text = spec();
        assert_eq!(text, spec());
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        let operations: usize =
            parsed["paths"].as_object().unwrap().values().map(|p| p.as_object().unwrap().len()).sum();
        assert_eq!(operations, self::operations().len());
        assert!(!text.contains("/*"), "a wildcard is no OpenAPI");
    }
}
