//! Session descriptions that we write: the answer for the browser.

use std::fmt::Write as _;

use crate::webrtc::{
    Offer, Plan,
    extension::{ABS_SEND_TIME, AUDIO_LEVEL, PLAYOUT_DELAY, TRANSPORT_SEQUENCE},
    hearing::Hearing,
    lane::Lane,
    negotiate::{SectionPlan, Sending},
};

/// Our side of the transport.
#[derive(Debug, Clone, Default)]
pub struct LocalTransport {
    /// `a=ice-ufrag`.
    pub ufrag: String,
    /// `a=ice-pwd`.
    pub password: String,
    /// Hash name and value of our certificate.
    pub fingerprint: String,
    /// Values of `a=candidate`.
    pub candidates: Vec<String>,
}

/// The name under which all tracks of one viewer belong together: the browser keeps sound and
/// picture of one stream in step.
pub const STREAM: &str = "porthole";

/// The streams of a sent section.
#[derive(Debug, Clone, Copy)]
pub struct Streams {
    /// Of the media.
    pub media: u32,
    /// Of packets that are sent again.
    pub rtx: Option<u32>,
}

impl From<&Lane> for Streams {
    fn from(lane: &Lane) -> Self {
        Self {
            media: lane.ssrc,
            rtx: lane.rtx_ssrc(),
        }
    }
}

/// Writes the answer to `offer` that `plan` describes. `streams` are of the sent sections, in order.
#[must_use]
pub fn write(offer: &Offer, plan: &Plan, local: &LocalTransport, streams: &[Streams]) -> String {
    let mids: Vec<_> = plan
        .sections
        .iter()
        .enumerate()
        .filter(|(index, section)| **section != SectionPlan::Refused && offer.is_bundled(*index))
        .filter_map(|(index, _)| offer.sections()[index].attributes.get("mid"))
        .collect();
    let session: u64 = rand::random::<u64>() >> 1;
    let mut text = format!("v=0\r\no=- {session} 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n");
    if !mids.is_empty() {
        line(&mut text, format_args!("a=group:BUNDLE {}", mids.join(" ")));
    }
    line(&mut text, format_args!("a=msid-semantic: WMS {STREAM}"));
    let mut streams = streams.iter();
    let first = plan.first();
    for (index, section) in plan.sections.iter().enumerate() {
        let offered = &offer.sections()[index];
        let hearing = plan.hearing.as_ref().filter(|h| h.section == index);
        let (port, format) = match section {
            SectionPlan::Send(sending) => {
                let rtx = sending.rtx.map_or(String::new(), |rtx| format!(" {rtx}"));
                let sent = sending.payload_type;
                let types = hearing.map_or(sent.to_string(), |hearing| hearing.types(Some(sent)));
                (9, format!("{types}{rtx}"))
            }
            SectionPlan::Hear => (
                9,
                hearing.map_or(String::new(), |hearing| hearing.types(None)),
            ),
            SectionPlan::Data => (9, "webrtc-datachannel".to_owned()),
            SectionPlan::Refused => (
                0,
                offered
                    .formats
                    .first()
                    .cloned()
                    .unwrap_or_else(|| "0".to_owned()),
            ),
        };
        line(
            &mut text,
            format_args!("m={} {port} {} {format}", offered.media, offered.protocol),
        );
        line(&mut text, format_args!("c=IN IP4 0.0.0.0"));
        if let Some(mid) = offered.attributes.get("mid") {
            line(&mut text, format_args!("a=mid:{mid}"));
        }
        if *section == SectionPlan::Refused {
            line(&mut text, format_args!("a=inactive"));
            continue;
        }
        transport(&mut text, local, index == first);
        let reduced_size = offered.attributes.has("rtcp-rsize");
        match section {
            SectionPlan::Send(sending) => {
                if let Some(streams) = streams.next() {
                    direction(
                        &mut text,
                        if hearing.is_some() {
                            "sendrecv"
                        } else {
                            "sendonly"
                        },
                        reduced_size,
                    );
                    heard(&mut text, hearing, Some(sending.payload_type));
                    media(&mut text, sending, *streams);
                }
            }
            SectionPlan::Hear => {
                direction(&mut text, "recvonly", reduced_size);
                heard(&mut text, hearing, None);
            }
            SectionPlan::Data => {
                line(&mut text, format_args!("a=sctp-port:5000"));
                line(&mut text, format_args!("a=max-message-size:65536"));
            }
            SectionPlan::Refused => {}
        }
    }
    text
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = write!(text, "{content}\r\n");
}

fn transport(text: &mut String, local: &LocalTransport, with_candidates: bool) {
    line(text, format_args!("a=ice-ufrag:{}", local.ufrag));
    line(text, format_args!("a=ice-pwd:{}", local.password));
    line(text, format_args!("a=ice-options:trickle"));
    line(text, format_args!("a=fingerprint:{}", local.fingerprint));
    // The browser begins: it is the one that knows when it has the answer (RFC 8842 §5.3).
    line(text, format_args!("a=setup:passive"));
    // RFC 9143 §9.2: candidates belong to the first section of the group.
    if with_candidates {
        for candidate in &local.candidates {
            line(text, format_args!("a=candidate:{candidate}"));
        }
        line(text, format_args!("a=end-of-candidates"));
    }
}

fn direction(text: &mut String, direction: &str, reduced_size: bool) {
    line(text, format_args!("a={direction}"));
    line(text, format_args!("a=rtcp-mux"));
    if reduced_size {
        line(text, format_args!("a=rtcp-rsize"));
    }
}

/// What we take as speech, but for the format that is sent, too, and has its lines there.
fn heard(text: &mut String, hearing: Option<&Hearing>, sent: Option<u8>) {
    let Some(hearing) = hearing else { return };
    for format in &hearing.formats {
        let number = format.payload_type;
        if Some(number) == sent {
            continue;
        }
        line(text, format_args!("a=rtpmap:{number} {}", format.rtpmap));
        if !format.fmtp.is_empty() {
            line(text, format_args!("a=fmtp:{number} {}", format.fmtp));
        }
    }
    if let Some(id) = hearing.level {
        line(text, format_args!("a=extmap:{id} {AUDIO_LEVEL}"));
    }
}

fn media(text: &mut String, sending: &Sending, streams: Streams) {
    let format = sending.payload_type;
    line(text, format_args!("a=rtpmap:{format} {}", sending.rtpmap));
    if !sending.fmtp.is_empty() {
        line(text, format_args!("a=fmtp:{format} {}", sending.fmtp));
    }
    for feedback in &sending.feedback {
        line(text, format_args!("a=rtcp-fb:{format} {feedback}"));
    }
    if let Some(rtx) = sending.rtx {
        let rate = sending.rtpmap.split('/').nth(1).unwrap_or("90000");
        line(text, format_args!("a=rtpmap:{rtx} rtx/{rate}"));
        line(text, format_args!("a=fmtp:{rtx} apt={format}"));
    }
    let extensions = [
        (sending.extensions.abs_send_time, ABS_SEND_TIME),
        (sending.extensions.transport_sequence, TRANSPORT_SEQUENCE),
        (sending.extensions.playout_delay, PLAYOUT_DELAY),
    ];
    for (id, uri) in extensions {
        if let Some(id) = id {
            line(text, format_args!("a=extmap:{id} {uri}"));
        }
    }
    let kind = sending.track.kind().name();
    line(text, format_args!("a=msid:{STREAM} {kind}"));
    if let Some(rtx) = streams.rtx {
        line(
            text,
            format_args!("a=ssrc-group:FID {} {rtx}", streams.media),
        );
    }
    for ssrc in std::iter::once(streams.media).chain(streams.rtx) {
        line(text, format_args!("a=ssrc:{ssrc} cname:{STREAM}"));
        line(text, format_args!("a=ssrc:{ssrc} msid:{STREAM} {kind}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hub::Tracks,
        media::{Codec, Track, TrackId, sdp::Description},
        webrtc::{negotiate::negotiate, offer::tests::offer_of},
    };

    #[test]
    fn an_answer_mirrors_the_offer_and_refuses_with_port_zero() {
        let offer = offer_of(&[
            ("audio 111", "a=rtpmap:111 opus/48000/2"),
            (
                "video 98 99",
                "a=rtpmap:98 H264/90000|a=fmtp:98 packetization-mode=1|a=rtcp-rsize|a=rtcp-fb:98 nack\
                 |a=rtpmap:99 rtx/90000|a=fmtp:99 apt=98",
            ),
            ("application webrtc-datachannel", ""),
        ]);
        let offer = Offer::parse(&offer).unwrap();
        let tracks = Tracks {
            usable: vec![Track {
                id: TrackId(0),
                codec: Codec::H264(None),
            }],
            ..Tracks::default()
        };
        let plan = negotiate(&tracks, &offer).unwrap();
        let local = LocalTransport {
            candidates: vec!["1 1 udp 1 192.0.2.9 1 typ host".to_owned()],
            ..LocalTransport::default()
        };
        let streams = Streams {
            media: 7,
            rtx: Some(8),
        };
        let text = write(&offer, &plan, &local, &[streams]);
        assert!(text.starts_with("v=0\r\n") && text.ends_with("\r\n"));
        assert!(!text.replace("\r\n", "").contains('\n'));
        let answer = Description::parse(&text);
        let ports: Vec<_> = answer
            .media
            .iter()
            .map(|m| (m.media.as_str(), m.port))
            .collect();
        assert_eq!(ports, [("audio", 0), ("video", 9), ("application", 9)]);
        assert_eq!(answer.session.get("group"), Some("BUNDLE 1 2"));
        let video = &answer.media[1].attributes;
        for name in [
            "candidate",
            "sendonly",
            "rtcp-mux",
            "rtcp-rsize",
            "msid",
            "end-of-candidates",
        ] {
            assert!(video.has(name), "{name} in {text}");
        }
        assert_eq!(video.get("setup"), Some("passive"));
        assert_eq!(video.get("ssrc"), Some("7 cname:porthole"));
        assert_eq!(video.get("ssrc-group"), Some("FID 7 8"));
        assert_eq!(answer.media[1].formats, ["98", "99"]);
        assert!(!answer.media[2].attributes.has("candidate"));
        assert!(!answer.media[0].attributes.has("ice-ufrag"));
    }
}
