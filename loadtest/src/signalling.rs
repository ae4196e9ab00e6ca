//! How an offer gets to a server and the answer back, in the dialects that servers have.

use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use crate::http::{percent_encode, request, split_url};

/// A dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// WHEP (draft-ietf-wish-whep): the offer as body, DELETE at the end.
    Whep,
    /// go2rtc's `/api/webrtc`: the offer as body.
    Go2rtc,
    /// `RTSPtoWebRTC`'s `/stream`: a form with the camera's URL and the offer in base64.
    RtspToWebrtc,
    /// Janus: its streaming plugin makes the offer.
    Janus,
}

impl FromStr for Flavour {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "whep" => Ok(Self::Whep),
            "go2rtc" => Ok(Self::Go2rtc),
            "rtsptowebrtc" => Ok(Self::RtspToWebrtc),
            "janus" => Ok(Self::Janus),
            _ => Err(format!(
                "flavor {text} is none of whep, go2rtc, rtsptowebrtc"
            )),
        }
    }
}

/// Where viewers of one server go.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) flavour: Flavour,
    /// With the placeholders `{rtsp}` and `{i}`.
    pub(crate) url: String,
    /// The URL of camera 0, up to its number.
    pub(crate) camera: String,
    pub(crate) audio: bool,
}

impl Target {
    /// Whether the server makes the offer.
    pub(crate) fn is_janus(&self) -> bool {
        self.flavour == Flavour::Janus
    }

    /// Whether the server opens a camera because a viewer names its URL.
    pub(crate) fn opens_any_camera(&self) -> bool {
        self.flavour != Flavour::Whep && self.flavour != Flavour::Go2rtc
            || self.url.contains("{rtsp}")
    }

    /// The URL of a camera.
    pub(crate) fn rtsp(&self, camera: usize) -> String {
        format!("{}{camera}", self.camera)
    }

    /// Where a viewer of a camera posts its offer.
    pub(crate) fn url(&self, camera: usize) -> String {
        self.url
            .replace("{rtsp}", &percent_encode(&self.rtsp(camera)))
            .replace("{i}", &camera.to_string())
    }
}

/// What it takes to say goodbye.
#[derive(Debug, Default)]
pub(crate) struct Session {
    /// The resource to delete (WHEP).
    pub(crate) resource: Option<String>,
    /// The session of Janus, and its handle.
    pub(crate) janus: Option<(String, String)>,
}

impl Session {
    /// Says goodbye. A server that does not want to hear it is no error here.
    pub(crate) fn leave(&self) {
        if let Some(resource) = &self.resource {
            let _ = request("DELETE", resource, "text/plain", "");
        }
        if let Some((session, _)) = &self.janus {
            let _ = crate::janus::destroy(session);
        }
    }
}

/// Sends an offer; returns the answer.
pub(crate) fn offer(
    target: &Target,
    camera: usize,
    sdp: &str,
) -> Result<(String, Session), String> {
    let url = target.url(camera);
    match target.flavour {
        Flavour::Whep | Flavour::Go2rtc => {
            let response = request("POST", &url, "application/sdp", sdp)?.success()?;
            let resource = response
                .header("location")
                .filter(|_| target.flavour == Flavour::Whep);
            let resource = resource
                .map(|location| absolute(&url, location))
                .transpose()?;
            Ok((
                response.body,
                Session {
                    resource,
                    janus: None,
                },
            ))
        }
        Flavour::RtspToWebrtc => {
            let form = format!(
                "url={}&sdp64={}",
                percent_encode(&target.rtsp(camera)),
                percent_encode(&BASE64.encode(sdp))
            );
            let response =
                request("POST", &url, "application/x-www-form-urlencoded", &form)?.success()?;
            let body: Value =
                serde_json::from_str(&response.body).map_err(|error| error.to_string())?;
            let answer = body["sdp64"].as_str().ok_or("the answer has no sdp64")?;
            let answer = BASE64
                .decode(answer)
                .map_err(|error| format!("sdp64: {error}"))?;
            Ok((
                String::from_utf8_lossy(&answer).into_owned(),
                Session::default(),
            ))
        }
        Flavour::Janus => Err("Janus makes the offer itself".into()),
    }
}

/// A location that may be a path of the URL's host.
fn absolute(url: &str, location: &str) -> Result<String, String> {
    if location.starts_with("http://") {
        return Ok(location.to_owned());
    }
    let (host, path) = split_url(url)?;
    if location.starts_with('/') {
        return Ok(format!("http://{host}{location}"));
    }
    let folder = path
        .split('?')
        .next()
        .unwrap_or(path)
        .rsplit_once('/')
        .map_or("", |(folder, _)| folder);
    Ok(format!("http://{host}{folder}/{location}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    fn target(flavour: Flavour, url: String) -> Target {
        Target {
            flavour,
            url,
            camera: "rtsp://c/cam".into(),
            audio: true,
        }
    }

    /// Answers as many requests as there are answers; returns the first lines and bodies of the requests.
    fn serve(answers: Vec<String>) -> (String, thread::JoinHandle<Vec<(String, String)>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/a", listener.local_addr().unwrap());
        let server = thread::Builder::new().spawn(move || {
            let one = |answer: &String| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut text = vec![0; 4096];
                let length = stream.read(&mut text).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
                let text = String::from_utf8_lossy(&text[..length]).into_owned();
                let (head, body) = text.split_once("\r\n\r\n").unwrap();
                (head.lines().next().unwrap().to_owned(), body.to_owned())
            };
            answers.iter().map(one).collect()
        });
        (url, server.unwrap())
    }

    #[test]
    fn whep_posts_the_offer_and_deletes_its_resource() {
        let created = "HTTP/1.1 201 Created\r\nLocation: /a/1\r\nContent-Length: 3\r\n\r\nv=0";
        let (url, server) = serve(vec![
            created.into(),
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".into(),
        ]);
        let (answer, session) = offer(&target(Flavour::Whep, url), 0, "v=1").unwrap();
        session.leave();
        let requests = server.join().unwrap();
        assert_eq!(answer, "v=0");
        assert_eq!(requests[0], ("POST /a HTTP/1.1".into(), "v=1".into()));
        assert_eq!(requests[1].0, "DELETE /a/1 HTTP/1.1");
    }

    #[test]
    fn rtsptowebrtc_sends_a_form_and_reads_json() {
        let body = r#"{"sdp64":"dj0w"}"#;
        let (url, server) = serve(vec![format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )]);
        let (answer, _) = offer(&target(Flavour::RtspToWebrtc, url), 3, "v=1").unwrap();
        assert_eq!(answer, "v=0");
        assert_eq!(
            server.join().unwrap()[0].1,
            "url=rtsp%3A%2F%2Fc%2Fcam3&sdp64=dj0x"
        );
    }

    #[test]
    fn a_refusal_tells_its_status() {
        let (url, _server) = serve(vec![
            "HTTP/1.1 503 Full\r\nContent-Length: 4\r\n\r\nfull".into(),
        ]);
        assert_eq!(
            offer(&target(Flavour::Go2rtc, url), 0, "").unwrap_err(),
            "HTTP 503: full"
        );
    }

    #[test]
    fn fills_in_the_camera() {
        let target = Target {
            flavour: Flavour::Go2rtc,
            url: "http://h:1/api?src={rtsp}&n={i}".into(),
            camera: "rtsp://c/cam".into(),
            audio: true,
        };
        assert_eq!(
            target.url(7),
            "http://h:1/api?src=rtsp%3A%2F%2Fc%2Fcam7&n=7"
        );
        assert!(target.opens_any_camera());
    }

    #[test]
    fn resolves_locations() {
        for (location, full) in [
            ("http://x/y", "http://x/y"),
            ("/s/1", "http://h:1/s/1"),
            ("1", "http://h:1/a/1"),
        ] {
            assert_eq!(
                absolute("http://h:1/a/whep?b=/c", location).as_deref(),
                Ok(full)
            );
        }
    }
}
