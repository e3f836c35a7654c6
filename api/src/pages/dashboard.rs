//! `/`: the dashboard's page. It holds no data: it asks the API for all that it shows, with the browser's cookie.

use super::files::{self, POLICY};
use crate::{Problem, Reply, tag::Tag};
use poem_openapi::{
    OpenApi,
    payload::{Html, Response},
};

/// Endpoints of the dashboard.
#[derive(Clone, Copy, Debug)]
pub struct Dashboard;

#[OpenApi(tag = "Tag::Session")]
impl Dashboard {
    /// Show the dashboard
    #[oai(path = "/", method = "get", operation_id = "dashboard_page")]
    async fn page(&self) -> Reply<Response<Html<String>>> {
        let page = files::text("index.html").ok_or_else(|| Problem::not_found("this build has no dashboard"))?;
        Ok(Response::new(Html(page)).header("content-security-policy", POLICY))
    }
}
