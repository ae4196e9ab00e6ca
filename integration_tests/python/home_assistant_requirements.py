"""Prints what `pip` must install so that Home Assistant starts without installing anything itself.

    home_assistant_requirements.py 2024.3.3

Home Assistant installs the requirements of an integration when it first sets it up. The tests start
it with `--skip-pip` instead, offline and always the same. Run it with the Python of the virtual
environment that already holds the `homeassistant` package itself (without its dependencies); one
requirement per line.
"""

import importlib.util
import json
import pathlib
import sys

# What the test's configuration names, what Home Assistant sets up unasked, and what these import.
INTEGRATIONS = [
    "backup",
    "camera",
    "cloud",
    "ffmpeg",
    "frontend",
    "hardware",
    "lovelace",
    "network",
    "recorder",
    "rtsp_to_webrtc",
    "stream",
    "system_health",
]

# The same, of one release alone.
OF_RELEASE = {"2024.3.3": [], "2025.1.4": ["go2rtc"]}

# `acme`, which `cloud` imports at every login, was written for this and does not say so.
FURTHER = {"josepy<2"}


def main() -> None:
    [release] = sys.argv[1:]
    package = importlib.util.find_spec("homeassistant")
    components = pathlib.Path(package.submodule_search_locations[0]) / "components"
    waiting, seen, found = INTEGRATIONS + OF_RELEASE[release], set(), set(FURTHER)
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        manifest = json.loads((components / name / "manifest.json").read_text())
        found.update(manifest.get("requirements", []))
        waiting += manifest.get("dependencies", [])
    print("\n".join(sorted(found)))


main()
