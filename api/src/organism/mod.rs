//! The agents that the swarm has defined, and what is said of them elsewhere. Messages to the OrganismActor.
//!
//! One document shows fields in camel case here, another one the same agents in snake case under other paths: each path
//! keeps its own words.

pub mod capabilities;
pub mod instances;
pub mod named;
pub mod roster;
pub mod state;
pub mod whole;

use skep_actors::Context;

/// The resources of this area.
pub type Routes = (whole::Organism, capabilities::Capabilities, named::Named, instances::Instances, roster::Roster);

/// The resources of this area, in this node, whose API has this port.
pub fn routes(context: &Context, port: u16) -> Routes {
    (
        whole::Organism(context.clone(), port),
        capabilities::Capabilities(context.clone()),
        named::Named(context.clone()),
        instances::Instances(context.clone()),
        roster::Roster(context.clone()),
    )
}
