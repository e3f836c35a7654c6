//! Grades of answers: `/api/turns/{id}/feedback`, and those of a session.

use super::{sessions::session_id, thread::threads, turns};
use crate::{Problem, Reply, caller::Caller, input::Input, tag::Tag, when::rfc3339};
use poem_openapi::{Object, OpenApi, param::Path, payload::Json};
use skep_actors::{
    Context,
    runtime::{Wire, defaults::ASK_TIMEOUT},
    thread::{Grade, Message, Order, Turn},
};

/// Endpoints of the grades.
#[derive(Clone)]
pub struct Grades(pub Context);

#[OpenApi(prefix_path = "/api", tag = "Tag::Threads")]
impl Grades {
    /// Grade an answer
    #[oai(path = "/turns/:id/feedback", method = "post", operation_id = "feedback_create")]
    async fn create(&self, _caller: Caller, id: Path<String>, body: Input<NewGrade>) -> Reply<Json<Graded>> {
        let turn = self.grade(&id.0, body.0, false).await?;
        let grade = turn.feedback.map_or(0, |feedback| feedback.grade);
        Ok(Json(Graded { id: turn.id.to_string(), turn_id: turn.id.to_string(), grade }))
    }

    /// Show an answer's grade
    #[oai(path = "/turns/:id/feedback", method = "get", operation_id = "feedback_get")]
    async fn get(&self, _caller: Caller, id: Path<String>) -> Reply<Json<Feedback>> {
        let turn = turns::turn(&self.0, &id.0).await?;
        let none = || Problem::not_found(format!("No feedback found for turn: {}", id.0));
        Feedback::of(turn).map(Json).ok_or_else(none)
    }

    /// Grade an answer otherwise
    #[oai(path = "/turns/:id/feedback", method = "put", operation_id = "feedback_update")]
    async fn update(&self, _caller: Caller, id: Path<String>, body: Input<NewGrade>) -> Reply<Json<Regraded>> {
        let turn = self.grade(&id.0, body.0, true).await?;
        let grade = turn.feedback.map_or(0, |feedback| feedback.grade);
        Ok(Json(Regraded { turn_id: turn.id.to_string(), grade, updated: true }))
    }

    /// List the grades of a session
    #[oai(path = "/sessions/:id/feedback", method = "get", operation_id = "feedback_of_session")]
    async fn of_session(&self, _caller: Caller, id: Path<String>) -> Reply<Json<FeedbackList>> {
        let session = session_id(&id.0)?;
        let turns = threads(&self.0).ask(ASK_TIMEOUT, |port| Message::Turns(Wire(session), port)).await??;
        Ok(Json(FeedbackList { feedback: turns.into_iter().filter_map(Feedback::of).collect() }))
    }

    async fn grade(&self, id: &str, new: NewGrade, again: bool) -> Reply<Turn> {
        let turn = id.parse().map_err(|_| Problem::not_found(format!("Turn not found: {id}")))?;
        let grade = u8::try_from(new.grade).unwrap_or(0);
        let order = Wire(Order::new(Grade { turn, grade, comment: new.comment, again }));
        Ok(threads(&self.0).ask(ASK_TIMEOUT * 3, |port| Message::Grade(order, port)).await??)
    }
}

/// How good an answer was.
#[derive(Debug, Object)]
pub struct NewGrade {
    /// From 1 to 5.
    pub grade: i64,
    /// Why.
    #[oai(validator(max_length = 4096))]
    pub comment: Option<String>,
}

/// An answer was graded.
#[derive(Debug, Object)]
pub struct Graded {
    /// The grade's id: a turn has one.
    pub id: String,
    /// The turn.
    pub turn_id: String,
    /// The grade.
    pub grade: u8,
}

/// An answer was graded otherwise.
#[derive(Debug, Object)]
pub struct Regraded {
    /// The turn.
    pub turn_id: String,
    /// The grade now.
    pub grade: u8,
    /// True.
    pub updated: bool,
}

/// The grades of a session.
#[derive(Debug, Object)]
pub struct FeedbackList {
    /// Each of them.
    pub feedback: Vec<Feedback>,
}

/// A grade.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct Feedback {
    /// Its id: a turn has one.
    pub id: String,
    /// The turn.
    pub turn_id: String,
    /// Its session.
    pub session_id: String,
    /// From 1 to 5.
    pub grade: u8,
    /// Which way it came: `api`, for there is no other.
    pub source: String,
    /// Why.
    pub comment: Option<String>,
    /// When it was given first.
    pub created_at: String,
}

impl Feedback {
    fn of(turn: Turn) -> Option<Feedback> {
        let given = turn.feedback?;
        Some(Feedback {
            id: turn.id.to_string(),
            turn_id: turn.id.to_string(),
            session_id: turn.thread.to_string(),
            grade: given.grade,
            source: "api".into(),
            comment: given.comment,
            created_at: rfc3339(given.created_ms),
        })
    }
}
