//! `/api/prices`: what models' tokens cost, by the beginnings of their names; one table for the whole swarm.

use super::money;
use crate::{Reply, caller::Caller, input::Input, tag::Tag};
use poem_openapi::{Object, OpenApi, payload::Json};
use skep_actors::{
    Context,
    budget::{self, Message, Price, Rate},
    runtime::{Handle, Wire},
};
use std::time::Duration;

/// How long new prices may take: they are on another machine's disk before they are acknowledged.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(15);

/// Endpoints of the prices.
#[derive(Clone)]
pub struct Prices(pub Context);

#[OpenApi(prefix_path = "/api/prices", tag = "Tag::Usage")]
impl Prices {
    /// Show the prices
    #[oai(path = "/", method = "get", operation_id = "prices_get")]
    async fn get(&self, _caller: Caller) -> Reply<Json<PriceTable>> {
        self.table().await
    }

    /// Replace the prices
    ///
    /// In the whole swarm. A call that is reserved keeps its price. A model that none fits costs nothing.
    #[oai(path = "/", method = "put", operation_id = "prices_put")]
    async fn put(&self, _caller: Caller, body: Input<PriceTable>) -> Reply<Json<PriceTable>> {
        let prices = body.0.prices.into_iter().map(Price::from).collect();
        self.budgets().ask(CHANGE_TIMEOUT, |port| Message::SetPrices(Wire(prices), port)).await??;
        self.table().await
    }

    async fn table(&self) -> Reply<Json<PriceTable>> {
        let prices = self.budgets().ask(skep_actors::runtime::defaults::ASK_TIMEOUT, Message::Prices).await?;
        Ok(Json(PriceTable { prices: prices.into_iter().map(ModelPrice::from).collect() }))
    }

    fn budgets(&self) -> Handle<Message> {
        self.0.directory.here(budget::NAME)
    }
}

/// Prices of models.
#[derive(Debug, Object)]
pub struct PriceTable {
    /// Each of them.
    #[oai(validator(max_items = 256))]
    pub prices: Vec<ModelPrice>,
}

/// What a million tokens of some models cost.
#[derive(Debug, Object)]
pub struct ModelPrice {
    /// What the models' names begin with; the longest that fits counts.
    #[oai(validator(min_length = 1, max_length = 256))]
    pub model: String,
    /// Money for a million tokens of prompts, to six places.
    #[oai(validator(minimum(value = "0"), maximum(value = "1000000")))]
    pub prompt: f64,
    /// Money for a million tokens of completions, to six places.
    #[oai(validator(minimum(value = "0"), maximum(value = "1000000")))]
    pub completion: f64,
}

impl From<ModelPrice> for Price {
    fn from(price: ModelPrice) -> Price {
        let rate = Rate { prompt: money::millionths(price.prompt), completion: money::millionths(price.completion) };
        Price { prefix: price.model, rate }
    }
}

impl From<Price> for ModelPrice {
    fn from(price: Price) -> ModelPrice {
        let Rate { prompt, completion } = price.rate;
        ModelPrice { model: price.prefix, prompt: money::exact(prompt), completion: money::exact(completion) }
    }
}
