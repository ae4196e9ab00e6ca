//! [`Offer`]: a browser's session description, read within limits.

use std::net::IpAddr;

use crate::{
    base::{Error, Verdict},
    media::{
        Kind,
        sdp::{Description, MediaSection},
    },
};

/// Longest offer, in bytes. Chromium with ten video sections writes 52 KB.
pub const OFFER_MAX: usize = 256 << 10;
const LINE_MAX: usize = 8 << 10;
const SECTIONS_MAX: usize = 64;
const FORMATS_MAX: usize = 128;
/// Candidates looked at; of these the usable ones are tried, [`CANDIDATES_USED`] at most.
const CANDIDATES_READ: usize = 100;
const CANDIDATES_USED: usize = 20;

/// A browser's offer that is worth an answer.
#[derive(Debug, Clone)]
pub struct Offer {
    description: Description,
    bundle: Vec<String>,
}

/// What ICE and DTLS need to know of the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transport {
    /// `a=ice-ufrag`.
    pub ufrag: String,
    /// `a=ice-pwd`.
    pub password: String,
    /// The `a=fingerprint` with SHA-256, hash name and value.
    pub fingerprint: String,
    /// Candidate lines (without `a=`) that can be tried.
    pub candidates: Vec<String>,
    /// Whether the other side leaves checks and nominations to us ([RFC 8445 §2.5]).
    ///
    /// [RFC 8445 §2.5]: https://datatracker.ietf.org/doc/html/rfc8445#section-2.5
    pub is_lite: bool,
}

impl Offer {
    /// Reads an offer.
    ///
    /// # Errors
    /// `InvalidArgument`, with a sentence for whoever wrote the client, when it is no session
    /// description, larger than any browser's, an answer, or without media.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let invalid = |what: String| Error::new(Verdict::BadOffer, what);
        if text.trim().is_empty() {
            return Err(invalid("the SDP offer is empty".to_owned()));
        }
        if text.len() > OFFER_MAX {
            return Err(invalid(format!(
                "the SDP offer has more than {} KiB",
                OFFER_MAX >> 10
            )));
        }
        if text.lines().any(|line| line.len() > LINE_MAX) {
            return Err(invalid(format!(
                "a line of the SDP offer has more than {LINE_MAX} bytes"
            )));
        }
        let description = Description::parse(text);
        if description.media.is_empty() {
            return Err(invalid(
                "the SDP offer has no media sections (m= lines); add a transceiver for video \
                 before making it"
                    .to_owned(),
            ));
        }
        if description.media.len() > SECTIONS_MAX
            || description
                .media
                .iter()
                .any(|m| m.formats.len() > FORMATS_MAX)
        {
            return Err(invalid(format!(
                "the SDP offer has more than {SECTIONS_MAX} media sections or {FORMATS_MAX} \
                 formats in one"
            )));
        }
        // A section that cannot be read would be missing in the answer, and all after it misplaced.
        let written = text
            .split(['\n', '\r'])
            .filter(|line| line.starts_with("m="));
        if written.count() != description.media.len() {
            return Err(invalid(
                "an m= line of the SDP offer cannot be read".to_owned(),
            ));
        }
        let offer = Self {
            bundle: bundle(&description),
            description,
        };
        offer.refuse_answers()?;
        Ok(offer)
    }

    /// Its media sections, in order.
    #[must_use]
    pub fn sections(&self) -> &[MediaSection] {
        &self.description.media
    }

    /// Whether section number `index` shares the transport of the first section of the group.
    #[must_use]
    pub fn is_bundled(&self, index: usize) -> bool {
        let mid = self.sections()[index].attributes.get("mid");
        mid.is_some_and(|mid| self.bundle.iter().any(|bundled| bundled == mid))
    }

    /// Whether section number `index` wants to receive media by secure RTP on one port.
    #[must_use]
    pub fn receives(&self, index: usize, kind: Kind) -> bool {
        let attributes = &self.sections()[index].attributes;
        self.carries(index, kind) && !attributes.has("sendonly") && !attributes.has("inactive")
    }

    /// Whether section number `index` would send media that way.
    #[must_use]
    pub fn sends(&self, index: usize, kind: Kind) -> bool {
        let attributes = &self.sections()[index].attributes;
        self.carries(index, kind) && !attributes.has("recvonly") && !attributes.has("inactive")
    }

    fn carries(&self, index: usize, kind: Kind) -> bool {
        let section = &self.sections()[index];
        section.media == kind.name()
            && (section.port != 0 || section.attributes.has("bundle-only"))
            && section.protocol.contains("RTP/SAVP")
            && section.attributes.has("rtcp-mux")
    }

    /// An attribute of a section, or else of the session.
    #[must_use]
    pub fn attribute(&self, index: usize, name: &str) -> Option<&str> {
        self.sections()[index]
            .attributes
            .get(name)
            .or_else(|| self.description.session.get(name))
    }

    /// The transport of section number `index`, with candidates from all sections: Home Assistant's
    /// frontend appends them to the last one.
    ///
    /// Candidates that this server must not or cannot try are left out: TCP, host names, addresses
    /// of nobody, and this machine's own unless `client` is on it.
    ///
    /// # Errors
    /// `InvalidArgument` when ICE credentials or the fingerprint are missing.
    pub fn transport(&self, index: usize, client: Option<IpAddr>) -> Result<Transport, Error> {
        let required = |name: &str| {
            self.attribute(index, name)
                .filter(|value| !value.is_empty())
                .map(str::to_owned)
                .ok_or_else(|| {
                    Error::new(
                        Verdict::BadOffer,
                        format!("the SDP offer has no a={name}; a WebRTC client writes one"),
                    )
                })
        };
        let section = &self.sections()[index].attributes;
        let fingerprint = section
            .all("fingerprint")
            .chain(self.description.session.all("fingerprint"))
            .find(|value| value.to_ascii_lowercase().starts_with("sha-256 "))
            .ok_or_else(|| {
                Error::new(
                    Verdict::BadOffer,
                    "the SDP offer has no a=fingerprint with sha-256; a WebRTC client writes one",
                )
            })?;
        let on_this_machine = client.is_some_and(|ip| ip.is_loopback());
        let candidates = self
            .sections()
            .iter()
            .flat_map(|section| section.attributes.all("candidate"))
            .chain(self.description.session.all("candidate"))
            .take(CANDIDATES_READ)
            .filter_map(|candidate| usable(candidate, on_this_machine))
            .take(CANDIDATES_USED)
            .collect();
        Ok(Transport {
            ufrag: required("ice-ufrag")?,
            password: required("ice-pwd")?,
            fingerprint: fingerprint.to_owned(),
            candidates,
            is_lite: self.description.session.has("ice-lite"),
        })
    }

    /// RFC 8842 §5.2: an offer leaves the choice of roles to the answer. Nobody else's does.
    fn refuse_answers(&self) -> Result<(), Error> {
        let mut roles = (0..self.sections().len())
            .filter_map(|index| self.attribute(index, "setup"))
            .peekable();
        if roles.peek().is_some() && roles.all(|role| matches!(role, "active" | "passive")) {
            return Err(Error::new(
                Verdict::BadOffer,
                "this is an SDP answer (a=setup is not actpass); send the offer of the browser",
            ));
        }
        Ok(())
    }
}

/// The identifiers of the first BUNDLE group (RFC 9143).
fn bundle(description: &Description) -> Vec<String> {
    let mut groups = description.session.all("group");
    let group = groups.find_map(|group| group.strip_prefix("BUNDLE"));
    group
        .unwrap_or_default()
        .split_ascii_whitespace()
        .map(str::to_owned)
        .collect()
}

/// A candidate line (RFC 8839 §5.1) in plain form, if it names a UDP address that may be tried. What
/// else it says, the engine might stumble over.
pub(super) fn usable(candidate: &str, on_this_machine: bool) -> Option<String> {
    let words: Vec<_> = candidate.split_ascii_whitespace().collect();
    let [
        foundation,
        "1",
        protocol,
        priority,
        address,
        port,
        "typ",
        kind,
        ..,
    ] = words[..]
    else {
        return None;
    };
    let address = address.parse::<IpAddr>().ok()?.to_canonical();
    let port = port.parse::<u16>().ok().filter(|port| *port != 0)?;
    let priority: u32 = priority.parse().ok()?;
    // Link-local addresses include the metadata services of clouds.
    let somewhere = match address {
        IpAddr::V4(ip) => {
            let first = ip.octets()[0];
            !(first == 0 || first >= 224 || ip.is_link_local())
        }
        IpAddr::V6(ip) => !(ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local()),
    };
    let usable = protocol.eq_ignore_ascii_case("udp")
        && foundation.chars().all(|c| c.is_ascii_graphic())
        && somewhere
        && (on_this_machine || !address.is_loopback());
    let related = match kind {
        "host" => "",
        // Where it is seen from inside is nobody's business; the grammar wants the words.
        "srflx" | "prflx" | "relay" => " raddr 0.0.0.0 rport 9",
        _ => return None,
    };
    usable.then(|| format!("{foundation} 1 udp {priority} {address} {port} typ {kind}{related}"))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::base::ErrorKind;

    /// An offer with `sections`, each `media formats` and further lines, all in one group.
    pub(crate) fn offer_of(sections: &[(&str, &str)]) -> String {
        let mids: Vec<_> = (0..sections.len()).map(|mid| mid.to_string()).collect();
        let mut text = format!(
            "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\n",
            mids.join(" ")
        );
        for (mid, (media, lines)) in sections.iter().enumerate() {
            let (media, formats) = media.split_once(' ').unwrap();
            let protocol = if media == "application" {
                "UDP/DTLS/SCTP"
            } else {
                "UDP/TLS/RTP/SAVPF"
            };
            let _ = write!(
                text,
                "m={media} 9 {protocol} {formats}\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n\
                 a=fingerprint:sha-256 00:11\r\na=setup:actpass\r\na=mid:{mid}\r\na=rtcp-mux\r\n"
            );
            for line in lines.split('|').filter(|line| !line.is_empty()) {
                let _ = write!(text, "{line}\r\n");
            }
        }
        text
    }

    fn refused(text: &str) -> String {
        let error = Offer::parse(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        error.to_string()
    }

    #[test]
    fn what_is_no_offer_is_refused_with_a_reason() {
        assert!(refused("").contains("empty"));
        assert!(refused("hello").contains("no media sections"));
        assert!(refused("m=video 9 UDP/TLS/RTP/SAVPF 96\r\nm=audio\r\n").contains("m= line"));
        let answer = offer_of(&[("video 96", "")]).replace("actpass", "active");
        assert!(refused(&answer).contains("answer"));
        assert!(refused(&"m=video 9 UDP/TLS/RTP/SAVPF 96\r\n".repeat(65)).contains("64 media"));
        assert!(refused(&format!("a={}", "x".repeat(9_000))).contains("line"));
    }

    #[test]
    fn candidates_are_collected_from_everywhere_and_sorted_out() {
        let text = offer_of(&[
            ("video 96", "a=candidate:1 1 udp 1 192.0.2.1 5000 typ host"),
            (
                "audio 0",
                "a=candidate:2 1 udp 1 x.local 5000 typ host|a=candidate:3 1 tcp 1 192.0.2.1 9 typ host\
                 |a=[object RTCIceCandidate]|a=candidate:|a=candidate:4 1 UDP 1 127.0.0.1 5000 typ host\
                 |a=candidate:5 1 udp 1 169.254.169.254 80 typ host|a=candidate:6 1 udp 1 0.0.0.0 1 typ host\
                 |a=candidate:7 1 udp 1 2001:db8::1 5001 typ srflx|a=candidate:8 1 udp x 192.0.2.1 1 typ host\
                 |a=candidate:9 1 udp 1 ::ffff:169.254.169.254 1 typ host|a=candidate:0 1 udp 1 192.0.2.1 1 typ odd",
            ),
        ]);
        let offer = Offer::parse(&text).unwrap();
        let numbers = |client: Option<IpAddr>| {
            let transport = offer.transport(0, client).unwrap();
            transport
                .candidates
                .iter()
                .map(|c| c.as_bytes()[0])
                .collect::<Vec<_>>()
        };
        assert_eq!(numbers(None), b"17");
        assert_eq!(numbers(Some("127.0.0.1".parse().unwrap())), b"147");
    }

    #[test]
    fn a_transport_without_credentials_is_refused() {
        let text = offer_of(&[("video 96", "")]);
        for line in [
            "a=ice-ufrag:abcd",
            "a=ice-pwd:abcdefghijklmnopqrstuvwx",
            "a=fingerprint:sha-256 00:11",
        ] {
            let offer = Offer::parse(&text.replace(line, "a=x")).unwrap();
            assert!(offer.transport(0, None).is_err(), "{line}");
        }
    }

    #[test]
    fn directions_and_ports_decide_who_receives() {
        let offer = Offer::parse(&offer_of(&[
            ("video 96", "a=recvonly"),
            ("video 96", "a=sendonly"),
            ("video 96", "a=inactive"),
            ("video 96", ""),
        ]))
        .unwrap();
        let receives: Vec<_> = (0..4).map(|i| offer.receives(i, Kind::Video)).collect();
        assert_eq!(receives, [true, false, false, true]);
        let sends: Vec<_> = (0..4).map(|i| offer.sends(i, Kind::Video)).collect();
        assert_eq!(sends, [false, true, false, true]);
        assert!(offer.is_bundled(3) && !offer.receives(0, Kind::Audio));
    }
}
