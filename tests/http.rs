//! The API's doors: token, Host, Origin, sizes, and one shape for every problem.

#![allow(clippy::unwrap_used, reason = "a failed test panics and says where")]

mod bee;

use bee::{Bee, Hive};
use reqwest::{Client, StatusCode};

async fn ask(bee: &Bee, path: &str, headers: &[(&str, &str)]) -> reqwest::Response {
    let mut request = Client::builder().no_proxy().build().unwrap().get(bee.url(path));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

#[tokio::test]
async fn only_the_owner_of_the_token_is_answered() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let bearer = format!("Bearer {}", alder.token);
    assert_eq!(ask(&alder, "/api/nodes", &[]).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(
        ask(&alder, "/api/nodes", &[("authorization", "Bearer wrong")]).await.status(),
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(ask(&alder, "/api/nodes", &[("authorization", &bearer)]).await.status(), StatusCode::OK);
    assert_eq!(ask(&alder, "/health", &[]).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn another_site_s_page_gets_nothing_even_with_the_token() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let bearer = format!("Bearer {}", alder.token);
    let evil = [("authorization", bearer.as_str()), ("host", "evil.example")];
    assert_eq!(ask(&alder, "/api/nodes", &evil).await.status(), StatusCode::MISDIRECTED_REQUEST);
    let evil = [("authorization", bearer.as_str()), ("origin", "https://evil.example")];
    assert_eq!(ask(&alder, "/api/nodes", &evil).await.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn every_problem_has_one_shape() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    for (method, path) in [("GET", "/api/nodes/nobody"), ("GET", "/nowhere"), ("PATCH", "/api/nodes")] {
        let (status, problem) = alder.call(method, path, None).await;
        assert_eq!(problem["status"], status, "{method} {path}: {problem}");
        assert!(problem["detail"].is_string() && problem["error"] == problem["detail"], "{method} {path}: {problem}");
    }
    let large = serde_json::json!({ "command": "x".repeat(2 << 20) });
    assert_eq!(alder.call("POST", "/api/tasks", Some(large)).await.0, 413);
}

#[tokio::test]
async fn the_description_is_served() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let spec = alder.get("/openapi.json").await;
    assert!(spec["paths"]["/v1/chat/completions"]["post"].is_object());
    assert_eq!(ask(&alder, "/docs", &[]).await.status(), StatusCode::OK);
}
