//! All of it in one endpoint: the documented paths, the documentation, the pages, and the guard in front.

use crate::{
    Config, agents, approvals, blobs, bus, cluster, cron, goals, guard::Guard, health, llm, openai, organism, pages,
    problem, room::Room, session::Sessions, spec, surface::Surface, tasks, threads, usage, workers,
};
use poem::{
    Endpoint, EndpointExt, Request, Response, Route,
    http::{HeaderName, HeaderValue, header},
    middleware::CatchPanic,
};
use poem_openapi::OpenApiService;
use skep_actors::Context;

/// Every resource, by type: the specification is made from this without a node.
pub(crate) type Api = Surface<(
    cluster::Routes,
    tasks::Routes,
    blobs::Routes,
    goals::Routes,
    cron::Routes,
    agents::Routes,
    approvals::Routes,
    organism::Routes,
    threads::Routes,
    workers::Routes,
    bus::Routes,
    llm::Routes,
    openai::Routes,
    usage::Routes,
    health::Routes,
    pages::Routes,
)>;

/// What every answer says to browsers.
const HEADERS: [(HeaderName, HeaderValue); 3] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
];

/// The whole API of a node.
pub fn app(context: &Context, config: &Config) -> impl Endpoint<Output = Response> + use<> {
    app_in(context, config, &Room::default())
}

/// The same, over the connections of a server.
pub(crate) fn app_in(context: &Context, config: &Config, room: &Room) -> impl Endpoint<Output = Response> + use<> {
    let sessions = Sessions::new(context.env.clone());
    let guard = Guard::new(config, sessions.clone());
    let service = OpenApiService::new(api(context, config, &sessions, room), spec::TITLE, spec::VERSION);
    let env = context.env.clone();
    Route::new()
        .at("/openapi.json", spec::endpoint())
        .nest("/docs", spec::page())
        .at("/ui/:name", pages::files::file())
        .nest("/", service)
        .around(move |route, request: Request| {
            let (guard, trace) = (guard.clone(), env.trace());
            async move { trace.scope("api", route.call(guard.admit(request)?)).await }
        })
        .with(CatchPanic::new().with_handler(problem::panicked))
        .catch_all_error(|error| async { problem::from_poem(error) })
        .around(answer)
}

fn api(context: &Context, config: &Config, sessions: &Sessions, room: &Room) -> Api {
    Surface((
        cluster::routes(context),
        tasks::routes(context),
        blobs::routes(context),
        goals::routes(context),
        cron::routes(context),
        agents::routes(context),
        approvals::routes(context),
        organism::routes(context, config.bind.port()),
        threads::routes(context),
        workers::routes(context),
        bus::routes(context, sessions, room),
        llm::routes(context),
        openai::routes(context),
        usage::routes(context),
        health::routes(context),
        pages::routes(context, sessions),
    ))
}

/// The last hand on every answer: OpenAI's shape of an error where its clients are, and what browsers must know.
async fn answer<E: Endpoint<Output = Response>>(route: std::sync::Arc<E>, request: Request) -> poem::Result<Response> {
    let openai = openai::envelope::speaks(request.uri().path());
    let mut response = route.call(request).await?;
    if openai {
        response = openai::envelope::wrap(response);
    }
    response.headers_mut().extend(HEADERS);
    Ok(response)
}
