//! What a server with API keys asks for and refuses, operation by operation.

use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, OpenApi, PathItem};

use super::errors;
use crate::server::auth::Need;
use crate::server::shape::Shape;

/// The name of the scheme.
const KEY: &str = "key";

/// Describes the keys of a server that has them.
pub(in crate::server) fn with_keys(mut api: OpenApi) -> OpenApi {
    let components = api.components.get_or_insert_with(Components::new);
    components.add_security_scheme(KEY, SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    for (route, item) in &mut api.paths.paths {
        for (method, operation) in operations(item) {
            describe(&Need::of(&method, Some(route)), route, operation);
        }
    }
    api
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (axum::http::Method, &mut Operation)> {
    use axum::http::Method;
    let PathItem { get, put, post, delete, .. } = item;
    let all = [(Method::GET, get), (Method::PUT, put), (Method::POST, post), (Method::DELETE, delete)];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

fn describe(need: &Need, route: &str, operation: &mut Operation) {
    if *need == Need::Nothing {
        return;
    }
    operation.security = Some(vec![SecurityRequirement::new(KEY, [""; 0])]);
    operation.responses.responses.extend(errors(need.refusals(), Shape::of(route)));
}
