//! The areas of the API, as its documentation groups them.

use poem_openapi::Tags;

/// An area of the API.
#[derive(Tags)]
#[oai(rename_all = "snake_case")]
pub enum Tag {
    /// The machines of the swarm
    Cluster,
    /// Letting machines in, and joining others
    Onboarding,
    /// Commands that run on whichever machine has room
    Tasks,
    /// Files that tasks are given and leave
    Blobs,
    /// Commands that run at times
    Cron,
    /// Tasks for programs outside of the swarm, and who those are
    Workers,
    /// Goals, worked on by agents within a budget of tokens
    Agents,
    /// What agents may do, who allowed it, and what they did
    Approvals,
    /// The agents that the swarm has defined
    Organism,
    /// What is said to agents and what they answer
    Threads,
    /// What happens, told as it happens
    Events,
    /// Language models: on disk, planned, served
    Llm,
    /// What OpenAI's clients expect
    OpenAi,
    /// Tokens spent, by thread, agent and model
    Usage,
    /// Whether all is well, and the numbers
    Health,
    /// Browsers
    Session,
}
