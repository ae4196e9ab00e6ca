//! What a camera answers to a request.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{net::UdpSocket, time::Instant};

use super::{
    Seen,
    media::{self, Media, Way},
    message::Request,
    quirk::Quirk,
    script::{Camera, Carrier},
};

/// The state that answers depend on: media, and the ends of the connection.
pub(super) struct Desk<'a> {
    pub(super) camera: &'a Camera,
    pub(super) media: &'a mut Media,
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) seen: &'a Seen,
}

#[derive(Default)]
struct Reply {
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Desk<'_> {
    /// The bytes to be sent. The status is noted in the request.
    pub(super) async fn reply(&mut self, request: &mut Request) -> Vec<u8> {
        let mut reply = Reply::default();
        request.status = self.answer(request, &mut reply).await;
        reply.write(self.camera, request)
    }

    /// The status, with the headers and the body that belong to it.
    async fn answer(&mut self, request: &Request, reply: &mut Reply) -> u16 {
        let camera = self.camera;
        let method = request.method.as_str();
        if let Some(login) = &camera.login
            && method != "OPTIONS"
            && !login.admits(request)
        {
            for challenge in login.challenges(request).lines() {
                reply.headers.extend(
                    challenge
                        .split_once(": ")
                        .map(|(_, value)| ("WWW-Authenticate", value.to_owned())),
                );
            }
            return 401;
        }
        if let Some((status, location)) = camera.moved.as_ref().filter(|_| method == "DESCRIBE") {
            if !location.is_empty() {
                reply.add("Location", location);
            }
            return *status;
        }
        if let Some((_, status)) = refusal(camera, method) {
            return *status;
        }
        if !matches!(method, "OPTIONS" | "DESCRIBE") {
            let timeout = camera.timeout;
            reply.add(
                "Session",
                if camera.has(Quirk::OddSession) {
                    format!("5C41 ; Timeout = {timeout} ")
                } else {
                    format!("5C41;timeout={timeout}")
                },
            );
        }
        match method {
            "OPTIONS" => {
                let known = "OPTIONS DESCRIBE SETUP PLAY GET_PARAMETER TEARDOWN".split(' ');
                let known: Vec<_> = known.filter(|m| refusal(camera, m).is_none()).collect();
                reply.add("Public", known.join(", "));
            }
            "DESCRIBE" => {
                let base = request.uri.trim_end_matches('/');
                reply.add("Content-Type", "application/sdp");
                reply.add("Content-Base", format!("{base}/"));
                reply.body.clone_from(&camera.sdp);
            }
            "SETUP" if !self.has_room(request.connection) => return 453,
            "SETUP" => return self.set_up(request, reply).await,
            "PLAY" => self.tell_where_it_begins(reply),
            "TEARDOWN" => self.leave(request.connection),
            "GET_PARAMETER" | "PAUSE" => {}
            _ => return 405,
        }
        200
    }

    /// Takes the camera's one place, unless another connection has it.
    fn has_room(&self, connection: usize) -> bool {
        let Some(hold) = self.camera.single else {
            return true;
        };
        let mut session = self.seen.session();
        let is_free = (*session).is_none_or(|(owner, ended): (usize, Option<Instant>)| {
            owner == connection || ended.is_some_and(|ended| ended.elapsed() > hold)
        });
        if is_free {
            *session = Some((connection, None));
        }
        is_free
    }

    fn leave(&self, connection: usize) {
        let mut session = self.seen.session();
        if (*session).is_some_and(|(owner, _)| owner == connection) {
            *session = None;
        }
    }

    async fn set_up(&mut self, request: &Request, reply: &mut Reply) -> u16 {
        let asked = request.header("Transport").unwrap_or_default();
        let channel = range(asked, "interleaved=").and_then(|(first, _)| u8::try_from(first).ok());
        let ports = range(asked, "client_port=");
        let Some(index) = media::find(&self.media.tracks, &request.uri) else {
            return 404;
        };
        let ssrc = self.media.tracks[index].ssrc;
        let may = |carrier| self.camera.carriers.contains(&carrier);
        let (way, header) = match (channel, ports) {
            (Some(_), _) if self.camera.has(Quirk::UdpForTcp) => {
                let header = "RTP/AVP;unicast;client_port=40000-40001;server_port=40002-40003";
                (Way::Nowhere, header.to_owned())
            }
            (Some(channel), _) if may(Carrier::Tcp) => {
                let other = if self.camera.has(Quirk::OtherChannels) {
                    10
                } else {
                    0
                };
                let channel = channel.saturating_add(other);
                let header = format!(
                    "RTP/AVP/TCP;unicast;interleaved={channel}-{};ssrc={ssrc:08X}",
                    channel.saturating_add(1),
                );
                (Way::Channel(channel), header)
            }
            (None, Some(ports)) if may(Carrier::Udp) => {
                let Ok((mut way, [rtp, rtcp])) = self.open_ports(ports).await else {
                    return 500;
                };
                if self.camera.has(Quirk::UdpLost) {
                    way = Way::Nowhere;
                }
                let header = format!(
                    "RTP/AVP;unicast;client_port={}-{};server_port={rtp}-{rtcp};ssrc={ssrc:08X}",
                    ports.0, ports.1,
                );
                (way, header)
            }
            _ => return 461,
        };
        reply.add("Transport", header);
        self.media.tracks[index].setup = Some((request.uri.clone(), way));
        200
    }

    async fn open_ports(&self, client: (u16, u16)) -> io::Result<(Way, [u16; 2])> {
        let home = self.local.ip();
        let sockets = [
            UdpSocket::bind((home, 0)).await?,
            UdpSocket::bind((home, 0)).await?,
        ];
        let ours = [
            sockets[0].local_addr()?.port(),
            sockets[1].local_addr()?.port(),
        ];
        let to = [client.0, client.1].map(|port| SocketAddr::new(self.peer.ip(), port));
        Ok((Way::Ports(sockets, to), ours))
    }

    fn tell_where_it_begins(&self, reply: &mut Reply) {
        if self.camera.has(Quirk::NoRtpInfo) {
            return;
        }
        let (sequence, time) = if self.camera.has(Quirk::WrongRtpInfo) {
            (4_242, 4_000_000_000_u32)
        } else {
            (0, 0)
        };
        let info = self.media.tracks.iter().filter_map(|track| {
            let (uri, _) = track.setup.as_ref()?;
            Some(format!("url={uri};seq={sequence};rtptime={time}"))
        });
        reply.add("RTP-Info", info.collect::<Vec<_>>().join(","));
    }
}

impl Reply {
    fn add(&mut self, name: &'static str, value: impl Into<String>) {
        self.headers.push((name, value.into()));
    }

    fn write(mut self, camera: &Camera, request: &Request) -> Vec<u8> {
        let cseq = request.header("CSeq").unwrap_or_default().to_owned();
        let lower = camera.has(Quirk::LowerCaseCseq);
        let mut headers = vec![
            (if lower { "Cseq" } else { "CSeq" }, cseq),
            ("Server", "scripted camera".to_owned()),
        ];
        headers.append(&mut self.headers);
        if camera.has(Quirk::NoRtpInfo) {
            headers.retain(|(name, _)| *name != "RTP-Info");
        }
        if !self.body.is_empty() && !camera.has(Quirk::NoContentLength) {
            let wrong = camera.quirks.iter().find_map(|quirk| match quirk {
                Quirk::WrongContentLength(by) => Some(*by),
                _ => None,
            });
            let length = i32::try_from(self.body.len()).expect("descriptions are small");
            let length = length + wrong.unwrap_or(0);
            headers.push(("Content-Length", length.to_string()));
        }
        let colon = if camera.has(Quirk::NoSpaceAfterColon) {
            ":"
        } else {
            ": "
        };
        let mut text = format!("RTSP/1.0 {} {}\r\n", request.status, reason(request.status));
        for (name, value) in headers {
            text.extend([name, colon, &value, "\r\n"]);
        }
        text.push_str("\r\n");
        [text.as_bytes(), &self.body].concat()
    }
}

/// A request of the camera to its client.
pub(super) fn question(method: &str) -> Vec<u8> {
    format!("{method} * RTSP/1.0\r\nCSeq: 7001\r\nSession: 5C41\r\n\r\n").into_bytes()
}

/// Whether a request keeps the sessions of a strict camera alive: OPTIONS only where nothing better is
/// known.
pub(super) fn is_sign_of_life(camera: &Camera, request: &Request) -> bool {
    request.method != "OPTIONS" || refusal(camera, "GET_PARAMETER").is_some()
}

/// For how long a strict camera waits for one.
pub(super) fn patience(camera: &Camera) -> Option<Duration> {
    let timeout = Duration::from_secs(u64::from(camera.timeout));
    camera.has(Quirk::StrictTimeout).then_some(timeout)
}

fn refusal<'a>(camera: &'a Camera, method: &str) -> Option<&'a (String, u16)> {
    camera
        .refusals
        .iter()
        .find(|(refused, _)| refused == method)
}

/// The two numbers of `name` in a `Transport` header; the second may be missing.
fn range(transport: &str, name: &str) -> Option<(u16, u16)> {
    let (_, rest) = transport.split_once(name)?;
    let rest = rest.split([';', ',']).next()?;
    let (first, second) = rest.split_once('-').unwrap_or((rest, ""));
    let first = first.trim().parse().ok()?;
    let second = second.trim().parse().unwrap_or(first + 1);
    Some((first, second))
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        453 => "Not Enough Bandwidth",
        454 => "Session Not Found",
        461 => "Unsupported Transport",
        503 => "Service Unavailable",
        _ => "Scripted",
    }
}
