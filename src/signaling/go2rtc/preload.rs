//! `/api/preload`: cameras that are kept open while nobody watches.

use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use serde_json::json;

use super::{failure, line, missing, public, told};
use crate::{context::Context, signaling::encoding::Fields};

/// What go2rtc's clients say of what is to be preloaded. All of a camera is, here.
const PARAMETERS: [&str; 6] = [
    "video",
    "audio",
    "microphone",
    "video_codec_filter",
    "audio_codec_filter",
    "microphone_codec_filter",
];

pub(super) fn mount(routes: &mut web::ServiceConfig) {
    let preload = web::resource("/api/preload")
        .route(web::get().to(list))
        .route(web::head().to(list))
        .route(web::put().to(put))
        .route(web::delete().to(delete));
    routes.service(preload);
}

async fn list(context: web::Data<Context>) -> HttpResponse {
    let preloads = context.registry.preloads().into_iter();
    let preloads: BTreeMap<_, _> = preloads
        .map(|(name, query)| (name, json!({ "query": query })))
        .collect();
    line(&json!(preloads))
}

async fn put(context: web::Data<Context>, request: HttpRequest) -> HttpResponse {
    let query = Fields::of_query(request.query_string());
    let Some(name) = query.get("src") else {
        return missing("src");
    };
    match context.registry.preload(&public(name), &wanted(&query)) {
        Ok(()) => HttpResponse::Ok().finish(),
        Err(e) => failure(&e),
    }
}

async fn delete(context: web::Data<Context>, request: HttpRequest) -> HttpResponse {
    let query = Fields::of_query(request.query_string());
    let Some(name) = query.get("src") else {
        return missing("src");
    };
    if context.registry.unload(&public(name)) {
        HttpResponse::Ok().finish()
    } else {
        told(
            StatusCode::NOT_FOUND,
            "this stream is not preloaded; GET /api/preload lists those that are",
        )
    }
}

/// The parameters as go2rtc writes them down: in their order, `src` left out.
fn wanted(query: &Fields) -> String {
    let encode = |text| url::form_urlencoded::byte_serialize(str::as_bytes(text)).collect();
    let given: Vec<String> = query
        .iter()
        .filter(|(key, _)| PARAMETERS.contains(key))
        .map(|(key, value): (&str, &str)| {
            let value: String = encode(value);
            let joint = if value.is_empty() { "" } else { "=" };
            format!("{key}{joint}{value}")
        })
        .collect();
    if given.is_empty() {
        return "video&audio".to_owned();
    }
    given.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_is_what_the_client_gave_and_both_without() {
        for (query, expected) in [
            ("src=a", "video&audio"),
            ("src=a&audio&video=h264", "audio&video=h264"),
            (
                "video_codec_filter=h264%2Ch265&src=a&x=1",
                "video_codec_filter=h264%2Ch265",
            ),
        ] {
            assert_eq!(wanted(&Fields::of_query(query)), expected, "{query}");
        }
    }
}
