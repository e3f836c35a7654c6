//! What a call comes to: the answer, or the reason why there is none.

use super::{
    actors::{Order, OtherVersion, at, clerk, say},
    node::{PATIENCE, pair, piped},
};
use futures::future::join_all;
use skep_runtime::{Error, Handle, Wire, defaults::MESSAGE_BYTES_MAX};
use std::time::Duration;
use tokio::time::Instant;

#[tokio::test]
async fn actors_of_two_nodes_talk_to_each_other() {
    let (a, b) = pair();
    clerk(&a.directory, "clerk").await;
    clerk(&b.directory, "clerk").await;
    assert_eq!(say(&at(&a.directory, b.id, "clerk"), "hello").await.as_deref(), Ok("hello!"));
    assert_eq!(say(&at(&b.directory, a.id, "clerk"), "and you").await.as_deref(), Ok("and you!"));
}

#[tokio::test]
async fn what_one_sender_tells_arrives_in_order_and_before_what_it_asks_next() {
    let (a, b) = pair();
    clerk(&b.directory, "clerk").await;
    let clerk = at(&a.directory, b.id, "clerk");
    for note in 0..5000 {
        clerk.tell(Order::Note(Wire(note))).await.unwrap();
    }
    let notes = clerk.ask(PATIENCE, Order::Notes).await.unwrap();
    assert_eq!(notes, (0..5000).collect::<Vec<_>>());
}

#[tokio::test]
async fn many_calls_in_flight_each_get_their_own_answer() {
    let (a, b) = pair();
    clerk(&b.directory, "clerk").await;
    let clerk = at(&a.directory, b.id, "clerk");
    let texts: Vec<_> = (0..500).map(|i| i.to_string()).collect();
    let answers = join_all(texts.iter().map(|text| say(&clerk, text))).await;
    for (text, answer) in texts.iter().zip(answers) {
        assert_eq!(answer, Ok(format!("{text}!")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_that_nobody_has_is_told_at_once() {
    let (a, b, _link, _tasks) = piped();
    assert_eq!(say(&at(&a, b.id(), "nobody"), "hello").await, Err(Error::NoSuchActor("nobody".into())));
}

#[tokio::test(start_paused = true)]
async fn a_question_that_is_dropped_ends_without_an_answer_at_once() {
    let (a, b, _link, _tasks) = piped();
    clerk(&b, "clerk").await;
    let start = Instant::now();
    assert_eq!(at(&a, b.id(), "clerk").ask(PATIENCE, Order::Ignore).await, Err(Error::NoReply));
    assert_eq!(at(&a, b.id(), "clerk").ask(PATIENCE, Order::Fail).await, Err(Error::NoReply));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_question_that_is_kept_ends_with_its_deadline_and_the_link_goes_on() {
    let (a, b, _link, _tasks) = piped();
    clerk(&b, "clerk").await;
    let clerk = at(&a, b.id(), "clerk");
    let start = Instant::now();
    assert_eq!(clerk.ask(Duration::from_secs(3), Order::Never).await, Err(Error::Timeout));
    assert_eq!(start.elapsed(), Duration::from_secs(3));
    assert_eq!(say(&clerk, "hello").await.as_deref(), Ok("hello!"));
}

#[tokio::test(start_paused = true)]
async fn arguments_of_another_version_are_refused_and_the_actor_never_sees_them() {
    let (a, b, _link, _tasks) = piped();
    clerk(&b, "clerk").await;
    let other: Handle<OtherVersion> = a.at(b.id(), "clerk");
    let answer = other.ask(PATIENCE, |port| OtherVersion::Say(Wire((7, vec![1 << 60; 3])), port)).await;
    assert!(matches!(answer, Err(Error::Refused(_))), "{answer:?}");
    let answer = other.ask(PATIENCE, |port| OtherVersion::Sing(Wire("la".into()), port)).await;
    assert!(matches!(answer, Err(Error::Refused(_))), "{answer:?}");
    assert_eq!(say(&at(&a, b.id(), "clerk"), "hello").await.as_deref(), Ok("hello!"));
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_fails_alone() {
    let (a, b, _link, _tasks) = piped();
    clerk(&b, "clerk").await;
    let clerk = at(&a, b.id(), "clerk");
    let too_large = clerk.tell(Order::Take(Wire(vec![0; MESSAGE_BYTES_MAX + 1]))).await;
    assert!(matches!(too_large, Err(Error::TooLarge { .. })), "{too_large:?}");
    let too_large = clerk.ask(PATIENCE, |port| Order::Fetch(Wire(MESSAGE_BYTES_MAX as u32 + 1), port)).await;
    assert!(matches!(too_large, Err(Error::TooLarge { .. })), "{too_large:?}");
    let fits = clerk.ask(PATIENCE, |port| Order::Fetch(Wire(MESSAGE_BYTES_MAX as u32 - 100), port)).await;
    assert_eq!(fits.map(|bytes| bytes.len()), Ok(MESSAGE_BYTES_MAX - 100));
}

#[tokio::test(start_paused = true)]
async fn a_closed_link_fails_what_is_in_flight_at_once_and_all_that_comes_later() {
    let (a, b, link, _tasks) = piped();
    clerk(&b, "clerk").await;
    let clerk = at(&a, b.id(), "clerk");
    let start = Instant::now();
    let (waiting, ()) = tokio::join!(clerk.ask(PATIENCE, Order::Never), async {
        // An answer to a later question says that the earlier one is over there.
        say(&clerk, "hello").await.unwrap();
        link.close();
    });
    assert_eq!(waiting, Err(Error::LinkDown(b.id())));
    assert_eq!(say(&clerk, "hello").await, Err(Error::LinkDown(b.id())));
    assert_eq!(clerk.tell(Order::Note(Wire(1))).await, Err(Error::LinkDown(b.id())));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_link_says_whether_it_is_alive() {
    let (_a, _b, link, tasks) = piped();
    assert!(link.ping().await);
    tasks.stop().await;
    assert!(!link.ping().await);
}
