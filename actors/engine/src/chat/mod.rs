//! Conversations to prompts, by the template that the model's file carries.
//!
//! What people wrote can't become control: `guard` marks message contents so that no control
//! token matches in them or across their edges, and the tokenizer drops the marks (see there).

mod filters;
mod guard;
mod interpret;
mod message;
mod methods;
mod template;
mod value;

pub use guard::Prompt;
pub use message::{Message, Role};
pub use template::ChatTemplate;
