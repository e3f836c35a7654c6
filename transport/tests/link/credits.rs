//! Push-back: a slow actor stops those who send to it, and nobody else.

use super::{
    actors::{Order, at, clerk, say, slow_clerk},
    node::{PATIENCE, pair, piped},
};
use skep_runtime::{
    Error, Wire,
    defaults::{MAILBOX_MESSAGES_MAX, TELL_TIMEOUT},
};
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn a_slow_actor_is_sent_no_more_than_its_mailbox_holds() {
    let (a, b, _link, _tasks) = piped();
    let pace = slow_clerk(&b, "slow").await;
    clerk(&b, "quick").await;
    let (slow, quick) = (at(&a, b.id(), "slow"), at(&a, b.id(), "quick"));
    for note in 0..MAILBOX_MESSAGES_MAX as u32 {
        slow.tell(Order::Note(Wire(note))).await.unwrap();
    }
    let start = Instant::now();
    assert_eq!(slow.tell(Order::Note(Wire(0))).await, Err(Error::Busy("slow".into())));
    assert_eq!(start.elapsed(), TELL_TIMEOUT);
    assert_eq!(slow.ask(TELL_TIMEOUT, Order::Notes).await, Err(Error::Busy("slow".into())));

    // Others on the same link go on.
    let start = Instant::now();
    assert_eq!(say(&quick, "hello").await.as_deref(), Ok("hello!"));
    assert_eq!(start.elapsed(), std::time::Duration::ZERO);

    // When it catches up, so do those who waited, and nothing is lost or doubled.
    pace.add_permits(usize::MAX >> 8);
    let notes = slow.ask(PATIENCE, Order::Notes).await.unwrap();
    assert_eq!(notes, (0..MAILBOX_MESSAGES_MAX as u32).collect::<Vec<_>>());
    for note in 0..10 * MAILBOX_MESSAGES_MAX as u32 {
        slow.tell(Order::Note(Wire(note))).await.unwrap();
    }
}

#[tokio::test]
async fn a_sender_that_waits_for_a_slow_actor_goes_on_when_it_does() {
    let (a, b) = pair();
    let pace = slow_clerk(&b.directory, "slow").await;
    clerk(&b.directory, "quick").await;
    let (slow, quick) = (at(&a.directory, b.id, "slow"), at(&a.directory, b.id, "quick"));
    let count = 3 * MAILBOX_MESSAGES_MAX as u32;
    let sending = async {
        for note in 0..count {
            slow.tell(Order::Note(Wire(note))).await.unwrap();
        }
    };
    let releasing = async {
        say(&quick, "hello").await.unwrap();
        pace.add_permits(count as usize);
    };
    tokio::join!(sending, releasing);
    assert_eq!(slow.ask(PATIENCE, Order::Notes).await.unwrap().len(), count as usize);
}
