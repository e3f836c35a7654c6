//! What browsers come for.

use crate::stage::{HOST, Stage, answer, json, problem};
use poem::http::StatusCode;
use skep_actors::{node, runtime::Wire};

#[tokio::test]
async fn the_join_page_shows_what_its_address_holds_and_nothing_else() {
    let stage = Stage::new().await;
    stage
        .play(node::NAME, |message| {
            if let node::Message::Opens(Wire(line), port) = message {
                answer(port, line == "skep1open");
            }
        })
        .await;
    let spent = stage.bare().get("/join/skep1spent").header("host", HOST).send().await;
    let text = "this invite is expired or was used already: ask for a new one with `skep invite`";
    problem(spent, 410, text).await;
    let page = stage.bare().get("/join/skep1open").header("host", HOST).send().await;
    page.assert_status_is_ok();
    page.assert_header("referrer-policy", "no-referrer");
    page.assert_header("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'");
    let text = page.0.into_body().into_string().await.unwrap();
    assert!(text.contains("skep join skep1open"));
}

#[tokio::test]
async fn what_is_no_invite_never_reaches_the_join_page() {
    let stage = Stage::new().await;
    let text = "this is not an invite: copy the whole address that `skep invite` printed";
    for path in ["%3Cscript%3E", "a;rm%20-rf", "a%0Ab", "%24(x)", &"a".repeat(2000)] {
        let response = stage.bare().get(format!("/join/{path}")).header("host", HOST).send().await;
        problem(response, 404, text).await;
    }
}

#[tokio::test]
async fn a_browser_comes_in_by_a_link_that_works_once() {
    let stage = Stage::new().await;
    stage
        .play(node::NAME, |message| {
            if let node::Message::Metrics(port) = message {
                answer(port, Default::default());
            }
        })
        .await;
    let (_, link) = json(stage.post("/api/session").send().await).await;
    let path = link["path"].as_str().unwrap();
    let login = stage.bare().get(path).header("host", HOST).send().await;
    login.assert_status(StatusCode::SEE_OTHER);
    login.assert_header("location", "/");
    let cookie = login.0.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let ask = stage.bare().get("/api/metrics").header("host", HOST).header("cookie", &cookie);
    ask.send().await.assert_status_is_ok();
    // Another port of this machine is the same site for the cookie, and its page sends no Origin with a plain GET.
    let beside = stage.bare().get("/api/metrics").header("host", HOST).header("cookie", &cookie);
    beside.header("sec-fetch-site", "same-site").send().await.assert_status(StatusCode::UNAUTHORIZED);
    let again = stage.bare().get(path).header("host", HOST).send().await;
    problem(again, 410, "this link was used or is too old: run `skep open` again").await;
    let stranger = stage.bare().post("/api/session").header("host", HOST).send().await;
    stranger.assert_status(StatusCode::UNAUTHORIZED);
}
