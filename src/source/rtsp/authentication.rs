//! [`Authentication`]: what a camera demands, answered in the strongest way that it offers.
//!
//! Basic ([RFC 7617]) and Digest ([RFC 7616], and [RFC 2069] for cameras from before it) in all their
//! algorithms. Challenges are put in order first: cameras quote what must not be quoted, and the
//! reverse, and write names of algorithms in lower case.
//!
//! [RFC 7617]: https://datatracker.ietf.org/doc/html/rfc7617
//! [RFC 7616]: https://datatracker.ietf.org/doc/html/rfc7616
//! [RFC 2069]: https://datatracker.ietf.org/doc/html/rfc2069

use http_auth::{
    ChallengeRef, ParamValue, PasswordClient, PasswordParams,
    digest::{Algorithm, Qop},
};

use crate::base::Credentials;

/// Algorithms as [RFC 7616 §6.1] writes them, the strongest first.
///
/// [RFC 7616 §6.1]: https://datatracker.ietf.org/doc/html/rfc7616#section-6.1
const ALGORITHMS: [&str; 6] = [
    "SHA-512-256",
    "SHA-512-256-sess",
    "SHA-256",
    "SHA-256-sess",
    "MD5",
    "MD5-sess",
];

/// A challenge, ready to be answered again and again.
#[derive(Debug)]
pub(super) struct Authentication(PasswordClient);

impl Authentication {
    /// The strongest of the challenges in `header`, the values of all `WWW-Authenticate` headers with
    /// commas between; none if we can answer none.
    pub(super) fn strongest(header: &str) -> Option<Self> {
        let offered = split(header).into_iter().filter_map(client);
        // Of equals the first: a camera writes first what it likes best.
        let best = offered.min_by_key(|client| match client {
            PasswordClient::Digest(digest) => match digest.algorithm() {
                Algorithm::Md5 => 2,
                Algorithm::Sha256 => 1,
                _ => 0,
            },
            _ => 3,
        });
        best.map(Self)
    }

    /// Whether the camera says that the password was right, and only the nonce too old.
    pub(super) fn is_stale(&self) -> bool {
        matches!(&self.0, PasswordClient::Digest(digest) if digest.stale())
    }

    /// The value of `Authorization` for a request without a body; none if these credentials cannot be
    /// written.
    pub(super) fn respond(
        &mut self,
        credentials: &Credentials,
        method: &str,
        uri: &str,
    ) -> Option<String> {
        let mut parameters = PasswordParams {
            username: credentials.user.reveal(),
            password: credentials.password.reveal(),
            uri,
            method,
            body: None,
        };
        let mut algorithm = "";
        if let PasswordClient::Digest(digest) = &self.0 {
            if !(digest.qop() & Qop::Auth) {
                // It protects bodies and nothing less.
                parameters.body = Some(b"");
            }
            // The oldest form names no algorithm. With another than MD5 the camera has to be told.
            algorithm = match (digest.rfc2069_compat(), digest.algorithm()) {
                (true, Algorithm::Sha256) => ", algorithm=SHA-256",
                (true, Algorithm::Sha512Trunc256) => ", algorithm=SHA-512-256",
                _ => "",
            };
        }
        Some(self.0.respond(&parameters).ok()? + algorithm)
    }
}

/// The ways to prove a password that `header` offers, as people name them: `Digest SHA-256`, `Basic`.
pub(super) fn schemes(header: &str) -> Vec<String> {
    let name = |challenge: Challenge<'_>| {
        let Challenge { scheme, parameters } = challenge;
        let algorithm = parameters.iter().find(|(name, _)| *name == "algorithm");
        let algorithm = algorithm.map(|(_, value)| value.to_ascii_uppercase());
        if scheme.eq_ignore_ascii_case("digest") {
            format!("Digest {}", algorithm.as_deref().unwrap_or("MD5"))
        } else {
            scheme.to_owned()
        }
    };
    let mut schemes: Vec<_> = split(header).into_iter().map(name).collect();
    schemes.dedup();
    schemes
}

/// A challenge with its parameters, values without quotes.
struct Challenge<'a> {
    scheme: &'a str,
    parameters: Vec<(&'a str, String)>,
}

fn client(challenge: Challenge<'_>) -> Option<PasswordClient> {
    let Challenge {
        scheme,
        mut parameters,
    } = challenge;
    if !parameters.iter().any(|(name, _)| *name == "realm") {
        parameters.push(("realm", String::new()));
    }
    for (name, value) in &mut parameters {
        if *name == "algorithm" {
            let known = ALGORITHMS
                .iter()
                .find(|known| known.eq_ignore_ascii_case(value));
            *value = (*known?).to_owned();
        }
    }
    // One that says nothing is none.
    parameters.retain(|(name, value)| *name != "qop" || !value.trim().is_empty());
    for (_, value) in &mut parameters {
        *value = value.replace('\\', "\\\\").replace('"', "\\\"");
    }
    let parameters = parameters.iter().filter_map(|(name, value)| {
        let value = ParamValue::try_from_escaped(value).ok()?;
        Some((*name, value))
    });
    let mut clean = ChallengeRef::new(scheme);
    clean.params = parameters.collect();
    PasswordClient::try_from(&clean).ok()
}

/// The challenges in `header`, each with the first of parameters that are there twice.
fn split(header: &str) -> Vec<Challenge<'_>> {
    const NAMES: [&str; 8] = [
        "realm",
        "nonce",
        "opaque",
        "qop",
        "algorithm",
        "stale",
        "userhash",
        "domain",
    ];
    let mut challenges: Vec<Challenge<'_>> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=', '"']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let Some(value) = after.trim_start().strip_prefix('=') else {
            if word.is_empty() {
                // A quotation mark that belongs to nothing, or the end.
                match after.strip_prefix('"') {
                    Some(after) => rest = after,
                    None => return challenges,
                }
                continue;
            }
            challenges.push(Challenge {
                scheme: word,
                parameters: Vec::new(),
            });
            rest = after;
            continue;
        };
        let (value, after) = value_of(value.trim_start());
        rest = after;
        let name = NAMES
            .into_iter()
            .find(|name| name.eq_ignore_ascii_case(word));
        if let (Some(name), Some(challenge)) = (name, challenges.last_mut())
            && !challenge.parameters.iter().any(|(known, _)| *known == name)
        {
            challenge.parameters.push((name, value));
        }
    }
}

/// A value, quoted or not, and what comes after it.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, after) = text.split_once(',').unwrap_or((text, ""));
        return (value.trim().to_owned(), after);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Secret;

    fn respond(header: &str) -> Option<String> {
        let credentials = Credentials {
            user: Secret::new("viewer"),
            password: Secret::new("pass:w\u{f6}rd\""),
        };
        let mut authentication = Authentication::strongest(header)?;
        authentication.respond(&credentials, "DESCRIBE", "rtsp://h/x")
    }

    fn has(header: &str, parts: &[&str]) {
        let answer = respond(header).unwrap_or_else(|| panic!("no answer to {header}"));
        for part in parts {
            assert!(answer.contains(part), "no {part} in {answer} to {header}");
        }
    }

    #[test]
    fn the_strongest_of_several_challenges_is_answered() {
        let basic = "Basic realm=\"cam\"";
        let md5 = "Digest realm=\"cam\", nonce=\"m\", qop=\"auth\"";
        let sha = "Digest realm=\"cam\", nonce=\"s\", algorithm=SHA-256, qop=\"auth\"";
        let sha512 = "Digest realm=\"cam\", nonce=\"t\", algorithm=SHA-512-256, qop=\"auth\"";
        let unknown = "Digest realm=\"cam\", nonce=\"u\", algorithm=SHA3-512, qop=\"auth\"";
        for (header, part) in [
            (format!("{basic}, {md5}"), "nonce=\"m\""),
            (format!("{md5}, {basic}"), "nonce=\"m\""),
            (format!("{md5}, {sha}, {basic}"), "nonce=\"s\""),
            (format!("{sha}, {md5}"), "algorithm=SHA-256,"),
            (format!("{basic}, {sha}, {sha512}, {md5}"), "nonce=\"t\""),
            (format!("{unknown}, {md5}"), "nonce=\"m\""),
            (
                format!("{unknown}, {basic}"),
                "Basic dmlld2VyOnBhc3M6d8O2cmQi",
            ),
            (format!("Negotiate abc==, {basic}"), "Basic "),
        ] {
            has(&header, &[part]);
        }
        assert_eq!(respond(unknown), None);
        assert_eq!(respond("Negotiate"), None);
        assert_eq!(respond(""), None);
        assert_eq!(respond("Digest realm=\"no nonce\""), None);
    }

    #[test]
    fn schemes_are_named_with_their_algorithm() {
        let header = "digest realm=\"a\", nonce=\"n\", algorithm=sha-256, Digest realm=\"a\", \
                      nonce=\"n\", Basic realm=\"a\"";
        assert_eq!(schemes(header), ["Digest SHA-256", "Digest MD5", "Basic"]);
    }

    #[test]
    fn what_cameras_do_to_challenges_does_not_matter() {
        for header in [
            "Digest realm=\"cam\", nonce=\"n\", stale=\"FALSE\", algorithm=\"md5\"",
            "digest Realm=cam,Nonce=n , Algorithm=Md5",
            "Digest nonce = \"n\" realm = \"cam\"",
            "Digest realm=\"cam\", nonce=\"n\", nonce=\"other\", domain=\"/\", charset=UTF-8, x=y",
            "Digest realm=\"cam\", nonce=\"n\", qop=\"\"",
            ",, Digest  realm=\"cam\",,nonce=\"n\",",
        ] {
            // The MD5 of MD5(user:realm:password), nonce and MD5(method:URL), as RFC 2069 says.
            has(
                header,
                &[
                    "realm=\"cam\"",
                    "nonce=\"n\"",
                    "response=\"bb85b6bd16da672f1350e8811aac0bc8\"",
                ],
            );
        }
    }

    #[test]
    fn odd_characters_in_a_realm_come_back_as_they_were() {
        has(
            r#"Digest realm="Cam, \"door\" = C:\\1 @ {x}", nonce="a/b+c==", opaque="o,p", qop="auth""#,
            &[
                r#"realm="Cam, \"door\" = C:\\1 @ {x}""#,
                "nonce=\"a/b+c==\"",
                "opaque=\"o,p\"",
            ],
        );
        has(
            "Digest realm=IP Camera(1), nonce=n",
            &["realm=\"IP Camera(1)\""],
        );
        has("Digest nonce=\"n\"", &["realm=\"\""]);
    }

    #[test]
    fn quality_of_protection_and_algorithm_are_said_where_they_must_be() {
        let digest = |more: &str| format!("Digest realm=\"c\", nonce=\"n\", {more}");
        has(
            &digest("qop=\"auth,auth-int\""),
            &["qop=auth,", "nc=00000001", "cnonce="],
        );
        has(
            &digest("qop=\"auth-int\""),
            &["qop=auth-int", "algorithm=MD5"],
        );
        has(&digest("algorithm=sha-256"), &[", algorithm=SHA-256"]);
        let old = respond(&digest("algorithm=MD5")).unwrap();
        assert!(!old.contains("algorithm"), "{old}");
        let stale = |header: &str| Authentication::strongest(header).unwrap().is_stale();
        assert!(stale(&digest("stale=TRUE")) && stale(&digest("stale=\"true\"")));
        assert!(!stale(&digest("stale=false")) && !stale("Basic realm=\"stale=true\""));
    }

    #[test]
    fn each_answer_to_one_nonce_has_a_number_of_its_own() {
        let header = "Digest realm=\"c\", nonce=\"n\", qop=\"auth\"";
        let mut authentication = Authentication::strongest(header).unwrap();
        let credentials = Credentials {
            user: Secret::new("u"),
            password: Secret::new("p"),
        };
        for number in 1..4 {
            let answer = authentication.respond(&credentials, "OPTIONS", "rtsp://h/x");
            assert!(answer.unwrap().contains(&format!("nc={number:08x}")));
        }
    }

    #[test]
    fn nonsense_ends() {
        for text in [
            "\"",
            "\"\"\"",
            "=",
            "= =",
            "a=\"",
            "Digest a=\"\\",
            "Digest \"x\" realm",
            "Basic",
        ] {
            let _ = respond(text);
        }
    }
}
