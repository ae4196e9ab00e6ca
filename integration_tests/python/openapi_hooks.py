"""What schemathesis does beside making up requests from openapi.yaml.

Nothing that it sends may lead off this machine: a camera's URL, made up or of an example, becomes the one of the
demo camera or a program, and so does an address of the network in an offer. A camera that cannot be reached would be answered
with 502 or 504, too, which is right and no failure to look for. And as chance finds neither a browser's offer nor
the name of a camera nor a session, a part of the requests is given one.
"""

import base64
import os
import re
import urllib.request
import zlib

import schemathesis

BASE = os.environ["PORTHOLE_URL"]
PROGRAMS = os.environ["PROGRAMS"].split("\n")
CAMERA = re.compile(r"rtsp[sx]?\s*:\S*", re.IGNORECASE)
ELSEWHERE = re.compile(r"\b192\.168\.\d+\.\d+\b")
FINGERPRINT = ":".join(f"{byte:02X}" for byte in range(1, 33))
OFFER = "\r\n".join([
    "v=0", "o=- 1 2 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0",
    "m=video 9 UDP/TLS/RTP/SAVPF 98", "c=IN IP4 0.0.0.0", "a=mid:0",
    "a=ice-ufrag:pRb1", "a=ice-pwd:probeprobeprobeprobe1234",
    f"a=fingerprint:sha-256 {FINGERPRINT}", "a=setup:actpass", "a=recvonly", "a=rtcp-mux",
    "a=rtpmap:98 H264/90000", "a=fmtp:98 packetization-mode=1;profile-level-id=42e01f", "",
])
NAMES = {"src", "stream", "uuid", "name", "url"}
IN_BASE64 = {"sdp64", "data"}

for media_type in ("application/sdp", "application/trickle-ice-sdpfrag"):
    schemathesis.serializer.alias(media_type, "text/plain")


@schemathesis.hook
def before_call(context, case, kwargs):
    """Changes a request. What is done depends on the request alone, so that it can be repeated."""
    seed = zlib.crc32(repr((case.method, case.path, case.path_parameters, case.query, case.body)).encode())
    if case.path_parameters:
        case.path_parameters = fit(dict(case.path_parameters), seed)
        if "session" in case.path_parameters and seed & 4:
            case.path_parameters["name"] = "demo"
            case.path_parameters["session"] = new_session()
    if case.query:
        case.query = fit(dict(case.query), seed)
        if "session" in case.query and seed & 4:
            case.query["session"] = new_session()
    if isinstance(case.body, (dict, list)):
        case.body = fit(case.body, seed)
    elif isinstance(case.body, str):
        case.body = here(case.body, seed)
        if case.media_type != "application/trickle-ice-sdpfrag" and seed & 1:
            case.body = OFFER
    elif isinstance(case.body, bytes):
        case.body = here(case.body.decode("utf-8", "surrogateescape"), seed).encode("utf-8", "surrogateescape")


def fit(value, seed, key=None):
    """The same with what leads elsewhere replaced, and by chance with what is known to the server."""
    if isinstance(value, dict):
        return {key: fit(inner, seed, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [fit(inner, seed, key) for inner in value]
    if not isinstance(value, str):
        return value
    if key in NAMES and seed & 2:
        return camera(seed).removesuffix(":") if key in ("src", "url") else "demo"
    if key == "sdp" and seed & 1:
        return OFFER
    if key in IN_BASE64:
        return in_base64(value, seed)
    return here(value, seed)


def in_base64(value, seed):
    if seed & 1:
        return base64.b64encode(OFFER.encode()).decode()
    try:
        text = base64.b64decode(value, validate=True).decode()
    except ValueError:
        return value
    return base64.b64encode(here(text, seed).encode()).decode()


def here(text, seed):
    """The text with the demo camera for each other one, or now and then a program."""
    text = CAMERA.sub(lambda _: camera(seed), text)
    return ELSEWHERE.sub("127.0.0.1", text)


def camera(seed):
    """The demo camera; in every fourth request a program, which nobody may have run, and that is noted."""
    if seed & 24:
        return "demo:"
    with open(os.environ["PROGRAMS_ASKED"], "a", encoding="utf-8") as asked:
        asked.write("program\n")
    return PROGRAMS[seed // 32 % len(PROGRAMS)]


def new_session():
    request = urllib.request.Request(f"{BASE}/whep/demo", OFFER.encode(), {"Content-Type": "application/sdp"})
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.headers["Location"].rsplit("/", 1)[1]
