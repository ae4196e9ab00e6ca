"""The client library `rtsp-to-webrtc` against a server that speaks the dialect of RTSPtoWeb as well.

    web_client_probe.py BASE_URL CAMERA_URL OTHER_CAMERA_URL DEAD_CAMERA_URL < OFFER

prints one line per probe and ends with status 1 and a reason at the first that fails. The two cameras
must be ones that can be watched, the dead one one that nobody answers for. BASE_URL has the user name
and password that the server wants.
"""

import asyncio
import importlib.metadata
import sys
import time

import aiohttp
from rtsp_to_webrtc.client import Client, get_adaptive_client, get_diagnostics
from rtsp_to_webrtc.exceptions import ResponseError
from rtsp_to_webrtc.web_client import WebClient

STREAM = "camera.front_door"
# Home Assistant waits this long, in seconds.
PATIENCE = 10


class Failed(Exception):
    """A probe did not hold; the text says what was seen."""


def hold(condition: bool, seen: str) -> None:
    if not condition:
        raise Failed(seen)


async def heartbeat(session, base, **_):
    """the heartbeat of the config flow is answered"""
    await Client(session, base).heartbeat()


async def discovery(session, base, **_):
    """C2: the adaptive client takes the server for an RTSPtoWeb, with nothing in it yet"""
    client = await get_adaptive_client(session, base)
    hold(isinstance(client, WebClient), f"the client is a {type(client).__name__}")
    streams = await client.list_streams()
    hold(streams == {}, f"the streams are {streams}")


async def watched(client, offer, camera):
    start = time.monotonic()
    answer = await client.offer_stream_id(STREAM, offer, camera)
    took = time.monotonic() - start
    hold(answer.startswith("v=0\r\n"), f"the answer is {answer!r}")
    hold("a=candidate:" in answer, "the answer has no candidate")
    hold(took < PATIENCE, f"the answer took {took:.1f} s")


async def offer(session, base, camera, offer, **_):
    """C3: an offer for a new stream is answered in time, and again once it is known"""
    client = await get_adaptive_client(session, base)
    await watched(client, offer, camera)
    await watched(client, offer, camera)
    info = await client.get_stream_info(STREAM)
    channel = info["channels"]["0"]
    hold(channel["url"] == camera and channel["status"] == 1, f"the stream is {info}")
    seen = get_diagnostics()["web"]
    hold(seen.get("add_stream.success") == 1, f"the counters are {seen}")
    hold("update_stream.request" not in seen, f"the counters are {seen}")


async def other_camera(session, base, other, offer, **_):
    """a stream that has another camera now is changed; its password is not shown"""
    client = await get_adaptive_client(session, base)
    await watched(client, offer, other)
    shown = str(await client.list_streams())
    hold("hunter2" not in shown and "***" in shown, f"the streams are {shown}")
    # As the list has not what it has sent, the client changes the stream each time.
    await watched(client, offer, other)
    seen = get_diagnostics()["web"]
    hold(seen.get("update_stream.success") == 2, f"the counters are {seen}")


async def unnamed(session, base, camera, offer, **_):
    """a stream that is named by the digest of its URL is served"""
    client = await get_adaptive_client(session, base)
    answer = await client.offer(offer, camera)
    hold(answer.startswith("v=0\r\n"), f"the answer is {answer!r}")


async def channel(session, base, camera, **_):
    """a further channel can be added, changed and deleted"""
    client = await get_adaptive_client(session, base)
    await client.add_channel(STREAM, "1", {"name": "ch2", "url": camera})
    await client.update_channel(STREAM, "1", {"name": "ch2", "url": camera, "audio": False})
    info = await client.get_channel_info(STREAM, "1")
    hold(info["url"] == camera and "audio" not in info, f"the channel is {info}")
    await client.reload_channel(STREAM, "1")
    await client.delete_channel(STREAM, "1")


async def refusal(session, base, dead, offer, **_):
    """C4: the reason for a failure reaches the client as a ResponseError"""
    client = await get_adaptive_client(session, base)
    try:
        await client.offer_stream_id("camera.dead", offer, dead)
    except ResponseError as error:
        hold("127.0.0.1" in str(error), f"{error} does not tell which camera")
    else:
        raise Failed("a dead camera was answered for")


async def deletion(session, base, **_):
    """streams can be reloaded and deleted; twice is told"""
    client = await get_adaptive_client(session, base)
    for name in list(await client.list_streams()):
        await client.reload_stream(name)
        await client.delete_stream(name)
    hold(await client.list_streams() == {}, "something is left")
    try:
        await client.delete_stream(STREAM)
    except ResponseError as error:
        hold("stream not found" in str(error), str(error))
    else:
        raise Failed("a stream was deleted twice")


async def stranger(session, base, **_):
    """C6: without the user name and password nothing is listed"""
    bare = base.split("@")[-1]
    try:
        await WebClient(session, f"http://{bare}").list_streams()
    except ResponseError as error:
        hold("Unauthorized" in str(error), str(error))
    else:
        raise Failed("a stranger was let in")


PROBES = [
    heartbeat, discovery, offer, other_camera, unnamed, channel, refusal, deletion, stranger,
]


async def main() -> int:
    base, camera, other, dead = sys.argv[1:]
    # `read` would turn CR LF into LF.
    text = sys.stdin.buffer.read().decode()
    version = importlib.metadata.version("rtsp-to-webrtc")
    async with aiohttp.ClientSession() as session:
        for probe in PROBES:
            try:
                await probe(
                    session=session, base=base, camera=camera, other=other, dead=dead, offer=text
                )
            except Exception as error:  # any other type than expected is a finding as well
                print(f"FAILED {probe.__doc__}: {type(error).__name__}: {error}")
                return 1
            print(f"{version} ok {probe.__doc__}")
    return 0


sys.exit(asyncio.run(main()))
