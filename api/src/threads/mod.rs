//! What is said to agents and what they answer: threads, sessions, turns, chats. Messages to the ThreadActor.
//!
//! Three documents have three words for one record, and each its own fields: a thread that one made is in the others' lists.

pub mod agent;
pub mod chats;
pub mod feedback;
pub mod insights;
pub(crate) mod kind;
pub mod messages;
mod pieces;
pub mod sessions;
pub mod thread;
pub mod turns;
mod words;

use skep_actors::Context;

/// The resources of this area.
pub type Routes = (
    thread::Threads,
    messages::Messages,
    sessions::Sessions,
    turns::Turns,
    feedback::Grades,
    insights::Insights,
    chats::Chats,
    agent::MainAgent,
);

/// The resources of this area, in this node.
pub fn routes(context: &Context) -> Routes {
    (
        thread::Threads(context.clone()),
        messages::Messages(context.clone()),
        sessions::Sessions(context.clone()),
        turns::Turns(context.clone()),
        feedback::Grades(context.clone()),
        insights::Insights(context.clone()),
        chats::Chats(context.clone()),
        agent::MainAgent(context.clone()),
    )
}
