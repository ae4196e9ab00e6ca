"""aiortc as a viewer: pictures and sound are decoded.

    aiortc_viewer.py '{"kinds": ["audio", "video"], "limit": 10}'

writes `{"offer": …}`, reads `{"answer": …}`, writes `{"received": …}`; a line of JSON each.

    aiortc_viewer.py '{"kinds": ["audio", "video"], "limit": 10, "whep": "http://…/whep/demo"}'

asks that endpoint itself and writes `{"received": …}`.
"""

import asyncio
import json
import sys
import time
import urllib.parse
import urllib.request

from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

# Pictures, and blocks of sound, that a viewer waits for.
ENOUGH = 60


async def count(track, frames):
    """Takes what is decoded, as a player would."""
    try:
        while True:
            await track.recv()
            frames[track.kind] += 1
    except MediaStreamError:
        pass


async def packets(receiver):
    """How many packets came and how many are missing, as reported to the sender."""
    for stats in (await receiver.getStats()).values():
        if stats.type == "inbound-rtp":
            return {"packets": stats.packetsReceived, "missing": stats.packetsLost}
    return {"packets": 0, "missing": 0}


def answer_of(offer):
    """The answer that whoever started this gives; None if the offer is refused."""
    print(json.dumps({"offer": offer}), flush=True)
    line = sys.stdin.readline()
    return json.loads(line)["answer"] if line else None


class Whep:
    """A session at a WHEP endpoint."""

    def __init__(self, endpoint):
        self.endpoint = endpoint
        self.url = None

    def answer_of(self, offer):
        headers = {"Content-Type": "application/sdp"}
        request = urllib.request.Request(self.endpoint, offer.encode(), headers)
        with urllib.request.urlopen(request) as reply:
            assert reply.status == 201, reply.status
            self.url = urllib.parse.urljoin(self.endpoint, reply.headers["Location"])
            return reply.read().decode()

    def leave(self):
        urllib.request.urlopen(urllib.request.Request(self.url, method="DELETE")).close()


async def watch(kinds, limit, whep=None):
    session = Whep(whep) if whep else None
    connection = RTCPeerConnection()
    frames = {kind: 0 for kind in kinds}
    counting = []
    connected = None

    @connection.on("track")
    def _(track):
        counting.append(asyncio.ensure_future(count(track, frames)))

    @connection.on("connectionstatechange")
    def _():
        nonlocal connected
        if connection.connectionState == "connected":
            connected = time.monotonic() - start

    for kind in kinds:
        connection.addTransceiver(kind, direction="recvonly")
    await connection.setLocalDescription(await connection.createOffer())
    start = time.monotonic()
    ask = session.answer_of if session else answer_of
    answer = await asyncio.to_thread(ask, connection.localDescription.sdp)
    if answer is None:
        return
    await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    end = time.monotonic() + limit
    while min(frames.values()) < ENOUGH and time.monotonic() < end:
        await asyncio.sleep(0.02)
    received = {"connected": connected, "took": time.monotonic() - start}
    for transceiver in connection.getTransceivers():
        kind = transceiver.kind
        received[kind] = {"frames": frames[kind], **await packets(transceiver.receiver)}
    if session:
        await asyncio.to_thread(session.leave)
    print(json.dumps({"received": received}), flush=True)
    await connection.close()


asyncio.run(watch(**json.loads(sys.argv[1])))
