//! [`Fragment`]: the part of a session description that changes while ICE works ([RFC 8840 §9]).
//!
//! [RFC 8840 §9]: https://datatracker.ietf.org/doc/html/rfc8840#section-9

use std::fmt::Write as _;

use crate::{
    base::{Error, ErrorKind},
    media::sdp::Description,
    webrtc::ice::Credentials,
};

/// Candidates that are read of one fragment.
const CANDIDATES_MAX: usize = 64;
/// Sections that an answer to one tells of.
const SECTIONS_MAX: usize = 8;

/// What a player sends after its offer.
#[derive(Debug)]
pub(super) struct Fragment {
    /// `a=ice-ufrag`, of the session or else of the first section that has one.
    pub(super) ufrag: Option<String>,
    password: Option<String>,
    /// Candidate lines without `a=`, some of which cannot be tried.
    pub(super) candidates: Vec<String>,
    /// Kind and identifier of each section.
    sections: Vec<(&'static str, String)>,
}

impl Fragment {
    /// Reads a fragment.
    ///
    /// # Errors
    /// `InvalidArgument` when it is none, or says nothing of ICE.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let mut lines = text.split(['\r', '\n']).filter(|line| !line.is_empty());
        let is_line = |line: &str| matches!(line.as_bytes(), [b'a'..=b'z', b'=', _, ..]);
        if !lines.all(is_line) {
            return Err(broken("a line of it is not like a=name:value"));
        }
        let description = Description::parse(text);
        let written = text
            .split(['\r', '\n'])
            .filter(|line| line.starts_with("m="));
        if written.count() != description.media.len() {
            return Err(broken("an m= line of it cannot be read"));
        }
        let of_sections = description.media.iter().map(|section| &section.attributes);
        let levels: Vec<_> = std::iter::once(&description.session)
            .chain(of_sections)
            .collect();
        let named = levels.iter().find(|level| level.has("ice-ufrag"));
        let value = |name: &str| named.and_then(|level| level.get(name)).map(str::to_owned);
        let all = levels.iter().flat_map(|level| level.all("candidate"));
        let candidates: Vec<_> = all.map(str::to_owned).take(CANDIDATES_MAX).collect();
        let is_end = levels.iter().any(|level| level.has("end-of-candidates"));
        if named.is_none() && candidates.is_empty() && !is_end {
            return Err(broken("it has neither candidates nor credentials of ICE"));
        }
        let sections = description.media.iter().filter_map(|section| {
            let kinds = ["audio", "video", "application"].into_iter();
            let kind = kinds.into_iter().find(|kind| *kind == section.media)?;
            Some((kind, section.attributes.get("mid")?.to_owned()))
        });
        Ok(Self {
            ufrag: value("ice-ufrag"),
            password: value("ice-pwd"),
            candidates,
            sections: sections.take(SECTIONS_MAX).collect(),
        })
    }

    /// The credentials with which ICE begins anew ([RFC 8839 §5.4]).
    ///
    /// [RFC 8839 §5.4]: https://datatracker.ietf.org/doc/html/rfc8839#section-5.4
    ///
    /// # Errors
    /// `InvalidArgument` when there is no password, or one of the two cannot be one.
    pub(super) fn credentials(&self) -> Result<Credentials, Error> {
        let usable = |text: &&String, least| {
            (least..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        let ufrag = self.ufrag.as_ref().filter(|text| usable(text, 4));
        let password = self.password.as_ref().filter(|text| usable(text, 22));
        let both = ufrag.cloned().zip(password.cloned());
        both.map(|(ufrag, password)| Credentials { ufrag, password })
            .ok_or_else(|| {
                broken(
                    "to begin ICE anew it needs a=ice-ufrag with 4 characters or more, and \
                     a=ice-pwd with 22 or more",
                )
            })
    }

    /// The answer to this fragment when ICE begins anew: ours, for the sections that it tells of.
    pub(super) fn answer(&self, local: &Credentials, candidates: &[String]) -> String {
        // What RFC 8840 §9 takes where there is no section, by the name of a browser's first.
        let stand_in = [("audio", "0".to_owned())];
        let sections = if self.sections.is_empty() {
            &stand_in[..]
        } else {
            &self.sections
        };
        let mut text = "a=ice-options:trickle\r\n".to_owned();
        if sections.len() > 1 {
            let mids: Vec<_> = sections.iter().map(|(_, mid)| mid.as_str()).collect();
            let _ = write!(text, "a=group:BUNDLE {}\r\n", mids.join(" "));
        }
        for (index, (kind, mid)) in sections.iter().enumerate() {
            let Credentials { ufrag, password } = local;
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "m={kind} 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:{mid}\r\na=ice-ufrag:{ufrag}\r\n\
                 a=ice-pwd:{password}\r\n"
            );
            // All are on one transport.
            for candidate in candidates.iter().filter(|_| index == 0) {
                let _ = write!(text, "a=candidate:{candidate}\r\n");
            }
            text.push_str("a=end-of-candidates\r\n");
        }
        text
    }
}

fn broken(what: &str) -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        format!("the fragment cannot be used: {what}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRICKLE: &str = "a=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n\
        a=ice-ufrag:pRb1\r\na=ice-pwd:probeprobeprobeprobe1234\r\n\
        a=candidate:1 1 udp 2122260223 192.0.2.10 40001 typ host generation 0 ufrag pRb1\r\n\
        a=end-of-candidates\r\n";

    #[test]
    fn a_fragment_is_read_with_its_credentials_anywhere() {
        let fragment = Fragment::parse(TRICKLE).unwrap();
        assert_eq!(fragment.ufrag.as_deref(), Some("pRb1"));
        assert_eq!(fragment.candidates.len(), 1);
        assert!(fragment.candidates[0].starts_with("1 1 udp 2122260223 192.0.2.10 40001"));
        assert_eq!(fragment.sections, [("audio", "0".to_owned())]);
        let of_session = "a=ice-ufrag:abcd\na=ice-pwd:abcdefghijklmnopqrstuvwx\nm=video 9 RTP/AVP 0\na=mid:v\n\
             a=ice-ufrag:efgh\n";
        let fragment = Fragment::parse(of_session).unwrap();
        assert_eq!(fragment.credentials().unwrap().ufrag, "abcd");
        // Small players send a candidate and nothing else.
        let bare = Fragment::parse("a=candidate:1 1 udp 1 192.0.2.1 9 typ host").unwrap();
        assert_eq!((bare.ufrag.is_none(), bare.candidates.len()), (true, 1));
        assert!(Fragment::parse("a=end-of-candidates\r\n").is_ok());
    }

    #[test]
    fn what_is_no_fragment_is_refused() {
        for broken in [
            "",
            "hello",
            "\r\n",
            "a=mid:0\r\n",
            "m=audio\r\na=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n",
            "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n{}\r\n",
            "A=ice-ufrag:abcd\r\n",
        ] {
            assert!(Fragment::parse(broken).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn credentials_that_cannot_be_are_refused() {
        for broken in [
            "a=ice-ufrag:abcd\n",
            "a=ice-ufrag:abc\na=ice-pwd:abcdefghijklmnopqrstuvwx\n",
            "a=ice-ufrag:abcd\na=ice-pwd:abcdefghijklmnopqrstu\n",
            "a=ice-ufrag:ab cd\na=ice-pwd:abcdefghijklmnopqrstuvwx\n",
            &format!("a=ice-ufrag:abcd\na=ice-pwd:{}\n", "x".repeat(257)),
        ] {
            let fragment = Fragment::parse(broken).unwrap();
            assert!(fragment.credentials().is_err(), "{broken:?}");
        }
    }

    #[test]
    fn candidates_are_read_up_to_a_limit() {
        let many = "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n".repeat(1_000);
        assert_eq!(
            Fragment::parse(&many).unwrap().candidates.len(),
            CANDIDATES_MAX
        );
    }

    #[test]
    fn an_answer_tells_of_the_same_sections() {
        let local = Credentials {
            ufrag: "ours".to_owned(),
            password: "secret".to_owned(),
        };
        let candidates = ["1 1 udp 1 192.0.2.9 8555 typ host".to_owned()];
        let two = format!("{TRICKLE}m=video 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:v1\r\n");
        let answer = Fragment::parse(&two).unwrap().answer(&local, &candidates);
        let read = Description::parse(&answer);
        assert_eq!(read.session.get("group"), Some("BUNDLE 0 v1"));
        let mids: Vec<_> = read.media.iter().map(|m| m.attributes.get("mid")).collect();
        assert_eq!(mids, [Some("0"), Some("v1")]);
        let having = |name: &str| read.media.iter().filter(|m| m.attributes.has(name)).count();
        let counts = ["ice-ufrag", "ice-pwd", "candidate", "end-of-candidates"].map(having);
        assert_eq!(counts, [2, 2, 1, 2], "{answer}");
        let bare = Fragment::parse("a=ice-ufrag:abcd\n").unwrap();
        let answer = bare.answer(&local, &candidates);
        assert!(
            answer.contains("\r\na=mid:0\r\na=ice-ufrag:ours\r\n"),
            "{answer}"
        );
    }
}
