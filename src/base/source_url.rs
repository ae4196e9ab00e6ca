//! [`SourceUrl`]: where media comes from, in a form that cannot print its secrets.

use std::{
    fmt::{self, Write as _},
    sync::Arc,
};

use percent_encoding::percent_decode_str;
use url::Url;

use super::{Credentials, Error, Program, Secret, Verdict, masked::shown};

/// Where media comes from: a URL whose credentials and secret query values are never printed.
///
/// Two spellings of one URL are equal: case of scheme and host, the default port, percent-encoding
/// of ordinary characters ([RFC 3986 §6.2.2]) do not count. Credentials do: who does not know the
/// password must not share the picture of one who does.
///
/// [RFC 3986 §6.2.2]: https://datatracker.ietf.org/doc/html/rfc3986#section-6.2.2
#[derive(Clone)]
pub struct SourceUrl(Arc<Parts>);

struct Parts {
    url: Url,
    credentials: Option<Credentials>,
    options: Vec<(String, String)>,
    key: String,
    shown: String,
    program: Option<Program>,
}

/// Longest URL accepted, in bytes. Signed camera links of cloud services stay below 2 KiB.
const URL_MAX: usize = 4096;

impl SourceUrl {
    /// Reads a URL as a person or a program wrote it.
    ///
    /// A password may contain unescaped `@`, `/`, `?` or `#`: the last `@` of what can be the
    /// authority ends it. What follows `#` is a list of options for us, `name=value` joined by `#`
    /// or `&`, and is not sent to the camera. An option `rtsp` ends at the next `#` only, as it is
    /// itself a URL.
    ///
    /// # Errors
    /// `InvalidArgument` when it is no URL, too long, or has control characters or spaces, with
    /// which a URL could smuggle lines into the camera's protocol.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let text = text.trim_matches(' ');
        check_characters(text)?;
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(invalid("has no scheme; it should start with rtsp://"));
        };
        let scheme = scheme.to_ascii_lowercase();
        let Some(after) = rest.strip_prefix("//") else {
            return Self::opaque(&scheme, rest);
        };
        let (credentials, rest) = split_credentials(after);
        if credentials
            .as_ref()
            .is_some_and(|c| c.user.reveal() == "***")
        {
            return Err(invalid(
                "is masked (***); write it with the user name and password",
            ));
        }
        let (location, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let url = Url::parse(&format!("{scheme}://{location}")).map_err(|_| {
            invalid("is not a URL; it should look like rtsp://user:password@host:554/path")
        })?;
        Self::of_parts(url, credentials, options_of(fragment))
    }

    /// Where `location` leads, absolute or seen from here, as a server writes it that sends its clients
    /// elsewhere. The options stay, but for `rtsp`, which is about this place; the credentials only at the
    /// same host and port. Others in `location` do not count.
    ///
    /// # Errors
    /// `InvalidArgument` when it is no URL with a host.
    pub fn with_location(&self, location: &str) -> Result<Self, Error> {
        check_characters(location)?;
        let url = self.0.url.join(location);
        let mut url = url.map_err(|_| invalid("cannot be read"))?;
        // Cannot fail where there is a host, without which the URL is refused.
        let _ = (url.set_username(""), url.set_password(None));
        url.set_fragment(None);
        let mut options = self.0.options.clone();
        options.retain(|(name, _)| name != "rtsp");
        let elsewhere = Self::of_parts(url, None, options.clone())?;
        if (elsewhere.host(), elsewhere.port()) != (self.host(), self.port()) {
            return Ok(elsewhere);
        }
        let credentials = self.0.credentials.clone();
        Self::of_parts(elsewhere.0.url.clone(), credentials, options)
    }

    /// The same place and way, by which `stream` is asked for: the option `rtsp`.
    ///
    /// # Errors
    /// None that a URL which was read already has.
    pub fn asking_for(&self, stream: &Url) -> Result<Self, Error> {
        let Parts {
            url,
            credentials,
            options,
            ..
        } = &*self.0;
        let mut options = options.clone();
        options.retain(|(name, _)| name != "rtsp");
        options.push(("rtsp".to_owned(), stream.to_string()));
        Self::of_parts(url.clone(), credentials.clone(), options)
    }

    fn of_parts(
        mut url: Url,
        credentials: Option<Credentials>,
        options: Vec<(String, String)>,
    ) -> Result<Self, Error> {
        let Some(host) = url.host_str().filter(|host| !host.is_empty()) else {
            return Err(invalid(
                "has no host; it should look like rtsp://host:554/path",
            ));
        };
        let host = host.to_ascii_lowercase();
        if url.set_host(Some(&host)).is_err() {
            return Err(invalid("has a host name that cannot be read"));
        }
        if url.port() == Some(default_port(url.scheme())) {
            // Cannot fail: the URL has a host.
            let _ = url.set_port(None);
        }
        let shown = shown(&url, credentials.is_some());
        // Sent in the plain spelling too: cameras compare paths letter by letter.
        if let Ok(plain) = Url::parse(&normal_escapes(url.as_str())) {
            url = plain;
        }
        let mut key = url.to_string();
        if url.path().is_empty() {
            key.push('/');
        }
        for (name, value) in &options {
            let _ = write!(key, "\n{name}={value}");
        }
        if let Some(Credentials { user, password }) = &credentials {
            let _ = write!(key, "\n{}\n{}", user.reveal(), password.reveal());
        }
        Ok(Self(Arc::new(Parts {
            url,
            credentials,
            options,
            key,
            shown,
            program: None,
        })))
    }

    /// A URL without `//`, such as `demo:`.
    fn opaque(scheme: &str, rest: &str) -> Result<Self, Error> {
        let url = Url::parse(&format!("{scheme}:{rest}")).map_err(|_| {
            Error::new(
                Verdict::BadUrl,
                "the camera URL cannot be read; it should look like \
                 rtsp://user:password@host:554/path",
            )
        })?;
        Ok(Self(Arc::new(Parts {
            shown: format!("{scheme}:"),
            key: url.as_str().to_owned(),
            credentials: None,
            options: Vec::new(),
            url,
            program: None,
        })))
    }

    /// What `program` plays. No text that is parsed is equal to it.
    ///
    /// # Panics
    /// Never: the schemes of programs are schemes.
    #[must_use]
    pub fn of_program(program: Program) -> Self {
        let scheme = program.kind().scheme();
        let url = Url::parse(&format!("{scheme}:")).expect("a scheme and a colon are a URL");
        Self(Arc::new(Parts {
            shown: program.shown().to_owned(),
            key: program.key(),
            credentials: None,
            options: Vec::new(),
            url,
            program: Some(program),
        }))
    }

    /// What is to be run for it, if the configuration has that.
    #[must_use]
    pub fn program(&self) -> Option<&Program> {
        self.0.program.as_ref()
    }

    /// The scheme in lower case, without the colon.
    #[must_use]
    pub fn scheme(&self) -> &str {
        self.0.url.scheme()
    }

    /// The host as it should be resolved or shown; IPv6 in brackets. Empty for URLs without one.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.url.host_str().unwrap_or_default()
    }

    /// The port; the scheme's own if the URL gives none.
    #[must_use]
    pub fn port(&self) -> u16 {
        let url = &self.0.url;
        url.port().unwrap_or_else(|| default_port(url.scheme()))
    }

    /// The URL to request, without credentials and options.
    #[must_use]
    pub fn request_url(&self) -> &Url {
        &self.0.url
    }

    /// User name and password, percent-decoded.
    #[must_use]
    pub fn credentials(&self) -> Option<&Credentials> {
        self.0.credentials.as_ref()
    }

    /// The value of an option after `#`, as in `#transport=udp`: in lower case, but for that of
    /// `rtsp`.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.options.iter().find(|(key, _)| key == name)?;
        Some(value)
    }

    /// Equal for equal sources. Contains the credentials: never print it.
    #[must_use]
    pub fn key(&self) -> Secret {
        Secret::new(self.0.key.clone())
    }
}

impl PartialEq for SourceUrl {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for SourceUrl {}

impl fmt::Display for SourceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.shown)
    }
}

impl fmt::Debug for SourceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.shown)
    }
}

fn invalid(what: &str) -> Error {
    Error::new(Verdict::BadUrl, format!("the camera URL {what}"))
}

/// Refuses what no URL is made of.
fn check_characters(text: &str) -> Result<(), Error> {
    if text.len() > URL_MAX {
        return Err(invalid(&format!("is longer than {URL_MAX} bytes")));
    }
    if text.chars().any(char::is_control) {
        return Err(invalid(
            "contains control characters such as line breaks; remove them (a password may carry \
             them percent-encoded)",
        ));
    }
    if text.contains(char::is_whitespace) {
        return Err(invalid("contains a space; write it as %20"));
    }
    Ok(())
}

/// The port of a URL that gives none. Cameras have RTSP within TLS at 554 as well.
fn default_port(scheme: &str) -> u16 {
    match scheme {
        "rtsp+http" | "ws" => 80,
        "rtsp+https" | "wss" => 443,
        _ => 554,
    }
}

/// Splits what follows `//` into credentials and the rest.
fn split_credentials(after: &str) -> (Option<Credentials>, &str) {
    let authority = after.split(['/', '?', '#']).next().unwrap_or(after);
    // A `/` in an unescaped password ends the authority early. Then what stands for the host is
    // hardly one, and what follows the last `@` of all is.
    let at = match (authority.rfind('@'), after.rfind('@')) {
        (found, Some(last)) if found != Some(last) => {
            let host = &authority[found.map_or(0, |at| at + 1)..];
            let later = after[last + 1..]
                .split(['/', '?', '#'])
                .next()
                .unwrap_or_default();
            let misread = !is_plausible_host(host) && is_plausible_host(later);
            if misread || !has_valid_port(host) {
                Some(last)
            } else {
                found
            }
        }
        (found, _) => found,
    };
    let Some(at) = at else {
        return (None, after);
    };
    let (userinfo, rest) = (&after[..at], &after[at + 1..]);
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let credentials = Credentials {
        user: Secret::new(decoded(user)),
        password: Secret::new(decoded(password)),
    };
    ((!userinfo.is_empty()).then_some(credentials), rest)
}

/// Whether `host:port` looks like a host that people write: an address, or a name with a dot.
fn is_plausible_host(authority: &str) -> bool {
    has_valid_port(authority)
        && (authority.starts_with('[')
            || authority.starts_with("localhost")
            || authority.contains('.') && !authority.contains('@'))
}

fn has_valid_port(authority: &str) -> bool {
    if authority.starts_with('[') {
        return true;
    }
    let port = authority.rsplit_once(':').map(|(_, port)| port);
    port.is_none_or(|port| port.is_empty() || port.parse::<u16>().is_ok())
}

/// Without escapes; a percent sign without two hex digits stays as it is.
fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Writes escapes of unreserved characters plainly and the other escapes in upper case.
fn normal_escapes(url: &str) -> String {
    let mut normal = String::with_capacity(url.len());
    let mut rest = url;
    while let Some(at) = rest.find('%') {
        normal.push_str(&rest[..at]);
        let escape = rest.get(at + 1..at + 3);
        match escape.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                normal.push(char::from(byte));
                rest = &rest[at + 3..];
            }
            Some(byte) => {
                let _ = write!(normal, "%{byte:02X}");
                rest = &rest[at + 3..];
            }
            None => {
                normal.push('%');
                rest = &rest[at + 1..];
            }
        }
    }
    normal + rest
}

fn options_of(fragment: &str) -> Vec<(String, String)> {
    let mut options = Vec::new();
    for part in fragment.split('#') {
        if let Some(("rtsp", url)) = part.split_once('=') {
            // One that was encoded as a whole; the escapes of one that was not are the camera's.
            let is_plain = url.starts_with('/') || url.contains("://");
            let url = if is_plain {
                url.to_owned()
            } else {
                decoded(url)
            };
            options.push(("rtsp".to_owned(), url));
            continue;
        }
        let named = part.split('&').filter(|option| !option.is_empty());
        options.extend(
            named
                .map(|option| option.split_once('=').unwrap_or((option, "")))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_ascii_lowercase())),
        );
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ErrorKind;

    fn url(text: &str) -> SourceUrl {
        SourceUrl::parse(text).unwrap()
    }

    fn credentials(text: &str) -> (String, String, String) {
        let url = url(text);
        let c = url.credentials().unwrap();
        (
            c.user.reveal().to_owned(),
            c.password.reveal().to_owned(),
            url.request_url().to_string(),
        )
    }

    #[test]
    fn spellings_of_one_url_are_equal() {
        let plain = url("rtsp://u:p%40w@cam.lan/live/ch1?x=%2F");
        for spelling in [
            "RTSP://u:p%40w@CAM.lan:554/live/ch1?x=%2f",
            "rtsp://u:p@w@cam.lan/l%69ve/ch1?x=%2F",
            " rtsp://%75:p%40w@cam.lan/live/ch1?x=%2F",
        ] {
            assert_eq!(plain, url(spelling), "{spelling}");
        }
        assert_eq!(url("rtsp://cam.lan"), url("rtsp://cam.lan/"));
    }

    #[test]
    fn another_password_path_or_transport_is_another_source() {
        let plain = url("rtsp://u:p@cam.lan/live");
        for other in [
            "rtsp://u:q@cam.lan/live",
            "rtsp://cam.lan/live",
            "rtsp://u:p@cam.lan/live2",
            "rtsp://u:p@cam.lan:555/live",
            "rtsp://u:p@cam.lan/live#transport=udp",
        ] {
            assert_ne!(plain, url(other), "{other}");
        }
    }

    #[test]
    fn a_raw_password_ends_at_the_last_at_sign() {
        let expect = |text: &str, password: &str| {
            let (user, got, request) = credentials(text);
            assert_eq!((user.as_str(), got.as_str()), ("u", password), "{text}");
            assert_eq!(request, "rtsp://h:8554/x", "{text}");
        };
        expect("rtsp://u:p%40ss%2Fw%3A0%25@h:8554/x", "p@ss/w:0%");
        expect("rtsp://u:p@ss:0%@h:8554/x", "p@ss:0%");
        expect("rtsp://u:p/w?#@h:8554/x", "p/w?#");
        expect("rtsp://u:@h:8554/x", "");
        for (text, password) in [
            ("rtsp://u:p@ss/w:0@10.0.0.5/x", "p@ss/w:0"),
            ("rtsp://u:12/x@10.0.0.5/x", "12/x"),
        ] {
            let (_, got, request) = credentials(text);
            assert_eq!(
                (got.as_str(), request.as_str()),
                (password, "rtsp://10.0.0.5/x")
            );
        }
    }

    #[test]
    fn an_at_sign_in_the_path_is_not_a_password() {
        let url = url("rtsp://h:8554/cam@1");
        assert!(url.credentials().is_none());
        assert_eq!(url.request_url().path(), "/cam@1");
    }

    #[test]
    fn nothing_secret_is_printed() {
        let url = url("rtsp://admin:hunter2@10.0.0.5/ch1?user=admin&pwd=hunter2&ch=1");
        let printed = format!("{url} {url:?} {:?}", url.credentials().unwrap().password);
        assert_eq!(
            url.to_string(),
            "rtsp://***@10.0.0.5/ch1?user=***&pwd=***&ch=1"
        );
        assert!(
            !printed.contains("hunter2") && !printed.contains("admin"),
            "{printed}"
        );
    }

    #[test]
    fn secrets_in_paths_are_masked_and_masks_are_not_urls() {
        let shown = |text: &str| url(text).to_string();
        assert_eq!(
            shown("rtsp://h/user=admin_password=tlJw_channel=1.sdp"),
            "rtsp://h/user=admin_password=***_channel=1.sdp"
        );
        assert_eq!(
            shown("rtsp://h/user=a_pwd=b=c/x_token=d_e"),
            "rtsp://h/user=a_pwd=***=***/x_token=***"
        );
        assert_eq!(
            shown("rtsp://h/user=a_password=my_secret_channel=1_stream=0.sdp"),
            "rtsp://h/user=a_password=***_channel=1_stream=0.sdp"
        );
        assert_eq!(
            shown("rtsp://h/x?a=1;pwd=s&access_token=t&p%61ss=u&ch=2"),
            "rtsp://h/x?a=1;pwd=***&access_token=***&p%61ss=***&ch=2"
        );
        assert_eq!(shown("rtsp://h/cam@1"), "rtsp://h/cam@1");
        assert!(!shown("rtsp://u:p@ss/w:0@h/x").contains("w:0"));
        assert!(SourceUrl::parse("rtsp://***@h/x").is_err());
    }

    #[test]
    fn options_follow_the_hash_and_stay_here() {
        let url = url("rtsp://h/x#transport=UDP#backchannel=0");
        assert_eq!(url.option("transport"), Some("udp"));
        assert_eq!(url.request_url().as_str(), "rtsp://h/x");
    }

    #[test]
    fn another_location_gets_the_password_only_at_the_same_host_and_port() {
        let here = url("rtsp://u:p@h/live/ch1?x=1#transport=udp");
        for (location, there, credentials) in [
            ("rtsp://h/other", "rtsp://h/other", true),
            ("rtsp://H:554/other#x", "rtsp://h/other", true),
            ("rtsps://h/other", "rtsps://h/other", true),
            ("/other?y", "rtsp://h/other?y", true),
            ("ch2", "rtsp://h/live/ch2", true),
            ("rtsp://a:b@h/", "rtsp://h/", true),
            ("rtsp://h:8554/other", "rtsp://h:8554/other", false),
            ("rtsp://h.example/other", "rtsp://h.example/other", false),
            ("rtsp://h@evil.example/", "rtsp://evil.example/", false),
            ("//evil.example/", "rtsp://evil.example/", false),
            ("rtsp://u:p@[::1]/", "rtsp://[::1]/", false),
        ] {
            let to = here.with_location(location).unwrap();
            assert_eq!(to.request_url().as_str(), there, "{location}");
            assert_eq!(to.credentials().is_some(), credentials, "{location}");
            assert_eq!(to.option("transport"), Some("udp"), "{location}");
        }
        for bad in ["rtsp:///x", "rtsp://h/\r\nX: y", "rtsp://h/a b", "demo:"] {
            let error = here.with_location(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{bad:?}");
        }
    }

    #[test]
    fn each_scheme_has_its_port() {
        for (scheme, port) in [
            ("rtsp", 554),
            ("rtsps", 554),
            ("rtsp+http", 80),
            ("rtsp+https", 443),
            ("ws", 80),
            ("wss", 443),
        ] {
            let short = url(&format!("{scheme}://h/x"));
            let long = url(&format!("{scheme}://h:{port}/x"));
            assert_eq!((short.port(), &short), (port, &long), "{scheme}");
            assert_eq!(url(&format!("{scheme}://h:8000/x")).port(), 8000);
        }
    }

    #[test]
    fn a_url_among_the_options_is_taken_as_a_whole() {
        for text in [
            "ws://h/w#rtsp=/Media/a?b=C&d=%20#transport=TCP",
            "ws://h/w#transport=TCP#rtsp=/Media/a?b=C&d=%20",
            "ws://h/w#rtsp=%2FMedia%2Fa%3Fb=C%26d=%2520#transport=TCP",
        ] {
            let url = url(text);
            assert_eq!(url.option("rtsp"), Some("/Media/a?b=C&d=%20"), "{text}");
            assert_eq!(url.option("transport"), Some("tcp"), "{text}");
        }
        assert_ne!(url("ws://h/w#rtsp=/a"), url("ws://h/w#rtsp=/A"));
    }

    #[test]
    fn a_url_that_could_smuggle_lines_is_refused() {
        for bad in [
            "rtsp://h/x\r\nTEARDOWN",
            "rtsp://h/a b",
            "rtsp://h/\0",
            "rtsp:///x",
            "camera",
            "",
        ] {
            let error = SourceUrl::parse(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{bad:?}");
        }
    }
}
