//! A last path segment that takes the rest of the path: names of models hold slashes.
//!
//! The specification says `{model}` as ever (a `*` there is no OpenAPI), and clients that send `%2F` work as well
//! as those that send `/`.

use crate::surface::Table;
use poem_openapi::{
    OpenApi,
    registry::{MetaApi, Registry},
};
use std::collections::HashMap;

/// The resources of `T`, whose last path parameters are greedy.
#[derive(Debug)]
pub struct Greedy<T>(pub T);

impl<T: OpenApi> OpenApi for Greedy<T> {
    fn meta() -> Vec<MetaApi> {
        T::meta()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn add_routes(self, table: &mut Table) {
        let mut inner = HashMap::new();
        self.0.add_routes(&mut inner);
        for (path, methods) in inner {
            let path = match path.rsplit_once("/:") {
                Some((head, last)) if !last.contains('/') => format!("{head}/*{last}"),
                _ => path,
            };
            table.entry(path).or_default().extend(methods);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use poem::test::TestClient;
    use poem_openapi::{OpenApiService, param::Path, payload::PlainText};

    struct Names;
    #[OpenApi]
    impl Names {
        #[oai(path = "/names/:name", method = "get")]
        async fn get(&self, name: Path<String>) -> PlainText<String> {
            PlainText(name.0)
        }
    }

    #[tokio::test]
    async fn a_name_with_slashes_comes_whole_whether_quoted_or_not() {
        let client = TestClient::new(OpenApiService::new(Greedy(Names), "t", "1"));
        client.get("/names/hf:owner/repo/file.gguf").send().await.assert_text("hf:owner/repo/file.gguf").await;
        client.get("/names/hf:owner%2Frepo").send().await.assert_text("hf:owner/repo").await;
    }

    #[test]
    fn the_specification_shows_a_plain_parameter() {
        let spec = OpenApiService::new(Greedy(Names), "t", "1").spec();
        assert!(spec.contains("/names/{name}"));
    }
}
