//! `/api/llm/models/:model`: a model leaves this machine's disk. Its name may hold slashes.

use crate::{Reply, caller::Caller, reply::Done, tag::Tag};
use poem_openapi::{OpenApi, param::Path};
use skep_actors::{
    Context,
    model::{self, Message},
    runtime::{Wire, defaults::ASK_TIMEOUT},
};

/// Endpoints of the removal of models.
#[derive(Clone)]
pub struct Removal(pub Context);

#[OpenApi(prefix_path = "/api/llm/models", tag = "Tag::Llm")]
impl Removal {
    /// Remove a model's file
    ///
    /// From this machine. Refused while it is loaded here.
    #[oai(path = "/:model", method = "delete", operation_id = "models_delete")]
    async fn delete(
        &self,
        _caller: Caller,
        /// Its name, which may hold slashes
        model: Path<String>,
    ) -> Reply<Done> {
        let models = self.0.directory.here::<Message>(model::NAME);
        models.ask(ASK_TIMEOUT, |port| Message::Delete(Wire(model.0), port)).await??;
        Ok(Done::Done)
    }
}
