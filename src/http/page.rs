//! The page and its files, embedded in the binary.

use actix_web::{HttpResponse, web};

/// The routes served here.
pub const ROUTES: &[(&str, &str)] = &[
    ("GET", "/"),
    ("GET", "/static"),
    ("GET", "/static/"),
    ("GET", "/static/{file}"),
    ("GET", "/stream/player/{uuid}"),
];

const INDEX: &str = include_str!("../../web/index.html");

/// Each file of the page: name, content type, text.
const FILES: &[(&str, &str, &str)] = &[
    (
        "page.js",
        "text/javascript; charset=utf-8",
        include_str!("../../web/page.js"),
    ),
    (
        "player.js",
        "text/javascript; charset=utf-8",
        include_str!("../../web/player.js"),
    ),
    (
        "call.js",
        "text/javascript; charset=utf-8",
        include_str!("../../web/call.js"),
    ),
    (
        "cameras.js",
        "text/javascript; charset=utf-8",
        include_str!("../../web/cameras.js"),
    ),
    (
        "style.css",
        "text/css; charset=utf-8",
        include_str!("../../web/style.css"),
    ),
    (
        "logo.svg",
        "image/svg+xml",
        include_str!("../../web/logo.svg"),
    ),
];

/// What the page may do: nothing but what its own files say.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data: blob:; media-src 'self' blob:; connect-src 'self'; base-uri 'none'; \
    form-action 'self'; frame-ancestors 'self'";

/// Mounts [`ROUTES`].
pub fn mount(routes: &mut web::ServiceConfig) {
    for (path, base) in [("/", "./"), ("/stream/player/{uuid}", "../../")] {
        let page = move || async move { index(base) };
        routes.service(
            web::resource(path)
                .route(web::get().to(page))
                .route(web::head().to(page)),
        );
    }
    // Home Assistant and its client library ask for this path to see whether the server is there.
    for path in ["/static", "/static/"] {
        routes.service(
            web::resource(path)
                .route(web::get().to(listing))
                .route(web::head().to(listing)),
        );
    }
    routes.service(
        web::resource("/static/{file}")
            .route(web::get().to(file))
            .route(web::head().to(file)),
    );
}

fn index(base: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header(("Content-Security-Policy", POLICY))
        .insert_header(("Cache-Control", "no-cache"))
        .body(INDEX.replace("{{base}}", base))
}

async fn listing() -> HttpResponse {
    let names: Vec<_> = FILES.iter().map(|(name, ..)| *name).collect();
    HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .body(names.join("\n"))
}

async fn file(name: web::Path<String>) -> HttpResponse {
    let Some((_, content_type, text)) = FILES.iter().find(|(file, ..)| *file == name.as_str())
    else {
        return not_found().await;
    };
    HttpResponse::Ok()
        .content_type(*content_type)
        .insert_header(("Cache-Control", "no-cache"))
        .body(*text)
}

/// For every path and method that nobody serves, in the words of the server that we stand in for.
pub async fn not_found() -> HttpResponse {
    HttpResponse::NotFound()
        .content_type("text/plain; charset=utf-8")
        .body("404 page not found")
}
