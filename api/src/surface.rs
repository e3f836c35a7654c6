//! All resources as one API: a path that two resources share is one entry of the specification, and a method
//! that a path lacks is answered with the ones that it has.

use crate::Problem;
use poem::{
    Endpoint, EndpointExt, IntoResponse, Response,
    endpoint::{BoxEndpoint, make_sync},
    http::{HeaderValue, Method, StatusCode, header},
};
use poem_openapi::{
    OpenApi,
    registry::{MetaApi, MetaPath, Registry},
};
use std::collections::HashMap;

/// poem-openapi's own table: the endpoints of each path by method.
pub(crate) type Table = HashMap<String, HashMap<Method, BoxEndpoint<'static>>>;

/// The methods that are answered with 405 where a path lacks them. HEAD falls back to GET in the router.
const METHODS: [Method; 7] =
    [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS, Method::TRACE];

/// The resources of `T` as one API. A path parameter stands in an operation's `path`: poem-openapi does not see one
/// that stands in `prefix_path`.
#[derive(Debug)]
pub struct Surface<T>(pub T);

impl<T: OpenApi> OpenApi for Surface<T> {
    /// poem-openapi writes a path once for each resource, and readers of JSON keep only the last: so they are merged.
    fn meta() -> Vec<MetaApi> {
        let mut paths: Vec<MetaPath> = Vec::new();
        for path in T::meta().into_iter().flat_map(|api| api.paths) {
            match paths.iter_mut().find(|known| known.path == path.path) {
                Some(known) => known.operations.extend(path.operations),
                None => paths.push(path),
            }
        }
        paths.sort_by(|a, b| a.path.cmp(&b.path));
        vec![MetaApi { paths }]
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn add_routes(self, table: &mut Table) {
        self.0.add_routes(table);
        for methods in table.values_mut() {
            let allow = allow(methods.keys());
            for method in METHODS {
                methods.entry(method).or_insert_with(|| refuse(allow.clone()).boxed());
            }
        }
    }
}

/// The `Allow` header of a path with these methods (RFC 9110, section 15.5.6 demands it).
fn allow<'a>(methods: impl Iterator<Item = &'a Method>) -> HeaderValue {
    let mut names: Vec<&str> = methods.map(Method::as_str).collect();
    if names.contains(&"GET") {
        names.push("HEAD");
    }
    names.sort_unstable();
    HeaderValue::from_str(&names.join(", ")).expect("method names are visible ASCII")
}

fn refuse(allow: HeaderValue) -> impl Endpoint<Output = Response> {
    make_sync(move |_| {
        let text = format!("this path has only {}", allow.to_str().unwrap_or_default());
        let mut response = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", text).into_response();
        response.headers_mut().insert(header::ALLOW, allow.clone());
        response
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use poem::test::TestClient;
    use poem_openapi::{OpenApiService, payload::PlainText};

    struct Read;
    #[OpenApi]
    impl Read {
        #[oai(path = "/thing", method = "get")]
        async fn get(&self) -> PlainText<String> {
            PlainText("read".into())
        }
    }

    struct Write;
    #[OpenApi]
    impl Write {
        #[oai(path = "/thing", method = "put")]
        async fn put(&self) -> PlainText<String> {
            PlainText("written".into())
        }
    }

    #[test]
    fn two_resources_on_one_path_are_one_entry() {
        let spec = OpenApiService::new(Surface((Read, Write)), "t", "1").spec();
        let spec: serde_json::Value = serde_json::from_str(&spec).unwrap();
        let methods: Vec<_> = spec["paths"]["/thing"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(methods, ["get", "put"]);
    }

    #[tokio::test]
    async fn a_missing_method_is_told_which_there_are() {
        let client = TestClient::new(OpenApiService::new(Surface((Read, Write)), "t", "1"));
        client.get("/thing").send().await.assert_text("read").await;
        client.put("/thing").send().await.assert_text("written").await;
        let response = client.delete("/thing").send().await;
        response.assert_status(StatusCode::METHOD_NOT_ALLOWED);
        response.assert_header("allow", "GET, HEAD, PUT");
    }
}
