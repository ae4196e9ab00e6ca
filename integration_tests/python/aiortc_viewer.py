"""aiortc as a viewer: pictures and sound are decoded.

    aiortc_viewer.py '{"kinds": ["audio", "video"], "limit": 10}'

writes `{"offer": …}`, reads `{"answer": …}`, writes `{"received": …}`; a line of JSON each.
"""

import asyncio
import json
import sys
import time

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


async def watch(kinds, limit):
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
    print(json.dumps({"offer": connection.localDescription.sdp}), flush=True)
    line = await asyncio.to_thread(sys.stdin.readline)
    if not line:
        return  # refused
    answer = json.loads(line)["answer"]
    await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    end = time.monotonic() + limit
    while min(frames.values()) < ENOUGH and time.monotonic() < end:
        await asyncio.sleep(0.02)
    received = {"connected": connected, "took": time.monotonic() - start}
    for transceiver in connection.getTransceivers():
        kind = transceiver.kind
        received[kind] = {"frames": frames[kind], **await packets(transceiver.receiver)}
    print(json.dumps({"received": received}), flush=True)
    await connection.close()


asyncio.run(watch(**json.loads(sys.argv[1])))
