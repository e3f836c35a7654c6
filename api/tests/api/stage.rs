//! One node whose actors follow a script, and a client of its API.

use poem::{
    EndpointExt, Response,
    endpoint::BoxEndpoint,
    http::StatusCode,
    test::{TestClient, TestRequestBuilder, TestResponse},
};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde::Serialize;
use serde_json::Value;
use skep_actors::{
    Context,
    runtime::{NodeId, Ticket, Wire, frames},
    testing::Swarm,
};
use skep_api::{Config, Token, app};
use std::marker::PhantomData;

pub(crate) const TOKEN: &str = "a-token-of-many-characters";
pub(crate) const HOST: &str = "localhost:4892";

pub(crate) type Endpoint = BoxEndpoint<'static, Response>;

/// A node and its API.
pub(crate) struct Stage {
    swarm: Swarm,
    client: TestClient<Endpoint>,
}

impl Stage {
    pub(crate) async fn new() -> Stage {
        let swarm = Swarm::new(2).await;
        let config = Config::new(Token::new(TOKEN).unwrap());
        let client = TestClient::new(app(swarm.context(0), &config).boxed());
        Stage { swarm, client }
    }

    pub(crate) fn context(&self) -> &Context {
        self.swarm.context(0)
    }

    /// Publishes an actor that does `act` with each message.
    pub(crate) async fn play<M: ractor::Message>(&self, name: &str, act: impl FnMut(M) + Send + 'static) -> &Stage {
        self.play_on(0, name, act).await
    }

    /// The same on another node.
    pub(crate) async fn play_on<M: ractor::Message>(
        &self,
        node: usize,
        name: &str,
        act: impl FnMut(M) + Send + 'static,
    ) -> &Stage {
        let context = self.swarm.context(node);
        context.directory.spawn(name, Script(PhantomData), Box::new(act) as Act<M>, None).await.unwrap();
        self
    }

    /// Opens the stream of `ticket` from `node` and writes these frames.
    pub(crate) fn stream<F: Serialize + Send + Sync + 'static>(
        context: Context,
        to: NodeId,
        ticket: Ticket,
        told: Vec<F>,
    ) {
        let directory = context.directory.clone();
        context.tasks.spawn(async move {
            let mut stream = directory.open(to, ticket).await.unwrap();
            for frame in &told {
                frames::write(&mut stream.writer, frame).await.unwrap();
            }
        });
    }

    pub(crate) fn bare(&self) -> &TestClient<Endpoint> {
        &self.client
    }

    pub(crate) fn get(&self, path: &str) -> TestRequestBuilder<'_, Endpoint> {
        signed(self.client.get(path))
    }

    pub(crate) fn delete(&self, path: &str) -> TestRequestBuilder<'_, Endpoint> {
        signed(self.client.delete(path))
    }

    pub(crate) fn post(&self, path: &str) -> TestRequestBuilder<'_, Endpoint> {
        signed(self.client.post(path))
    }

    pub(crate) async fn post_json(&self, path: &str, body: Value) -> TestResponse {
        self.post(path).body_json(&body).send().await
    }

    pub(crate) async fn put_json(&self, path: &str, body: Value) -> TestResponse {
        signed(self.client.put(path)).body_json(&body).send().await
    }
}

fn signed(request: TestRequestBuilder<'_, Endpoint>) -> TestRequestBuilder<'_, Endpoint> {
    request.header("host", HOST).header("authorization", format!("Bearer {TOKEN}"))
}

/// The status and the JSON of an answer.
pub(crate) async fn json(response: TestResponse) -> (u16, Value) {
    let status = response.0.status().as_u16();
    let text = response.0.into_body().into_string().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}")))
}

/// The events of an answer: name and data.
pub(crate) async fn events(response: TestResponse) -> Vec<(String, String)> {
    response.assert_status(StatusCode::OK);
    response.assert_content_type("text/event-stream");
    let text = response.0.into_body().into_string().await.unwrap();
    let field = |event: &str, name: &str| {
        let line = event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().trim().to_owned()
    };
    let whole = text.split("\n\n").filter(|event| !event.is_empty());
    whole.map(|event| (field(event, "event"), field(event, "data"))).collect()
}

/// Checks that an answer is our one shape of an error.
pub(crate) async fn problem(response: TestResponse, status: u16, detail: &str) -> Value {
    assert_eq!(response.0.content_type(), Some("application/problem+json"));
    let (got, body) = json(response).await;
    assert_eq!((got, body["detail"].as_str()), (status, Some(detail)), "{body}");
    assert_eq!((&body["status"], &body["type"]), (&status.into(), &"about:blank".into()));
    body
}

pub(crate) fn answer<T>(port: RpcReplyPort<Wire<T>>, value: T) {
    // A caller that went away is no failure of the script.
    let _ = port.send(Wire(value));
}

type Act<M> = Box<dyn FnMut(M) + Send>;

struct Script<M>(PhantomData<fn(M)>);

impl<M: ractor::Message> Actor for Script<M> {
    type Msg = M;
    type State = Act<M>;
    type Arguments = Act<M>;

    async fn pre_start(&self, _: ActorRef<M>, act: Act<M>) -> Result<Act<M>, ActorProcessingErr> {
        Ok(act)
    }

    async fn handle(&self, _: ActorRef<M>, message: M, act: &mut Act<M>) -> Result<(), ActorProcessingErr> {
        act(message);
        Ok(())
    }
}
