//! Whether an SDP answers an offer, by the rules that browsers apply.

use std::collections::BTreeSet;

/// The lines of a session description: those above the first `m=`, then those of each section.
#[derive(Debug)]
pub(super) struct Description<'a> {
    session: Vec<&'a str>,
    sections: Vec<Section<'a>>,
}

#[derive(Debug)]
struct Section<'a> {
    kind: &'a str,
    port: &'a str,
    formats: BTreeSet<&'a str>,
    lines: Vec<&'a str>,
}

impl<'a> Description<'a> {
    pub(super) fn parse(sdp: &'a str) -> Self {
        let mut session = Vec::new();
        let mut sections = Vec::<Section<'_>>::new();
        for line in sdp
            .lines()
            .map(str::trim_end)
            .filter(|line| !line.is_empty())
        {
            if let Some(media) = line.strip_prefix("m=") {
                let mut words = media.split_whitespace();
                sections.push(Section {
                    kind: words.next().unwrap_or_default(),
                    port: words.next().unwrap_or_default(),
                    formats: words.skip(1).collect(),
                    lines: Vec::new(),
                });
            } else if let Some(section) = sections.last_mut() {
                section.lines.push(line);
            } else {
                session.push(line);
            }
        }
        Self { session, sections }
    }

    /// The kinds of the sections that will carry media from us.
    pub(super) fn sent(&self) -> Vec<&'a str> {
        let sent = self
            .sections
            .iter()
            .filter(|section| section.is_accepted() && section.lines.contains(&"a=sendonly"));
        sent.map(|section| section.kind).collect()
    }

    fn bundled(&self) -> Option<BTreeSet<&'a str>> {
        let group = value(&self.session, "a=group:BUNDLE")?;
        Some(group.split_whitespace().collect())
    }

    /// An attribute of a section, or of the session where it holds for all sections.
    fn attribute(&self, section: &Section<'a>, start: &str) -> Option<&'a str> {
        value(&section.lines, start).or_else(|| value(&self.session, start))
    }
}

impl<'a> Section<'a> {
    fn is_accepted(&self) -> bool {
        self.port != "0"
    }

    /// Codec name, clock rate and channels of a payload type, in lower case.
    fn codec(&self, payload_type: &str) -> Option<String> {
        let map = value(&self.lines, &format!("a=rtpmap:{payload_type} "))?;
        Some(map.trim().to_lowercase())
    }

    fn extensions(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.lines.iter().filter_map(|line| {
            let (id, name) = line.strip_prefix("a=extmap:")?.split_once(' ')?;
            let id = id.split_once('/').map_or(id, |(id, _direction)| id);
            Some((id, name.split(' ').next().unwrap_or_default()))
        })
    }
}

fn value<'a>(lines: &[&'a str], start: &str) -> Option<&'a str> {
    lines.iter().find_map(|line| line.strip_prefix(start))
}

/// Everything that is wrong with `answer` to `offer`; nothing if it is valid.
pub(super) fn faults(offer: &str, answer: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if !answer.starts_with("v=0\r\n") || answer.replace("\r\n", "").contains(['\r', '\n']) {
        faults.push("lines do not end with CR LF, or the first is not v=0".to_owned());
    }
    let offer = Description::parse(offer);
    let answer = Description::parse(answer);
    let kinds = |description: &Description<'_>| {
        let kinds = description
            .sections
            .iter()
            .map(|section| section.kind.to_owned());
        kinds.collect::<Vec<_>>()
    };
    if kinds(&offer) != kinds(&answer) {
        faults.push(format!(
            "sections {:?} for {:?}",
            kinds(&answer),
            kinds(&offer)
        ));
        return faults;
    }
    faults.extend(group_faults(&offer, &answer));
    for (number, (asked, given)) in offer.sections.iter().zip(&answer.sections).enumerate() {
        let mut fault = |what: String| faults.push(format!("section {number}: {what}"));
        let mids = [asked, given].map(|section| value(&section.lines, "a=mid:"));
        if mids[0] != mids[1] {
            fault(format!("mid {:?} for {:?}", mids[1], mids[0]));
        }
        if !given.is_accepted() {
            continue;
        }
        if !asked.is_accepted() && !asked.lines.contains(&"a=bundle-only") {
            fault("was not offered, yet accepted".to_owned());
        }
        transport_faults(&offer, asked, &answer, given)
            .into_iter()
            .for_each(&mut fault);
        if given.kind != "application" {
            media_faults(&offer, asked, given)
                .into_iter()
                .for_each(&mut fault);
        }
    }
    if !answer
        .sections
        .iter()
        .any(|section| value(&section.lines, "a=candidate:").is_some())
    {
        faults.push("no candidate".to_owned());
    }
    faults
}

/// [RFC 9143 §7.3]: only what was offered together and is accepted stays together.
fn group_faults(offer: &Description<'_>, answer: &Description<'_>) -> Vec<String> {
    let Some(group) = answer.bundled() else {
        return Vec::new();
    };
    let offered = offer.bundled().unwrap_or_default();
    let accepted = answer
        .sections
        .iter()
        .filter(|section| section.is_accepted());
    let accepted = accepted.filter_map(|section| value(&section.lines, "a=mid:"));
    let accepted = accepted.collect::<BTreeSet<_>>();
    let strange = group
        .iter()
        .filter(|mid| !offered.contains(*mid) || !accepted.contains(*mid));
    strange
        .map(|mid| format!("{mid:?} in the BUNDLE group"))
        .collect()
}

/// What ICE and DTLS need.
fn transport_faults<'a>(
    offer: &Description<'a>,
    asked: &Section<'a>,
    answer: &Description<'a>,
    given: &Section<'a>,
) -> Vec<String> {
    let mut faults = Vec::new();
    for (start, length) in [
        ("a=ice-ufrag:", 4),
        ("a=ice-pwd:", 22),
        ("a=fingerprint:sha-256 ", 95),
    ] {
        let found = answer.attribute(given, start).unwrap_or_default();
        if found.len() < length {
            faults.push(format!("{start}{found}"));
        }
    }
    let role = answer.attribute(given, "a=setup:");
    let possible: &[&str] = match offer.attribute(asked, "a=setup:") {
        Some("active") => &["passive"],
        Some("passive") => &["active"],
        _ => &["active", "passive"],
    };
    if !role.is_some_and(|role| possible.contains(&role)) {
        faults.push(format!("setup {role:?}"));
    }
    let together = answer.bundled().unwrap_or_default();
    let mid = value(&given.lines, "a=mid:").unwrap_or_default();
    if !together.contains(mid) && value(&given.lines, "a=candidate:").is_none() {
        faults.push("no candidate outside of the BUNDLE group".to_owned());
    }
    faults
}

/// [RFC 3264 §6.1]: directions mirror, and payload types mean what the offer says.
fn media_faults(offer: &Description<'_>, asked: &Section<'_>, given: &Section<'_>) -> Vec<String> {
    let mut faults = Vec::new();
    let directions = ["a=sendrecv", "a=sendonly", "a=recvonly", "a=inactive"];
    let direction = |lines: &[&str]| {
        let found = lines
            .iter()
            .find_map(|line| directions.iter().find(|name| *name == line));
        found.copied()
    };
    let wanted = direction(&asked.lines).or_else(|| direction(&offer.session));
    let sends = match direction(&given.lines) {
        Some("a=sendonly") => true,
        Some("a=inactive") => false,
        other => {
            faults.push(format!("direction {other:?}"));
            false
        }
    };
    if sends && matches!(wanted, Some("a=sendonly" | "a=inactive")) {
        faults.push(format!("sends although the offer is {wanted:?}"));
    }
    if given.formats.is_empty() {
        faults.push("no payload type".to_owned());
    }
    for &format in &given.formats {
        if !asked.formats.contains(format) {
            faults.push(format!("payload type {format} was not offered"));
        } else if let (Some(ours), Some(theirs)) = (given.codec(format), asked.codec(format))
            // A channel count of one may be left out.
            && ours.trim_end_matches("/1") != theirs.trim_end_matches("/1")
        {
            faults.push(format!("payload type {format} is {theirs}, not {ours}"));
        }
    }
    for (id, name) in given.extensions() {
        if !asked.extensions().any(|offered| offered == (id, name)) {
            faults.push(format!("header extension {id} {name} was not offered"));
        }
    }
    faults
}

/// A valid answer to [`integration_tests::offer::probe`] with sound refused.
fn example() -> String {
    let transport = format!(
        "c=IN IP4 0.0.0.0\r\na=setup:passive\r\na=ice-ufrag:abcd\r\n\
         a=ice-pwd:0123456789012345678901\r\na=fingerprint:sha-256 {}\r\n",
        ["0A"; 32].join(":")
    );
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 1 2\r\n\
         m=audio 0 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na=inactive\r\n\
         m=video 9 UDP/TLS/RTP/SAVPF 98\r\n{transport}a=mid:1\r\na=sendonly\r\n\
         a=rtpmap:98 H264/90000\r\na=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n\
         m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n{transport}a=mid:2\r\n"
    )
}

#[test]
fn a_valid_answer_has_no_fault() {
    let answer = example();
    let found = faults(&integration_tests::offer::probe(), &answer);
    assert_eq!(found, Vec::<String>::new());
    assert_eq!(Description::parse(&answer).sent(), ["video"]);
}

#[test]
fn every_spoiled_answer_has_a_fault() {
    for (good, bad) in [
        ("v=0\r\n", "v=0\n"),
        ("m=audio", "m=video"),
        ("a=mid:1\r\n", "a=mid:video\r\n"),
        ("BUNDLE 1 2", "BUNDLE 0 1 2"),
        ("BUNDLE 1 2", "BUNDLE 1 2 3"),
        ("BUNDLE 1 2", "BUNDLE 1"),
        ("a=sendonly", "a=recvonly"),
        ("a=sendonly\r\n", ""),
        ("a=setup:passive", "a=setup:actpass"),
        ("a=ice-ufrag:abcd\r\n", ""),
        ("a=ice-pwd:0123", "a=ice-pwd:"),
        ("fingerprint:sha-256", "fingerprint:md5"),
        ("a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n", ""),
        ("SAVPF 98", "SAVPF 97"),
        ("SAVPF 98", "SAVPF"),
        ("a=rtpmap:98 H264/90000", "a=rtpmap:98 VP8/90000"),
        (
            "a=sendonly",
            "a=sendonly\r\na=extmap:1 urn:ietf:params:rtp-hdrext:toffset",
        ),
    ] {
        let answer = example().replace(good, bad);
        let found = faults(&integration_tests::offer::probe(), &answer);
        assert!(!found.is_empty(), "{good:?} as {bad:?}");
    }
}

#[test]
fn an_answer_sends_only_to_who_receives() {
    for (direction, valid) in [
        ("a=sendrecv", true),
        ("a=sendonly", false),
        ("a=inactive", false),
    ] {
        let offer = integration_tests::offer::probe().replace("a=recvonly", direction);
        assert_eq!(faults(&offer, &example()).is_empty(), valid, "{direction}");
    }
}
