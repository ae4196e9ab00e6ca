//! Camera URLs as people see them, without what must not be seen.

use percent_encoding::percent_decode_str;
use url::Url;

/// Parts of query keys whose values are credentials on some camera, and of options that hold some.
pub(super) const SECRET_PARTS: [&str; 12] = [
    "pass", "pwd", "psw", "pw", "token", "auth", "secret", "key", "sig", "user", "usr", "login",
];

/// The URL for people: no credentials, secret query values masked.
pub(super) fn shown(url: &Url, has_credentials: bool) -> String {
    let mut shown = url.clone();
    if let Some(query) = url.query() {
        let masked: Vec<_> = query.split_inclusive(['&', ';']).map(masked_pair).collect();
        shown.set_query(Some(&masked.concat()));
    }
    // What looks like credentials in the path may be some: a password with unescaped `/` and `@`.
    let path = match url.path().rfind('@') {
        Some(at) if url.path()[..at].contains(':') => format!("/***{}", &url.path()[at..]),
        _ => mask_path(url.path()),
    };
    shown.set_path(&path);
    let text = shown.as_str();
    if has_credentials {
        text.replacen("://", "://***@", 1)
    } else {
        text.to_owned()
    }
}

/// `key=value` and the separator after it, with the value masked if the key is of a credential.
fn masked_pair(pair: &str) -> String {
    let Some((key, value)) = pair.split_once('=') else {
        return pair.to_owned();
    };
    let lower = percent_decode_str(key)
        .decode_utf8_lossy()
        .to_ascii_lowercase();
    if !SECRET_PARTS.iter().any(|part| lower.contains(part)) {
        return pair.to_owned();
    }
    let end = value.find(['&', ';']).map_or("", |at| &value[at..]);
    format!("{key}=***{end}")
}

/// The same in paths, where the user name stays: without it nobody can tell one camera's streams apart.
const PATH_SECRETS: [&str; 6] = ["pass", "pwd", "psw", "token", "auth", "secret"];

/// Masks the values of keys such as `password=` in a path, where some families of cameras want them: up to the
/// next `_name=`, or the end of the segment.
fn mask_path(path: &str) -> String {
    let segments = path.split('/').map(|segment| {
        let mut masked = String::new();
        let mut is_secret = false;
        let mut pieces = segment.split('=').peekable();
        while let Some(piece) = pieces.next() {
            // Before the next `=` stand the value and the next key.
            let (value, key) = match piece.rfind('_') {
                Some(at) if pieces.peek().is_some() => piece.split_at(at),
                _ if pieces.peek().is_some() && masked.is_empty() => ("", piece),
                _ => (piece, ""),
            };
            masked.push_str(if is_secret { "***" } else { value });
            masked.push_str(key);
            if pieces.peek().is_some() {
                masked.push('=');
            }
            if !key.is_empty() {
                let lower = key.to_ascii_lowercase();
                is_secret = PATH_SECRETS.iter().any(|part| lower.contains(part));
            }
        }
        masked
    });
    segments.collect::<Vec<_>>().join("/")
}
