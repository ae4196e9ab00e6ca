//! One connection of a scripted camera: one task from accept to close.

use std::{
    fmt::Write as _,
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt,
    net::{TcpStream, tcp::OwnedWriteHalf},
    time::{Interval, interval, sleep, timeout},
};

use super::{
    Seen,
    media::{self, Track},
    message::{Inbox, Request},
    script::{Camera, Script, Step, Until},
};

/// A connection and its place in the script.
struct Connection {
    inbox: Inbox,
    outbox: OwnedWriteHalf,
    /// How many bytes the present step may still send, if that is limited.
    allowance: Option<usize>,
    seen: Arc<Seen>,
}

/// What follows a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Next,
    Gone,
    Reset,
}

/// Does the steps of `script` and closes. A peer that goes or talks nonsense ends it early.
pub(super) async fn play(stream: TcpStream, script: Script, number: usize, seen: Arc<Seen>) {
    seen.open.fetch_add(1, Ordering::Relaxed);
    let _open = Open(Arc::clone(&seen));
    let (read, outbox) = stream.into_split();
    let inbox = Inbox::new(read, number);
    let mut connection = Connection {
        inbox,
        outbox,
        allowance: None,
        seen,
    };
    for step in script.0 {
        match connection.take(step).await {
            Ok(Then::Next) => {}
            Ok(Then::Reset) => {
                // Dropped as usual, it would send an orderly end first.
                connection.outbox.forget();
                break;
            }
            Ok(Then::Gone) | Err(_) => break,
        }
    }
}

/// Counts a connection as open as long as it lives.
struct Open(Arc<Seen>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connection {
    async fn take(&mut self, step: Step) -> io::Result<Then> {
        match step {
            Step::Say(bytes) => self.outbox.write_all(&bytes).await?,
            Step::Wait(time) => sleep(time).await,
            Step::Listen => {
                if !self.inbox.listen().await? {
                    return Ok(Then::Gone);
                }
            }
            Step::Stall => {
                while self.inbox.listen().await? {}
                return Ok(Then::Gone);
            }
            Step::Reset => {
                self.outbox.as_ref().set_zero_linger()?;
                return Ok(Then::Reset);
            }
            Step::Serve(camera, until) => return self.serve_until(&camera, until).await,
        }
        Ok(Then::Next)
    }

    async fn serve_until(&mut self, camera: &Camera, until: Until) -> io::Result<Then> {
        let mut requests = usize::MAX;
        let mut time = Duration::MAX;
        match until {
            Until::Gone => {}
            Until::Requests(limit) => requests = limit,
            Until::Bytes(limit) => self.allowance = Some(limit),
            Until::Elapsed(limit) => time = limit,
        }
        let served = timeout(time, self.serve(camera, requests)).await;
        self.allowance = None;
        served.unwrap_or(Ok(Then::Next))
    }

    async fn serve(&mut self, camera: &Camera, requests: usize) -> io::Result<Then> {
        let mut tracks = media::tracks(&camera.sdp);
        let mut pace: Option<Interval> = None;
        let mut answered = 0;
        let mut frame = 0;
        while answered < requests {
            let tick = async {
                match &mut pace {
                    Some(pace) if frame < camera.frames => pace.tick().await,
                    _ => std::future::pending().await,
                }
            };
            let went_out = tokio::select! {
                biased;
                request = self.inbox.request() => {
                    let Some(mut request) = request? else { return Ok(Then::Gone) };
                    answered += 1;
                    let reply = reply(camera, &mut tracks, &mut request);
                    if request.method == "PLAY" && request.status == 200 {
                        pace = Some(interval(camera.pace));
                    }
                    if request.method == "TEARDOWN" || request.method == "PAUSE" {
                        pace = None;
                    }
                    self.seen.requests.lock().expect("recording does not panic").push(request);
                    sleep(camera.delay).await;
                    self.write(&reply).await?
                }
                _ = tick => {
                    let packets = interleaved(&mut tracks, frame);
                    frame += 1;
                    self.write(&packets).await.unwrap_or_else(|_| {
                        // The peer has closed; its TEARDOWN may still be here to be read.
                        pace = None;
                        true
                    })
                }
            };
            if !went_out {
                break;
            }
        }
        Ok(Then::Next)
    }

    /// Sends what the allowance permits. False when that is used up.
    async fn write(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let length = self
            .allowance
            .map_or(bytes.len(), |left| left.min(bytes.len()));
        self.outbox.write_all(&bytes[..length]).await?;
        self.allowance = self.allowance.map(|left| left - length);
        Ok(self.allowance != Some(0))
    }
}

fn reply(camera: &Camera, tracks: &mut [Track], request: &mut Request) -> Vec<u8> {
    let mut headers = String::new();
    let mut body: &[u8] = &[];
    let status = answer(camera, tracks, request, &mut headers, &mut body);
    request.status = status;
    let mut reply = format!("RTSP/1.0 {status} {}\r\n", reason(status));
    let cseq = request.header("CSeq").unwrap_or_default();
    let _ = write!(
        reply,
        "CSeq: {cseq}\r\nServer: scripted camera\r\n{headers}"
    );
    if !body.is_empty() {
        let _ = write!(reply, "Content-Length: {}\r\n", body.len());
    }
    reply.push_str("\r\n");
    [reply.as_bytes(), body].concat()
}

/// The status, with the headers and the body that belong to it.
fn answer<'a>(
    camera: &'a Camera,
    tracks: &mut [Track],
    request: &Request,
    headers: &mut String,
    body: &mut &'a [u8],
) -> u16 {
    let method = request.method.as_str();
    if let Some(login) = &camera.login
        && method != "OPTIONS"
        && !login.admits(request)
    {
        headers.push_str(&login.challenges(request));
        return 401;
    }
    if let Some((status, location)) = camera.moved.as_ref().filter(|_| method == "DESCRIBE") {
        if !location.is_empty() {
            let _ = write!(headers, "Location: {location}\r\n");
        }
        return *status;
    }
    if let Some((_, status)) = camera
        .refusals
        .iter()
        .find(|(refused, _)| refused == method)
    {
        return *status;
    }
    if !matches!(method, "OPTIONS" | "DESCRIBE") {
        let _ = write!(headers, "Session: 5C41;timeout={}\r\n", camera.timeout);
    }
    match method {
        "OPTIONS" => {
            headers.push_str("Public: OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, TEARDOWN\r\n");
        }
        "DESCRIBE" => {
            let base = request.uri.trim_end_matches('/');
            let _ = write!(
                headers,
                "Content-Type: application/sdp\r\nContent-Base: {base}/\r\n"
            );
            *body = &camera.sdp;
        }
        "SETUP" => return set_up(tracks, request, headers),
        "PLAY" => {
            let info = tracks.iter().filter_map(|track| {
                let (uri, _) = track.setup.as_ref()?;
                Some(format!("url={uri};seq=0;rtptime=0"))
            });
            let _ = write!(
                headers,
                "RTP-Info: {}\r\n",
                info.collect::<Vec<_>>().join(",")
            );
        }
        "GET_PARAMETER" | "PAUSE" | "TEARDOWN" => {}
        _ => return 405,
    }
    200
}

fn set_up(tracks: &mut [Track], request: &Request, headers: &mut String) -> u16 {
    let channel = request.header("Transport").and_then(|transport| {
        let (_, channels) = transport.split_once("interleaved=")?;
        let end = channels
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(channels.len());
        channels[..end].parse::<u8>().ok()
    });
    let Some(channel) = channel else {
        return 461;
    };
    let Some(index) = media::find(tracks, &request.uri) else {
        return 404;
    };
    tracks[index].setup = Some((request.uri.clone(), channel));
    let _ = write!(
        headers,
        "Transport: RTP/AVP/TCP;unicast;interleaved={channel}-{};ssrc={:08X}\r\n",
        channel.saturating_add(1),
        media::ssrc(index),
    );
    200
}

/// Frame `number` of every track that was set up, ready to be sent.
fn interleaved(tracks: &mut [Track], number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (index, track) in tracks.iter_mut().enumerate() {
        let Some(channel) = track.setup.as_ref().map(|(_, channel)| *channel) else {
            continue;
        };
        for packet in track.packets(index, number) {
            let length = u16::try_from(packet.len()).expect("packets are made small");
            bytes.extend([b'$', channel]);
            bytes.extend(length.to_be_bytes());
            bytes.extend(packet);
        }
    }
    bytes
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
