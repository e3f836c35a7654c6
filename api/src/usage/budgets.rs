//! `/api/v1/usage/threads`: the budgets of the threads.

use super::money;
use crate::{Problem, Reply, caller::Caller, limits::ROWS_MAX, tag::Tag};
use poem_openapi::{
    Object, OpenApi,
    param::{Path, Query},
    payload::Json,
};
use skep_actors::{
    Context,
    budget::{self, Budget, Message},
    defaults::THREAD_TOKENS,
    runtime::{Handle, Wire, defaults::ASK_TIMEOUT},
};
use uuid::Uuid;

/// Endpoints of the budgets.
#[derive(Clone)]
pub struct Budgets(pub Context);

#[OpenApi(prefix_path = "/api/v1/usage/threads", tag = "Tag::Usage")]
impl Budgets {
    /// List the threads' budgets
    ///
    /// Those that this machine keeps, the hottest first.
    #[oai(path = "/", method = "get", operation_id = "budgets_list")]
    async fn list(
        &self,
        _caller: Caller,
        /// How many, at most 1000; so many if absent
        #[oai(validator(minimum(value = "1"), maximum(value = "1000")))]
        limit: Query<Option<u32>>,
    ) -> Reply<Json<BudgetList>> {
        let budgets = self.budgets().ask(ASK_TIMEOUT, Message::List).await?;
        let (all, rows) = (budgets.len(), limit.0.unwrap_or(ROWS_MAX).min(ROWS_MAX));
        let threads = budgets.into_iter().take(rows as usize).map(ThreadBudget::from).collect();
        Ok(Json(BudgetList::new(threads, all)))
    }

    /// Show one thread's budget
    #[oai(path = "/:thread_id", method = "get", operation_id = "budgets_get")]
    async fn get(&self, _caller: Caller, thread_id: Path<String>) -> Reply<Json<ThreadBudget>> {
        let none = |_| Problem::not_found(format!("No budget found for thread: {}", thread_id.0));
        let thread: Uuid = thread_id.0.parse().map_err(none)?;
        let budget = self.budgets().ask(ASK_TIMEOUT, |port| Message::Get(Wire(thread), port)).await??;
        Ok(Json(budget.into()))
    }

    fn budgets(&self) -> Handle<Message> {
        self.0.directory.here(budget::NAME)
    }
}

/// The budgets that this node knows.
#[derive(Debug, Object)]
pub struct BudgetList {
    /// Each of them, or the hottest.
    pub threads: Vec<ThreadBudget>,
    /// How many this machine keeps.
    pub count: usize,
    /// The budget of a thread that nobody gave one.
    pub default_max_tokens: u64,
    /// `default_max_tokens`.
    #[oai(rename = "defaultMaxTokens")]
    pub camel_default_max_tokens: u64,
}

impl BudgetList {
    fn new(threads: Vec<ThreadBudget>, count: usize) -> BudgetList {
        BudgetList { count, threads, default_max_tokens: THREAD_TOKENS, camel_default_max_tokens: THREAD_TOKENS }
    }
}

/// A thread's budget, in tokens.
#[derive(Debug, Object)]
pub struct ThreadBudget {
    /// The thread.
    pub thread_id: String,
    /// What may be spent in all.
    pub max_tokens: u64,
    /// Spent on prompts.
    pub prompt_tokens: u64,
    /// Spent on completions.
    pub completion_tokens: u64,
    /// Spent.
    pub total_tokens: u64,
    /// Set aside for calls in flight.
    pub reserved_tokens: u64,
    /// Out on lease to other machines.
    pub leased_tokens: u64,
    /// What can still be spent.
    pub remaining: u64,
    /// Spent, in hundredths of the budget of tokens, to one decimal.
    pub percent_used: f64,
    /// Money that may be spent in all; null is as much as the tokens cost.
    pub max_cost: Option<f64>,
    /// Money spent, to four places.
    pub total_cost: f64,
    /// Money that can still be spent, if there is a limit.
    pub remaining_cost: Option<f64>,
    /// The last threshold that it has passed: `warning` at 75, `critical` at 90, `final` at 95 hundredths.
    pub severity: Option<String>,
    /// Nothing remains, of tokens or of money.
    pub is_exhausted: bool,
    /// The key of the machine that keeps it.
    pub owner_node: String,
    /// `thread_id`.
    #[oai(rename = "threadId")]
    pub camel_thread_id: String,
    /// `max_tokens`.
    #[oai(rename = "maxTokens")]
    pub camel_max_tokens: u64,
    /// `prompt_tokens`.
    #[oai(rename = "promptTokens")]
    pub camel_prompt_tokens: u64,
    /// `completion_tokens`.
    #[oai(rename = "completionTokens")]
    pub camel_completion_tokens: u64,
    /// `total_tokens`.
    #[oai(rename = "totalTokens")]
    pub camel_total_tokens: u64,
    /// `percent_used`.
    #[oai(rename = "percentUsed")]
    pub camel_percent_used: f64,
    /// `total_cost`.
    #[oai(rename = "totalCost")]
    pub camel_total_cost: f64,
    /// `is_exhausted`.
    #[oai(rename = "isExhausted")]
    pub camel_is_exhausted: bool,
}

impl From<Budget> for ThreadBudget {
    fn from(budget: Budget) -> ThreadBudget {
        let (thread, spent, remaining) = (budget.thread.to_string(), budget.spent(), budget.remaining());
        let percent = if budget.max == 0 { 100.0 } else { (spent as f64 * 1000.0 / budget.max as f64).round() / 10.0 };
        ThreadBudget {
            thread_id: thread.clone(),
            max_tokens: budget.max,
            prompt_tokens: budget.prompt,
            completion_tokens: budget.completion,
            total_tokens: spent,
            reserved_tokens: budget.reserved,
            leased_tokens: budget.leased,
            remaining,
            percent_used: percent,
            max_cost: budget.max_cost.map(money::exact),
            total_cost: money::sum(budget.cost),
            remaining_cost: budget.remaining_cost().map(money::exact),
            severity: budget.warned.map(|severity| severity.word().into()),
            is_exhausted: budget.is_exhausted(),
            owner_node: budget.owner.to_string(),
            camel_thread_id: thread,
            camel_max_tokens: budget.max,
            camel_prompt_tokens: budget.prompt,
            camel_completion_tokens: budget.completion,
            camel_total_tokens: spent,
            camel_percent_used: percent,
            camel_total_cost: money::sum(budget.cost),
            camel_is_exhausted: budget.is_exhausted(),
        }
    }
}
