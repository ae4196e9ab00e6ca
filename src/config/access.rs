//! Who may use what.

use serde::Deserialize;

use crate::base::{Credentials, Secret};

/// What a caller has to show.
#[derive(Debug, Clone, Default)]
pub struct Auth {
    /// User name and password, as HTTP Basic ([RFC 7617]).
    ///
    /// [RFC 7617]: https://datatracker.ietf.org/doc/html/rfc7617
    pub login: Option<Credentials>,
    /// A token, as HTTP Bearer ([RFC 6750]).
    ///
    /// [RFC 6750]: https://datatracker.ietf.org/doc/html/rfc6750
    pub token: Option<Secret>,
}

/// Settings of the dialect of RTSPtoWeb.
#[derive(Debug, Clone, Default)]
pub struct RtspToWeb {
    /// Who may list and change streams; watching is open, as it is there.
    pub login: Option<Credentials>,
}

/// `auth` as it is written.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthLayer {
    username: Option<String>,
    password: Option<String>,
    token: Option<String>,
}

/// `rtsp_to_web` as it is written.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RtspToWebLayer {
    enabled: Option<bool>,
    username: Option<String>,
    password: Option<String>,
}

impl std::fmt::Debug for AuthLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuthLayer(***)")
    }
}

impl std::fmt::Debug for RtspToWebLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RtspToWebLayer(***)")
    }
}

pub(super) fn auth(layer: Option<AuthLayer>, faults: &mut Vec<String>) -> Option<Auth> {
    let layer = layer?;
    let login = login("auth", layer.username, layer.password, faults);
    let token = layer.token.filter(|token| !token.is_empty());
    if login.is_none() && token.is_none() {
        faults.push("auth: give username and password, or a token, or both".to_owned());
    }
    Some(Auth {
        login,
        token: token.map(Secret::new),
    })
}

pub(super) fn rtsp_to_web(
    layer: Option<RtspToWebLayer>,
    faults: &mut Vec<String>,
) -> Option<RtspToWeb> {
    let layer = layer?;
    let login = login("rtsp_to_web", layer.username, layer.password, faults);
    layer.enabled.unwrap_or(true).then_some(RtspToWeb { login })
}

fn login(
    key: &str,
    user: Option<String>,
    password: Option<String>,
    faults: &mut Vec<String>,
) -> Option<Credentials> {
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    match (filled(user), filled(password)) {
        (Some(user), Some(password)) => Some(Credentials {
            user: Secret::new(user),
            password: Secret::new(password),
        }),
        (None, None) => None,
        _ => {
            faults.push(format!(
                "{key}: username and password belong together; give both"
            ));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Layer};

    fn config(text: &str) -> Result<Config, String> {
        let layer = Layer::parse(text).map_err(|e| e.to_string())?;
        Config::from_layers([layer]).map_err(|e| e.to_string())
    }

    #[test]
    fn nobody_has_to_show_anything_unless_it_is_asked_for() {
        let config = config("").unwrap();
        assert!(config.auth.is_none() && config.rtsp_to_web.is_none());
    }

    #[test]
    fn logins_are_whole_and_not_printed() {
        let text = "auth: {username: ann, password: hunter2, token: hunter3}\nrtsp_to_web: {}\n";
        let checked = config(text).unwrap();
        let auth = checked.auth.clone().unwrap();
        assert_eq!(auth.login.unwrap().password.reveal(), "hunter2");
        assert_eq!(auth.token.unwrap().reveal(), "hunter3");
        assert!(checked.rtsp_to_web.is_some() && checked.notes.is_empty());
        let half = config("rtsp_to_web: {username: ann, password: hunter2}").unwrap();
        assert!(half.notes[0].contains("auth"), "{:?}", half.notes);
        let shown = format!(
            "{:?}{:?}",
            config(text).unwrap(),
            Layer::parse(text).unwrap()
        );
        assert!(!shown.contains("hunter"), "{shown}");
        assert!(
            config("rtsp_to_web: {enabled: false}")
                .unwrap()
                .rtsp_to_web
                .is_none()
        );
        for text in [
            "auth: {}",
            "auth: {username: ann}",
            "auth: {token: ''}",
            "rtsp_to_web: {password: hunter2}",
        ] {
            let fault = config(text).unwrap_err();
            assert!(!fault.contains("hunter2"), "{fault}");
        }
    }
}
