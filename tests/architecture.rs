//! Imports point down, tasks are spawned in one place, and the engine's types stay in theirs.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// From the top down; names on one line are siblings, which never import each other.
const LAYERS: &[&[&str]] = &[
    &["main"],
    &["app", "probe"],
    &["http"],
    &["signaling"],
    &["context"],
    &["registry", "stills"],
    &["directory", "session"],
    &["source"],
    &["webrtc"],
    &["hub"],
    &["media", "config"],
    &["base"],
];

/// Siblings that may look at each other, and why.
const NOTHING_FORBIDDEN_HERE: &[&str] = &["lib"];

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).expect("the source folder is there") {
            let path = entry.expect("an entry can be read").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).expect("source is text");
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    walk(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut found,
    );
    found
}

/// The first path component of a source file below `src`, without its extension.
fn module(path: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let relative = path.strip_prefix(root).expect("it is below src");
    let first = relative.components().next().expect("it has a name");
    let name = first.as_os_str().to_string_lossy();
    name.trim_end_matches(".rs").to_owned()
}

fn level(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// Every module named directly after `crate::`, also inside braces, with its line.
fn imports(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let word = |text: &str| -> String {
        text.chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect()
    };
    for (at, _) in text.match_indices("crate::") {
        let line = text[..at].lines().count();
        let rest = &text[at + "crate::".len()..];
        if !rest.starts_with('{') {
            found.push((line, word(rest)));
            continue;
        }
        let mut depth = 0;
        let mut expecting = false;
        for (i, c) in rest.char_indices() {
            match c {
                '{' => {
                    depth += 1;
                    expecting = depth == 1;
                }
                '}' => depth -= 1,
                ',' => expecting = depth == 1,
                c if expecting && c.is_ascii_alphabetic() => {
                    found.push((line, word(&rest[i..])));
                    expecting = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    found
}

#[test]
fn imports_point_down() {
    let mut faults = Vec::new();
    for (path, text) in sources() {
        let own = module(&path);
        if NOTHING_FORBIDDEN_HERE.contains(&own.as_str()) {
            continue;
        }
        let Some(own_level) = level(&own) else {
            faults.push(format!("{} is in no layer", path.display()));
            continue;
        };
        for (line, import) in imports(&text) {
            let allowed = import == own || level(&import).is_some_and(|l| l > own_level);
            if !allowed {
                faults.push(format!("{}:{line}: {own} imports {import}", path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn the_import_scan_sees_braces_and_paths() {
    let text = "use crate::{\n    base::{Error, hub},\n    media::Kind,\n};\nfn f() { crate::http::g() }\n";
    let names: Vec<_> = imports(text).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["base", "media", "http"]);
}

#[test]
fn forbidden_words_stay_where_they_are_allowed() {
    let rules: &[(&str, &[&str])] = &[
        ("rtc_dtls::", &["src/webrtc/"]),
        ("rtc_srtp::", &["src/webrtc/"]),
        ("rtc_rtcp::", &["src/webrtc/"]),
        ("rtc_stun::", &["src/webrtc/"]),
        ("quinn_udp::", &["src/webrtc/port/"]),
        ("retina::", &["src/source/rtsp/"]),
        ("tungstenite::", &["src/source/rtsp/"]),
        ("tokio::spawn", &["src/main.rs"]),
        (".runtime.spawn", &["src/base/tasks.rs"]),
        (
            "Instant::now",
            &[
                "src/source/",
                "src/webrtc/",
                "src/hub/",
                "src/signaling/",
                "src/session.rs",
                "src/stills.rs",
            ],
        ),
        (
            "std::env::",
            &[
                "src/config/",
                "src/source/rtsp/mutations.rs",
                "src/webrtc/negotiate/tests/",
            ],
        ),
    ];
    let mut faults = Vec::new();
    for (path, text) in sources() {
        let shown = path.to_string_lossy().replace('\\', "/");
        for (word, places) in rules {
            let code = text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            let found = code.into_iter().any(|line| line.contains(word));
            if found && !places.iter().any(|place| shown.contains(place)) {
                faults.push(format!("{shown}: {word} (allowed in {places:?})"));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}
