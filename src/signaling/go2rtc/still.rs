//! `GET /api/frame.jpeg`: a camera's last key frame as a picture.

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use bytes::Bytes;

use super::{failure, missing, named_or_url};
use crate::{
    base::{Error, ErrorKind},
    context::Context,
    signaling::{Target, credentials::is_browser, encoding::Fields},
    stills::Size,
};

pub(super) fn mount(routes: &mut web::ServiceConfig) {
    let frame = web::resource("/api/frame.jpeg")
        .route(web::get().to(frame))
        .route(web::head().to(frame));
    routes.service(frame);
}

/// The stream or the URL `src`. A URL is not registered, whatever `name` says: a GET changes nothing. And
/// one that is not registered is taken from programs only: any page can have a browser ask for a picture,
/// and would have this server call whatever address it likes.
async fn frame(context: web::Data<Context>, request: HttpRequest) -> HttpResponse {
    let query = Fields::of_query(request.query_string());
    let Some(source) = query.get("src") else {
        return missing("src");
    };
    let target = named_or_url(&context, source).and_then(|target| {
        let is_registered = context.registry.with_url(&target.camera.url).is_some();
        if is_registered || !is_browser(request.headers()) {
            return Ok(target);
        }
        Err(Error::new(
            ErrorKind::NotFound,
            "a browser gets pictures of registered cameras only",
        ))
    });
    match picture(&context, target, &query).await {
        Ok(jpeg) => HttpResponse::Ok()
            .content_type("image/jpeg")
            .insert_header((header::CACHE_CONTROL, "no-cache"))
            .body(jpeg),
        Err(e) => failure(&e),
    }
}

async fn picture(
    context: &Context,
    target: Result<Target, Error>,
    query: &Fields,
) -> Result<Bytes, Error> {
    let size = Size::new(side(query, ["width", "w"])?, side(query, ["height", "h"])?)?;
    let camera = target?.camera;
    let stills = &context.stills;
    stills.jpeg(&context.directory, &camera.urls(), size).await
}

/// A side of the picture in pixels, by either of its names.
fn side(query: &Fields, names: [&str; 2]) -> Result<Option<u16>, Error> {
    let Some(text) = names.iter().find_map(|name| query.get(name)) else {
        return Ok(None);
    };
    let side = text.parse().map_err(|_| {
        Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "`{}` must be a number of pixels from 1 to {}",
                names[0],
                Size::MAX
            ),
        )
    });
    side.map(Some)
}
