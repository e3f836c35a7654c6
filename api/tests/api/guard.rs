//! Who may come in.

use crate::stage::{HOST, Stage, TOKEN, answer, json, problem};
use poem::http::StatusCode;
use skep_actors::node;

const LOCKED: &str = "this needs the node's token (`skep token`) as `authorization: Bearer ...`";

async fn stage() -> Stage {
    let stage = Stage::new().await;
    stage
        .play(node::NAME, |message| {
            if let node::Message::Summary(port) = message {
                answer(port, node::Summary::default());
            }
        })
        .await;
    stage
}

#[tokio::test]
async fn without_the_token_nothing_is_told_not_even_which_paths_there_are() {
    let stage = stage().await;
    for path in ["/api/status", "/api/nodes", "/metrics", "/api/health", "/no/such/path", "/API/status", "//api/status"]
    {
        let response = stage.bare().get(path).header("host", HOST).send().await;
        response.assert_header("www-authenticate", "Bearer");
        problem(response, 401, LOCKED).await;
    }
}

#[tokio::test]
async fn a_wrong_token_is_no_token() {
    let stage = stage().await;
    for value in
        ["Bearer ", "Bearer wrong", "Basic YTpi", TOKEN, &format!("Bearer {TOKEN}x"), &format!("Token {TOKEN}")]
    {
        let response =
            stage.bare().get("/api/metrics").header("host", HOST).header("authorization", value).send().await;
        response.assert_status(StatusCode::UNAUTHORIZED);
    }
}

/// A10: a short-lived credential makes a longer-lived or a wider one (GHSA-4jpw-hj22-2xmc).
#[tokio::test]
async fn a10_neither_a_session_nor_a_ticket_nor_a_link_makes_a_link() {
    let stage = Stage::new().await;
    let (status, link) = json(stage.post("/api/session").send().await).await;
    let path = link["path"].as_str().unwrap();
    assert_eq!(status, 200);
    let entered = stage.bare().get(path).header("host", HOST).send().await;
    let cookie = entered.0.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let renewed = stage.bare().post("/api/session").header("host", HOST).header("cookie", &cookie).send().await;
    let problem = problem(renewed, 403, "only the token makes links for browsers: run `skep open`").await;
    assert_eq!(problem["code"], "token_needed");
    // The cookie does for all else, a ticket among it; that opens a socket and nothing more.
    let ticket = stage.bare().post("/api/ws/ticket").header("host", HOST).header("cookie", &cookie).send().await;
    let (status, ticket) = json(ticket).await;
    assert_eq!(status, 200);
    let ticket = ticket["ticket"].as_str().unwrap();
    for path in ["/api/session", "/api/ws/ticket"] {
        let url = format!("{path}?ticket={ticket}");
        let widened = stage.bare().post(url).header("host", HOST).send().await;
        widened.assert_status(StatusCode::UNAUTHORIZED);
    }
    stage.bare().get(path).header("host", HOST).send().await.assert_status(StatusCode::GONE);
}

#[tokio::test]
async fn what_tells_no_secret_is_open() {
    let stage = stage().await;
    for path in ["/health", "/openapi.json", "/docs", "/", "/ui/app.js"] {
        let response = stage.bare().get(path).header("host", HOST).send().await;
        assert_eq!(response.0.status(), StatusCode::OK, "{path}");
        response.assert_header("x-content-type-options", "nosniff");
    }
}

#[tokio::test]
async fn another_name_or_another_sites_page_is_refused_on_every_method_even_with_the_token() {
    let stage = stage().await;
    let bearer = format!("Bearer {TOKEN}");
    let rebound = stage.bare().get("/health").header("host", "evil.example").send().await;
    rebound.assert_status(StatusCode::MISDIRECTED_REQUEST);
    stage.bare().get("/health").send().await.assert_status(StatusCode::BAD_REQUEST);
    for method in ["GET", "POST", "DELETE", "OPTIONS", "PUT"] {
        let request = stage.bare().request(method.parse().unwrap(), "/api/tasks").header("host", HOST);
        let request = request.header("authorization", &bearer).header("origin", "https://evil.example");
        request.send().await.assert_status(StatusCode::FORBIDDEN);
    }
}

#[tokio::test]
async fn a_page_of_our_own_may_ask() {
    let stage = stage().await;
    let response = stage.get("/health").header("origin", format!("http://{HOST}")).send().await;
    response.assert_status_is_ok();
}

#[tokio::test]
async fn a_path_or_method_that_is_not_there_is_a_problem_too() {
    let stage = stage().await;
    problem(stage.get("/no/such/path").send().await, 404, "there is no such path: /docs lists them all").await;
    let response = stage.delete("/api/tasks").send().await;
    response.assert_header("allow", "GET, HEAD, POST");
    problem(response, 405, "this path has only GET, HEAD, POST").await;
}

#[tokio::test]
async fn an_actor_that_does_not_run_is_said_to_be_missing() {
    let stage = Stage::new().await;
    problem(stage.get("/api/tasks").send().await, 503, "no actor named scheduler on that node").await;
    let response = stage.bare().get("/health").header("host", HOST).send().await;
    problem(response, 503, "this node does not work").await;
}
