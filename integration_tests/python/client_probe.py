"""Home Assistant's own client library, `rtsp-to-webrtc`, against a running server.

    client_probe.py BASE_URL CAMERA_URL DEAD_CAMERA_URL < OFFER

prints one line per probe and ends with status 1 and a reason at the first that fails. The camera must
be one that can be watched, the dead camera one that nobody answers for.
"""

import asyncio
import base64
import importlib.metadata
import sys
import time

import aiohttp
from rtsp_to_webrtc.client import Client, get_adaptive_client, get_diagnostics
from rtsp_to_webrtc.exceptions import ResponseError
from rtsp_to_webrtc.webrtc_client import WebRTCClient

STREAM = "camera.front_door"
# Home Assistant waits this long, in seconds.
PATIENCE = 10


class Failed(Exception):
    """A probe did not hold; the text says what was seen."""


def hold(condition: bool, seen: str) -> None:
    if not condition:
        raise Failed(seen)


async def heartbeat(session, base, **_):
    """C1: the heartbeat of the config flow is answered"""
    await Client(session, base).heartbeat()


async def discovery(session, base, **_):
    """C2: the adaptive client takes the server for an RTSPtoWebRTC"""
    client = await get_adaptive_client(session, base)
    hold(isinstance(client, WebRTCClient), f"the client is a {type(client).__name__}")


async def offer(session, base, camera, offer, **_):
    """C3: an offer is answered with a session description in time"""
    client = await get_adaptive_client(session, base)
    start = time.monotonic()
    answer = await client.offer_stream_id(STREAM, offer, camera)
    took = time.monotonic() - start
    hold(answer.startswith("v=0\r\n"), f"the answer is {answer!r}")
    hold("a=candidate:" in answer, "the answer has no candidate")
    hold(took < PATIENCE, f"the answer took {took:.1f} s")


async def refusal(session, base, dead, offer, **_):
    """C4: the reason for a failure reaches the client as a ResponseError"""
    form = {"url": dead, "sdp64": base64.b64encode(offer.encode()).decode()}
    async with session.post(f"{base}/stream", data=form) as response:
        reason = (await response.json())["error"]
    client = await get_adaptive_client(session, base)
    try:
        await client.offer_stream_id(STREAM, offer, dead)
    except ResponseError as error:
        hold(reason in str(error), f"{error} does not tell {reason!r}")
    else:
        raise Failed("a dead camera was answered for")


async def prefix(session, base, camera, offer, **_):
    """C5: a path in the configured URL does no harm"""
    client = await get_adaptive_client(session, f"{base}/prefix/")
    answer = await client.offer_stream_id(STREAM, offer, camera)
    hold(answer.startswith("v=0\r\n"), f"the answer is {answer!r}")


async def credentials(session, base, camera, offer, **_):
    """C6: a user name and password in the configured URL do no harm"""
    client = await get_adaptive_client(session, base.replace("://", "://user:p%3Aw@"))
    await client.heartbeat()
    answer = await client.offer_stream_id(STREAM, offer, camera)
    hold(answer.startswith("v=0\r\n"), f"the answer is {answer!r}")


async def counters(**_):
    """Diagnostics: what succeeded is counted as such, and nothing was malformed"""
    seen = get_diagnostics()
    hold(seen["webrtc"].get("stream.success", 0) >= 3, f"the counters are {seen}")
    hold(seen["discovery"].get("webrtc.failure", 0) == 0, f"the counters are {seen}")


PROBES = [heartbeat, discovery, offer, refusal, prefix, credentials, counters]


async def main() -> int:
    base, camera, dead = sys.argv[1:]
    # `read` would turn CR LF into LF.
    text = sys.stdin.buffer.read().decode()
    version = importlib.metadata.version("rtsp-to-webrtc")
    async with aiohttp.ClientSession() as session:
        for probe in PROBES:
            try:
                await probe(session=session, base=base, camera=camera, dead=dead, offer=text)
            except Exception as error:  # any other type than expected is a finding as well
                print(f"FAILED {probe.__doc__}: {type(error).__name__}: {error}")
                return 1
            print(f"{version} ok {probe.__doc__}")
    return 0


sys.exit(asyncio.run(main()))
