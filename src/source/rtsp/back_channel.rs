//! The back channel: speech to a camera, as the ONVIF Streaming Specification §5.3 has it, over a session of its
//! own beside the one that plays.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{
    End, Rtsp, TEARDOWN_LIMIT, diagnose,
    dial::Ends,
    redirect::{self, Redirect},
    session::{Described, Failure, Session},
    transport::{Route, Transport},
};
use crate::{
    base::{Diagnosis, Error, Note, SourceUrl, Verdict},
    hub::Turn,
    media::{
        audio::{Interpreter, SpeechFormat, SpeechPacket},
        sdp::Description,
    },
};

/// What ONVIF cameras call sound towards them (ONVIF Streaming Specification §5.3.1).
pub(super) const FEATURE: &str = "www.onvif.org/ver20/backchannel";
/// From the call to the description: a viewer waits for the answer to its offer.
const ASK_LIMIT: Duration = Duration::from_secs(3);
/// From the call to PLAY: somebody speaks already.
const OPEN_LIMIT: Duration = Duration::from_secs(5);
/// By how much speech may be ahead of the clock. Nobody says more in a second than a second.
const AHEAD_MAX: Duration = Duration::from_secs(2);
/// For which a camera may take nothing.
const SEND_LIMIT: Duration = Duration::from_secs(2);

/// A back channel as a camera describes it.
#[derive(Debug)]
struct BackChannel {
    format: SpeechFormat,
    payload_type: u8,
    control: String,
    /// What `control` is relative to, and what PLAY is about.
    base: String,
    aggregate: String,
}

impl BackChannel {
    /// The one that `described` has.
    fn find(described: &Described) -> Result<Self, Note> {
        let description = Description::parse(&described.sdp);
        let sections = || {
            let sections = description.media.iter();
            sections.filter(|s| s.media == "audio" && s.attributes.has("sendonly"))
        };
        let Some(first) = sections().next() else {
            return Err(Note::new(
                Verdict::NoBackChannel,
                "it has no back channel; switch its sound output (speaker) on, if it has one",
            ));
        };
        let found = sections().find_map(|section| Some((section, SpeechFormat::read(section)?)));
        let Some((section, (format, payload_type))) = found else {
            let maps: Vec<_> = first.attributes.all("rtpmap").collect();
            return Err(Note {
                diagnosis: Diagnosis::seen(Verdict::UnsupportedSpeech, &maps.join(", ")),
                sentence: "its back channel takes no G.711; set its sound output to PCMU or PCMA"
                    .to_owned(),
            });
        };
        let control = |attribute: Option<&str>| attribute.unwrap_or_default().to_owned();
        Ok(Self {
            format,
            payload_type,
            control: control(section.attributes.get("control")),
            base: described.base.clone(),
            aggregate: control(description.session.get("control")),
        })
    }
}

impl Rtsp {
    /// Asks the camera, by a connection for this alone, what it takes as speech.
    pub(super) async fn ask_for_back_channel(&self) -> Result<SpeechFormat, Note> {
        let asked = self.call(Instant::now() + ASK_LIMIT).await;
        asked
            .map(|called| called.channel.format)
            .map_err(|error| Note {
                diagnosis: error.diagnosis().clone(),
                sentence: format!("you cannot be heard: {error}"),
            })
    }

    /// Opens the back channel and sends what `turn` gives.
    pub(super) async fn pass_on(
        &self,
        turn: &mut Turn,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let mut called = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            called = self.call(Instant::now() + OPEN_LIMIT) => called?,
        };
        let end = tokio::select! {
            biased;
            () = stop.cancelled() => Ok(()),
            end = called.speak(turn) => end,
        };
        if timeout(TEARDOWN_LIMIT, called.session.teardown())
            .await
            .is_err()
        {
            tracing::debug!("camera did not confirm the end of the back channel");
        }
        end
    }

    /// Connects and describes, wherever the camera sends us, before `end`.
    async fn call(&self, end: Instant) -> Result<Called, Error> {
        if self.url.option("backchannel") == Some("0") {
            return Err(Error::new(
                Verdict::NoBackChannel,
                format!(
                    "camera {}: its back channel is switched off by #backchannel=0 in its URL",
                    self.url
                ),
            ));
        }
        // What is known of the connection that plays is not to be touched.
        let mut url = self.url.clone();
        for _ in 0..=redirect::HOPS_MAX {
            let mut camera = Self::new(&url, &self.confinement)?;
            camera.transport = Transport::Tcp;
            let connected = camera.connect(end).await;
            let (mut session, ends) = connected.map_err(|error| failed(&error))?;
            session.require(FEATURE);
            let described = match timeout_at(end, session.describe()).await {
                Err(_) => {
                    let silent = diagnose::silent(&url, "DESCRIBE", ASK_LIMIT);
                    return Err(failed(&silent));
                }
                Ok(Ok(described)) => described,
                Ok(Err(Failure::Moved(location))) => {
                    url = redirect::follow(&url, &location)?;
                    continue;
                }
                Ok(Err(failure)) => return Err(refused(&camera, failure)),
            };
            let channel = BackChannel::find(&described).map_err(|note| {
                Error::from(Note {
                    sentence: format!("camera {url}: {}", note.sentence),
                    ..note
                })
            })?;
            return Ok(Called {
                camera,
                session,
                ends,
                channel,
                end,
            });
        }
        let what = format!("more than {} times", redirect::HOPS_MAX);
        Err(failed(&diagnose::astray(&self.url, &what)))
    }
}

/// A camera that has described its back channel.
struct Called {
    camera: Rtsp,
    session: Session,
    ends: Ends,
    channel: BackChannel,
    /// By when it must be open.
    end: Instant,
}

impl Called {
    /// Opens the back channel and sends what `turn` gives, until that ends.
    async fn speak(&mut self, turn: &mut Turn) -> Result<(), Error> {
        let Self {
            camera,
            session,
            ends,
            channel,
            end,
        } = self;
        let (base, aggregate) = (&channel.base, &channel.aggregate);
        let controls = [channel.control.as_str()];
        let opened = camera.set_up(session, *ends, *end, base, aggregate, &controls);
        let (routes, _) = opened.await.map_err(|end| error_of(&camera.url, end))?;
        let Some(Route::Channels(rtp, _)) = routes.first() else {
            return Ok(());
        };
        tracing::info!(format = %channel.format, "back channel open");
        turn.begin();
        let mut stream = Stream::new(channel.format, channel.payload_type);
        loop {
            tokio::select! {
                biased;
                said = turn.next() => {
                    let Some(said) = said else { return Ok(()) };
                    for packet in stream.packets(&said) {
                        let sent = timeout(SEND_LIMIT, session.send_packet(*rtp, &packet)).await;
                        let sent = sent.unwrap_or(Err(Failure::Answer("it takes no more speech")));
                        sent.map_err(|e| error_of(&camera.url, camera.end("media", e, Duration::ZERO)))?;
                    }
                }
                // Keeps the session alive. What a camera plays here, nobody has asked for.
                came = session.next() => {
                    came.map_err(|e| error_of(&camera.url, camera.end("media", e, Duration::ZERO)))?;
                }
            }
        }
    }
}

/// The RTP stream of one turn.
struct Stream {
    interpreter: Interpreter,
    format: SpeechFormat,
    payload_type: u8,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
    begun: Instant,
    /// Samples sent until now.
    sent: u64,
}

impl Stream {
    fn new(format: SpeechFormat, payload_type: u8) -> Self {
        Self {
            interpreter: Interpreter::new(format),
            format,
            payload_type,
            sequence: rand::random(),
            timestamp: rand::random(),
            ssrc: rand::random(),
            begun: Instant::now(),
            sent: 0,
        }
    }

    /// The packets for what somebody has said.
    fn packets(&mut self, said: &SpeechPacket) -> Vec<Vec<u8>> {
        let mut packets = Vec::with_capacity(1);
        let limit = (self.begun.elapsed() + AHEAD_MAX).as_millis() * u128::from(self.format.rate);
        if u128::from(self.sent) * 1_000 > limit {
            return packets;
        }
        let Self {
            interpreter,
            payload_type,
            sequence,
            timestamp,
            ssrc,
            sent,
            ..
        } = self;
        // What browsers send meets a decoder that is not ours.
        let interpreted = catch_unwind(AssertUnwindSafe(|| {
            interpreter.push(said, |spoken| {
                let marker = if spoken.begins { 0x80 } else { 0 };
                let mut packet = Vec::with_capacity(12 + spoken.samples.len());
                packet.extend_from_slice(&[0x80, marker | *payload_type]);
                packet.extend_from_slice(&sequence.to_be_bytes());
                let time = timestamp.wrapping_add(spoken.time);
                packet.extend_from_slice(&time.to_be_bytes());
                packet.extend_from_slice(&ssrc.to_be_bytes());
                packet.extend_from_slice(spoken.samples);
                *sequence = sequence.wrapping_add(1);
                *sent += spoken.samples.len() as u64;
                packets.push(packet);
            });
        }));
        if interpreted.is_err() {
            tracing::error!("a packet of speech broke its conversion off");
            *self = Self::new(self.format, self.payload_type);
        }
        packets
    }
}

/// The camera answered DESCRIBE with an error: most do that to say that they have no back channel, with 551 if
/// they go by the standard.
fn refused(camera: &Rtsp, failure: Failure) -> Error {
    let Failure::Status(status, _) = failure else {
        let end = camera.end("DESCRIBE", failure, Duration::ZERO);
        return error_of(&camera.url, end);
    };
    let error = error_of(&camera.url, camera.end("DESCRIBE", failure, Duration::ZERO));
    if matches!(status, 401 | 403 | 408 | 453 | 454 | 503) {
        return error;
    }
    let what = format!(
        "camera {}: it has no ONVIF back channel ({status})",
        camera.url
    );
    let evidence = error.diagnosis().evidence().unwrap_or_default();
    Error::new(Verdict::NoBackChannel, what).with_evidence(evidence)
}

/// What is wrong, in words about the back channel.
fn error_of(url: &SourceUrl, end: End) -> Error {
    match end {
        End::Failed(error) | End::Unsuited(error) => failed(&error),
        End::Moved(Redirect { .. }) => {
            failed(&diagnose::astray(url, "while its back channel is opened"))
        }
    }
}

fn failed(error: &Error) -> Error {
    let evidence = error.diagnosis().evidence();
    let evidence = evidence.unwrap_or_else(|| error.verdict().code());
    Error::new(
        Verdict::BackChannelFailed,
        format!("the back channel: {error}"),
    )
    .with_evidence(evidence)
    .with_source(error.clone())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::{
        hub::{Heard, Speaker, Speech, Wanted, hub},
        media::{
            Codec,
            audio::{Law, SpeechPacket},
        },
        source::Confinement,
    };

    /// The example of the ONVIF Streaming Specification, with the back channel on a path of its own.
    const SDP: &str = "v=0\r\nm=video 0 RTP/AVP 26\r\na=control:video\r\na=recvonly\r\n\
        m=audio 0 RTP/AVP 0\r\na=control:audio\r\na=recvonly\r\n\
        m=audio 0 RTP/AVP 8\r\na=control:audioback\r\na=rtpmap:8 PCMA/8000\r\na=sendonly\r\n";

    fn found(sdp: &str) -> Result<(SpeechFormat, u8, String), Verdict> {
        let described = Described {
            sdp: sdp.to_owned(),
            base: "rtsp://h/live".to_owned(),
        };
        let found = BackChannel::find(&described);
        found
            .map(|channel| (channel.format, channel.payload_type, channel.control))
            .map_err(|note| note.diagnosis.verdict)
    }

    #[test]
    fn the_back_channel_is_the_sound_that_clients_send() {
        let pcma = SpeechFormat {
            law: Law::Alaw,
            rate: 8_000,
        };
        assert_eq!(found(SDP), Ok((pcma, 8, "audioback".to_owned())));
        assert_eq!(
            found(&SDP.replace("sendonly", "recvonly")),
            Err(Verdict::NoBackChannel)
        );
        assert_eq!(
            found(&SDP.replace("PCMA/8000", "G726-32/8000")),
            Err(Verdict::UnsupportedSpeech)
        );
    }

    /// What a camera has got: requests as text, and interleaved packets.
    #[derive(Debug, Default)]
    struct Got {
        requests: Vec<String>,
        packets: Vec<(u8, Vec<u8>)>,
    }

    /// Answers one connection until it is closed; DESCRIBE with `status`.
    async fn act(mut stream: TcpStream, status: &str) -> Got {
        let (mut got, mut text) = (Got::default(), String::new());
        while let Ok(byte) = stream.read_u8().await {
            if byte == b'$' && text.is_empty() {
                let channel = stream.read_u8().await.unwrap();
                let length = stream.read_u16().await.unwrap();
                let mut packet = vec![0; length.into()];
                stream.read_exact(&mut packet).await.unwrap();
                got.packets.push((channel, packet));
                continue;
            }
            text.push(byte.into());
            if !text.ends_with("\r\n\r\n") {
                continue;
            }
            let request = std::mem::take(&mut text);
            let line = |name: &str| request.lines().find(|line| line.starts_with(name));
            let (mut answered, mut more, mut body) = ("200 OK", String::new(), "");
            match request.split(' ').next() {
                Some("DESCRIBE") => {
                    (answered, body) = (status, SDP);
                    more.push_str("Content-Type: application/sdp\r\n");
                }
                Some("SETUP") => {
                    more.push_str(
                        "Session: 7\r\nTransport: RTP/AVP/TCP;unicast;interleaved=4-5\r\n",
                    );
                }
                _ => {}
            }
            let answer = format!(
                "RTSP/1.0 {answered}\r\n{}\r\n{more}Content-Length: {}\r\n\r\n{body}",
                line("CSeq").unwrap(),
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
            got.requests.push(request);
        }
        got
    }

    async fn camera_with(option: &str) -> (TcpListener, Rtsp) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = SourceUrl::parse(&format!("rtsp://127.0.0.1:{port}/live{option}")).unwrap();
        let camera = Rtsp::new(&url, &Confinement::default()).unwrap();
        (listener, camera)
    }

    fn say(speaker: &mut Speaker, number: u16) -> Heard {
        speaker.speak(Speech {
            packet: SpeechPacket {
                codec: Codec::Pcma,
                sequence: number,
                timestamp: u32::from(number) * 160,
                payload: vec![number.to_le_bytes()[0]; 160].into(),
            },
            is_silent: false,
        })
    }

    #[tokio::test]
    async fn speech_goes_where_the_camera_wants_it_in_a_session_of_its_own() {
        let (listener, camera) = camera_with("#transport=udp").await;
        let (out, hub) = hub();
        let mut speaker = hub.speaker();
        let stop = CancellationToken::new();
        say(&mut speaker, 0);
        let Wanted::Turn(mut turn) = out.listener().next().await else {
            panic!("nobody has asked")
        };
        let talking = async {
            for number in 1..100 {
                assert_eq!(say(&mut speaker, number), Heard::Passed);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            drop(speaker);
        };
        let acting = async { act(listener.accept().await.unwrap().0, "200 OK").await };
        let passing = async {
            camera.pass_on(&mut turn, &stop).await.unwrap();
        };
        let (got, (), ()) = tokio::join!(acting, passing, talking);
        let methods: Vec<_> = got
            .requests
            .iter()
            .filter_map(|request| request.split(' ').next())
            .collect();
        assert_eq!(methods, ["DESCRIBE", "SETUP", "PLAY", "TEARDOWN"]);
        let require = format!("Require: {FEATURE}\r\n");
        let requires = got.requests.iter().map(|r| r.contains(&require));
        assert_eq!(requires.collect::<Vec<_>>(), [true, true, true, false]);
        assert!(
            got.requests[1].contains("/live/audioback RTSP"),
            "{}",
            got.requests[1]
        );
        assert!(got.packets.len() > 50, "{} packets", got.packets.len());
        let number = |packet: &[u8]| u16::from_be_bytes([packet[2], packet[3]]);
        let time = |packet: &[u8]| u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
        for (place, (channel, packet)) in got.packets.iter().enumerate() {
            assert_eq!((*channel, packet.len()), (4, 172));
            let marker = if place == 0 { 0x80 } else { 0 };
            assert_eq!(packet[..2], [0x80, marker | 8]);
        }
        for pair in got.packets.windows(2) {
            let (one, next) = (&pair[0].1, &pair[1].1);
            assert_eq!(number(next), number(one).wrapping_add(1));
            assert_eq!(time(next), time(one).wrapping_add(160));
            assert_eq!(next[8..12], one[8..12]);
            assert_eq!(next[12], one[12].wrapping_add(1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_more_than_there_is_time_for_is_cut_short() {
        let format = SpeechFormat {
            law: Law::Alaw,
            rate: 8_000,
        };
        let mut stream = Stream::new(format, 8);
        let mut said = (0..).map(|number: u16| SpeechPacket {
            codec: Codec::Pcma,
            sequence: number,
            timestamp: u32::from(number) * 160,
            payload: vec![1; 160].into(),
        });
        let mut packets = |stream: &mut Stream, count: usize| -> usize {
            let said = said.by_ref().take(count);
            said.map(|said| stream.packets(&said).len()).sum()
        };
        assert_eq!(packets(&mut stream, 500), 101);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(packets(&mut stream, 500), 50);
        for _ in 0..100 {
            tokio::time::advance(Duration::from_millis(20)).await;
            assert_eq!(packets(&mut stream, 1), 1);
        }
    }

    #[tokio::test]
    async fn a_camera_that_refuses_is_told_from_one_that_has_none() {
        for (status, verdict) in [
            ("551 Option not supported", Verdict::NoBackChannel),
            ("400 Bad Request", Verdict::NoBackChannel),
            ("403 Forbidden", Verdict::BackChannelFailed),
            ("453 Not Enough Bandwidth", Verdict::BackChannelFailed),
        ] {
            let (listener, camera) = camera_with("").await;
            let acting = async { act(listener.accept().await.unwrap().0, status).await };
            let (asked, got) = tokio::join!(camera.ask_for_back_channel(), acting);
            let told = asked.unwrap_err();
            assert_eq!(told.diagnosis.verdict, verdict, "{}", told.sentence);
            let evidence = told.diagnosis.evidence();
            assert_eq!(evidence, Some(&*format!("RTSP/1.0 {status}")));
            assert_eq!(got.requests.len(), 1);
        }
        let (listener, camera) = camera_with("").await;
        let acting = async { act(listener.accept().await.unwrap().0, "200 OK").await };
        let (asked, got) = tokio::join!(camera.ask_for_back_channel(), acting);
        assert_eq!((asked.unwrap().law, got.requests.len()), (Law::Alaw, 1));
        let (_listener, camera) = camera_with("#backchannel=0").await;
        let told = camera.ask_for_back_channel().await.unwrap_err();
        assert_eq!(told.diagnosis.verdict, Verdict::NoBackChannel);
    }
}
