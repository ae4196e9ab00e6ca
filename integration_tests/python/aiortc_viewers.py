"""aiortc as viewers of many cameras at once: their pictures are read and their sound is measured.

    aiortc_viewers.py '{"server": "http://…", "cameras": [["door", ["audio", "video"]]], "block": 16,
                        "enough": 25, "limit": 10}'

asks for these kinds of each camera in the dialect of RTSPtoWebRTC, and writes `{"viewers": […]}` in the end, in
the order of the cameras: status, error, tracks and verdicts of the reply; why the answer was not taken, if so;
how many pictures showed a number and how many did not; the tone.
"""

import asyncio
import base64
import concurrent.futures
import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

from measure import Sound, number_in

# Seconds of sound that make a tone; the first half second of a connection may have gaps.
HEARD = 1.2


def ask(server, camera, sdp):
    """Status and JSON of the server's reply to an offer."""
    form = {"url": camera, "sdp64": base64.b64encode(sdp.encode()).decode()}
    request = urllib.request.Request(f"{server}/stream", urllib.parse.urlencode(form).encode())
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as refusal:
        return refusal.code, json.load(refusal)


class Viewer:
    def __init__(self, block):
        self.block = block
        self.read, self.unreadable, self.sound = 0, 0, Sound()

    async def follow(self, track):
        take = self.see if track.kind == "video" else self.hear
        try:
            while True:
                take(await track.recv())
        except MediaStreamError:
            pass

    def see(self, frame):
        luma = frame.planes[0]
        if number_in(memoryview(luma), luma.line_size, self.block) is None:
            self.unreadable += 1
        else:
            self.read += 1

    def hear(self, frame):
        channels = len(frame.layout.channels)
        samples = memoryview(frame.planes[0])[: frame.samples * channels * 2]
        self.sound.add(samples.cast("h"), frame.sample_rate, channels)

    async def watch(self, server, camera, kinds, enough, limit):
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        following = []
        connection.on(
            "track", lambda track: following.append(asyncio.ensure_future(self.follow(track)))
        )
        for kind in kinds:
            connection.addTransceiver(kind, direction="recvonly")
        await connection.setLocalDescription(await connection.createOffer())
        offer = connection.localDescription.sdp
        status, reply = await asyncio.to_thread(ask, server, camera, offer)
        mistake = None
        if status == 200:
            answer = base64.b64decode(reply["sdp64"]).decode()
            try:
                await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
            except Exception as exception:
                # For the table, so that the others are in it too.
                mistake = f"{exception!r}"
            else:
                await self.enough(enough, "audio" in kinds, time.monotonic() + limit)
        told = [reply["verdict"]] if "verdict" in reply else reply.get("verdicts", [])
        seen = {
            "status": status,
            "error": reply.get("error"),
            "tracks": reply.get("tracks", []),
            "verdicts": [verdict["code"] for verdict in told],
            "mistake": mistake,
            "read": self.read,
            "unreadable": self.unreadable,
            "tone": self.sound.tone(),
        }
        await connection.close()
        return seen

    async def enough(self, pictures, wants_sound, end):
        while time.monotonic() < end and (
            self.read < pictures or (wants_sound and self.sound.seconds < HEARD)
        ):
            await asyncio.sleep(0.05)


async def watch_all(server, cameras, block, enough, limit):
    # All ask at once, and each waits for its camera.
    threads = concurrent.futures.ThreadPoolExecutor(len(cameras))
    asyncio.get_running_loop().set_default_executor(threads)
    viewers = [Viewer(block).watch(server, *camera, enough, limit) for camera in cameras]
    print(json.dumps({"viewers": await asyncio.gather(*viewers)}), flush=True)


asyncio.run(watch_all(**json.loads(sys.argv[1])))
