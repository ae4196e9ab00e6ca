"""Home Assistant's client library for go2rtc, `go2rtc-client`, against a running server.

    go2rtc_probe.py version BASE_URL
    go2rtc_probe.py setup BASE_URL
    go2rtc_probe.py view BASE_URL NAME SOURCE < OFFER
    go2rtc_probe.py unknown BASE_URL NAME < OFFER
    go2rtc_probe.py preload BASE_URL NAME SOURCE on|off
    go2rtc_probe.py snapshot BASE_URL NAME SOURCE [WIDTH HEIGHT]

`version` works with every release of the library; the others make the calls of Home Assistant 2026.11,
in its order, and need 0.4.0. Prints what was seen as one JSON object. A call that raises ends the
program with status 1, and so would the camera fail in Home Assistant.
"""

import asyncio
import importlib.metadata
import json
import logging
import sys
import time

import aiohttp
from go2rtc_client import Go2RtcRestClient

# Of what was offered and what came, in seconds.
PATIENCE = 10
# What the library says when it does not understand a message; it says it nowhere else.
LIBRARY = logging.getLogger("go2rtc_client")


class Complaints(logging.Handler):
    """Keeps the warnings of the library, which Home Assistant writes to its log."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.texts = []

    def emit(self, record):
        self.texts.append(record.getMessage())


async def version(client, **_):
    await client.validate_server_version()
    info = await client.application.get_info()
    return {"version": str(info.version)}


async def setup(client, **_):
    """When Home Assistant starts, and for each camera once the provider is there."""
    newest = await client.validate_server_version()
    schemes = await client.schemes.list()
    preload = await client.preload.list()
    return {
        "version": str(newest),
        "schemes": sorted(schemes),
        "preload": sorted(preload),
    }


async def update(client, name, source):
    """Before anything is done with a camera: whether the server had to be told of it."""
    streams = await client.streams.list()
    stream = streams.get(name)
    if stream and any(producer.url == source for producer in stream.producers):
        return False
    opus = f"ffmpeg:{name}#audio=opus#query=log_level=debug"
    await client.streams.add(name, [source, opus])
    return True


async def listed(client):
    streams = await client.streams.list()
    return {name: [one.url for one in stream.producers] for name, stream in streams.items()}


async def converse(session, base, name, offer):
    """One viewer: every message that came until the answer and a second of candidates, or an error."""
    from go2rtc_client.ws import Go2RtcWsClient, WebRTCAnswer, WebRTCCandidate, WebRTCOffer, WsError
    from webrtc_models import RTCIceServer

    messages, decided = [], asyncio.Event()
    start = time.monotonic()

    def on_message(message):
        match message:
            case WebRTCAnswer():
                seen = {"answer": message.sdp}
            case WebRTCCandidate():
                seen = {"candidate": message.candidate}
            case WsError():
                seen = {"error": message.error}
            case _:
                seen = {"other": repr(message)}
        messages.append(seen | {"after": time.monotonic() - start})
        if not isinstance(message, WebRTCCandidate):
            decided.set()

    viewer = Go2RtcWsClient(session, base, source=name)
    viewer.subscribe(on_message)
    stun = ["stun:stun.home-assistant.io:3478", "stun:stun.home-assistant.io:80"]
    await viewer.send(WebRTCOffer(offer, [RTCIceServer(stun)]))
    # The browser goes on finding addresses; these lead nowhere, and the empty one says that it is over.
    for candidate in [
        "candidate:1 1 udp 2113937151 6d5a8f0e-0000-4000-8000-000000000001.local 40001 typ host",
        "candidate:842163049 1 udp 1677729535 198.51.100.9 46154 typ srflx raddr 0.0.0.0 rport 0",
        "",
    ]:
        await viewer.send(WebRTCCandidate(candidate))
    async with asyncio.timeout(PATIENCE):
        await decided.wait()
    await asyncio.sleep(1)
    connected = viewer.connected
    await viewer.close()
    return {"messages": messages, "connected": connected}


async def view(session, client, base, name, source, **_):
    # `read` would turn CR LF into LF.
    offer = sys.stdin.buffer.read().decode()
    first = await update(client, name, source)
    seen = await converse(session, base, name, offer)
    again = await update(client, name, source)
    return seen | {"told": [first, again], "streams": await listed(client)}


async def unknown(session, base, name, **_):
    return await converse(session, base, name, sys.stdin.buffer.read().decode())


async def preload(client, name, source, wanted, **_):
    """The option "preload stream" of a camera, which was switched on or off."""
    before = sorted(await client.preload.list())
    if wanted == "on":
        await update(client, name, source)
        await client.preload.enable(name)
    else:
        await client.preload.disable(name)
    return {"before": before, "after": sorted(await client.preload.list())}


async def snapshot(client, name, source, width=None, height=None, **_):
    await update(client, name, source)
    start = time.monotonic()
    sizes = [size and int(size) for size in (width, height)]
    async with asyncio.timeout(PATIENCE):
        picture = await client.get_jpeg_snapshot(name, *sizes)
    return {
        "took": time.monotonic() - start,
        "bytes": len(picture),
        "complete": picture[:2] == b"\xff\xd8" and picture[-2:] == b"\xff\xd9",
        "size": size_of(picture),
    }


def size_of(jpeg):
    """Width and height out of the frame header (ITU-T T.81, B.2.2); none where there is no such."""
    at = 2
    while at + 9 <= len(jpeg) and jpeg[at] == 0xFF:
        marker, length = jpeg[at + 1], int.from_bytes(jpeg[at + 2 : at + 4])
        # 0xC4, 0xC8 and 0xCC lie among the frame headers and are none.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = (int.from_bytes(jpeg[at + i : at + i + 2]) for i in (5, 7))
            return [width, height]
        at += 2 + length
    return None


PROBES = {
    "version": (version, []),
    "setup": (setup, []),
    "view": (view, ["name", "source"]),
    "unknown": (unknown, ["name"]),
    "preload": (preload, ["name", "source", "wanted"]),
    "snapshot": (snapshot, ["name", "source", "width", "height"]),
}


async def main() -> None:
    command, base, *rest = sys.argv[1:]
    probe, names = PROBES[command]
    complaints = Complaints()
    LIBRARY.addHandler(complaints)
    async with aiohttp.ClientSession() as session:
        client = Go2RtcRestClient(session, base)
        seen = await probe(session=session, client=client, base=base, **dict(zip(names, rest)))
    release = importlib.metadata.version("go2rtc-client")
    print(json.dumps(seen | {"client": release, "complaints": complaints.texts}))


asyncio.run(main())
