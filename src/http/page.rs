//! The page and its files, embedded in the binary.

use actix_web::{HttpResponse, web};

/// The routes served here.
pub const ROUTES: &[(&str, &str)] = &[
    ("GET", "/"),
    ("GET", "/static"),
    ("GET", "/static/"),
    ("GET", "/static/{file}"),
    ("GET", "/stream/player/{uuid}"),
    ("GET", "/stream.html"),
    ("GET", "/webrtc.html"),
];

const INDEX: &str = include_str!("../../web/index.html");
const STREAM: &str = include_str!("../../web/stream.html");

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
        "stream.js",
        "text/javascript; charset=utf-8",
        include_str!("../../web/stream.js"),
    ),
    (
        "stream.css",
        "text/css; charset=utf-8",
        include_str!("../../web/stream.css"),
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
    form-action 'self'";
/// Who may show the page in a frame.
const OWN_FRAMES: &str = "frame-ancestors 'self'";
/// The pages that show a picture alone are made to be embedded, mostly in dashboards of Home Assistant,
/// which has another origin. A page that tricks its visitor into clicking there gains nothing: one can
/// play, mute and enlarge, and a camera that has no name is not opened in a frame of another origin.
const ANY_FRAMES: &str = "frame-ancestors *";

/// Mounts [`ROUTES`].
pub fn mount(routes: &mut web::ServiceConfig) {
    for (path, base) in [("/", "./"), ("/stream/player/{uuid}", "../../")] {
        let page = move || async move { html(INDEX.replace("{{base}}", base), OWN_FRAMES) };
        routes.service(
            web::resource(path)
                .route(web::get().to(page))
                .route(web::head().to(page)),
        );
    }
    // The names that go2rtc's pages have, which people have put into dashboards.
    for path in ["/stream.html", "/webrtc.html"] {
        let page = || async { html(STREAM.to_owned(), ANY_FRAMES) };
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

fn html(text: String, frames: &str) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header(("Content-Security-Policy", format!("{POLICY}; {frames}")))
        .insert_header(("Cache-Control", "no-cache"))
        .body(text)
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

#[cfg(test)]
mod tests {
    use actix_web::{App, test as call};

    use super::*;

    #[actix_web::test]
    async fn only_the_pages_made_for_it_can_be_framed_by_others() {
        let service = call::init_service(App::new().configure(mount)).await;
        for (path, frames) in [
            ("/", OWN_FRAMES),
            ("/stream/player/demo", OWN_FRAMES),
            ("/stream.html?src=demo", ANY_FRAMES),
            ("/webrtc.html?src=demo", ANY_FRAMES),
        ] {
            let request = call::TestRequest::get().uri(path).to_request();
            let response = call::call_service(&service, request).await;
            let policy = response.headers().get("content-security-policy").unwrap();
            let policy = policy.to_str().unwrap();
            assert!(policy.starts_with("default-src 'none'"), "{path}: {policy}");
            assert!(policy.ends_with(frames), "{path}: {policy}");
            assert_eq!(policy.matches("frame-ancestors").count(), 1, "{path}");
        }
    }

    #[test]
    fn every_file_that_a_page_names_is_there() {
        let known = |name: &str| FILES.iter().any(|(file, ..)| *file == name);
        for page in [INDEX, STREAM] {
            let named = page.split("static/").skip(1);
            for name in named.filter_map(|rest| rest.split('"').next()) {
                assert!(known(name), "{name}");
            }
        }
        for (file, _, text) in FILES {
            let imported = text.split("from './").skip(1);
            for name in imported.filter_map(|rest| rest.split('\'').next()) {
                assert!(known(name), "{name} in {file}");
            }
        }
    }
}
