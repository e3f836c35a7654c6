//! What endpoints answer with: a value or a problem, and the two successes that carry no plain 200.

use crate::Problem;
use poem_openapi::{ApiResponse, payload::Json, types::ToJSON};

/// What every endpoint returns.
pub type Reply<T> = Result<T, Problem>;

/// It was made; the answer shows it.
#[derive(ApiResponse)]
pub enum Created<T: ToJSON> {
    /// Made
    #[oai(status = 201)]
    Made(Json<T>),
}

/// It is done, and there is nothing to say.
#[derive(ApiResponse)]
pub enum Done {
    /// Done
    #[oai(status = 204)]
    Done,
}
