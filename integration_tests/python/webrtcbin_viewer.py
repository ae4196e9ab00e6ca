"""GStreamer's webrtcbin as a viewer: pictures and sound are decoded.

    webrtcbin_viewer.py '{"kinds": ["audio", "video"], "limit": 10}'

    webrtcbin_viewer.py '{"kinds": ["video"], "limit": 10, "video": "H265", "enough": 20}'

writes `{"offer": …}`, reads `{"answer": …}`, writes `{"received": …}`; a line of JSON each. With
`--check` it only tells by its exit status whether this machine has all that it needs. Of H.265 it also tells the
numbers that the pictures show, null where they cannot be read; and of sound the tone.
"""

import json
import struct
import sys
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

from measure import Sound, number_in  # noqa: E402

ELEMENTS = ["webrtcbin", "nicesrc", "dtlsdec", "srtpdec", "rtph264depay", "avdec_h264", "opusdec",
            "rtph265depay", "avdec_h265", "videoconvert"]
# What the offer takes, and how it is decoded.
CAPS = {
    "video": "application/x-rtp,media=video,encoding-name=H264,clock-rate=90000,payload=102,"
    "packetization-mode=(string)1,profile-level-id=(string)42e01f,rtcp-fb-nack=(boolean)true,"
    "rtcp-fb-nack-pli=(boolean)true",
    "H265": "application/x-rtp,media=video,encoding-name=H265,clock-rate=90000,payload=103,"
    "level-id=(string)156,profile-id=(string)1,tier-flag=(string)0,tx-mode=(string)SRST,"
    "rtcp-fb-nack=(boolean)true,rtcp-fb-nack-pli=(boolean)true",
    "audio": "application/x-rtp,media=audio,encoding-name=OPUS,clock-rate=48000,payload=111,"
    "encoding-params=(string)2",
}
DECODERS = {
    "video": "queue ! rtph264depay ! h264parse ! avdec_h264 ! fakesink name=sink sync=false",
    "H265": "queue ! rtph265depay ! h265parse ! avdec_h265 ! videoconvert ! video/x-raw,format=GRAY8"
    " ! fakesink name=sink sync=false",
    "audio": "queue ! rtpopusdepay ! opusdec ! audioconvert ! audio/x-raw,format=S16LE"
    " ! fakesink name=sink sync=false",
}
# Pictures, and blocks of sound, that a viewer waits for.
ENOUGH = 60


class Track:
    """What came of one kind."""

    def __init__(self, block):
        self.block = block
        self.sequences = []
        self.frames = 0
        self.first = None
        self.numbers = []
        self.sound = Sound()

    def packet(self, _pad, info):
        buffer = info.get_buffer()
        (sequence,) = struct.unpack_from("!2xH", buffer.extract_dup(0, 4))
        self.sequences.append(sequence)
        return Gst.PadProbeReturn.OK

    def frame(self, pad, info):
        if self.first is None:
            self.first = time.monotonic()
        self.frames += 1
        caps = pad.get_current_caps().get_structure(0)
        buffer = info.get_buffer()
        if caps.get_string("format") == "GRAY8":
            pixels = buffer.extract_dup(0, buffer.get_size())
            stride = len(pixels) // caps.get_value("height")
            self.numbers.append(number_in(pixels, stride, self.block))
        elif caps.get_string("format") == "S16LE":
            samples = memoryview(buffer.extract_dup(0, buffer.get_size())).cast("h")
            self.sound.add(samples, caps.get_value("rate"), caps.get_value("channels"))
        return Gst.PadProbeReturn.OK

    def report(self, start):
        seen = {(sequence - self.sequences[0]) & 0xFFFF for sequence in self.sequences}
        missing = max(seen) + 1 - len(seen) if seen else 0
        first = self.first and self.first - start
        return {"packets": len(seen), "missing": missing, "frames": self.frames, "first": first,
                "numbers": self.numbers, "tone": self.sound.tone()}


class Viewer:
    def __init__(self, kinds, limit, video="video", enough=ENOUGH, block=32):
        self.limit = limit
        self.enough = enough
        # What is offered and how it is decoded, by kind.
        self.codecs = {"video": video, "audio": "audio"}
        self.tracks = {kind: Track(block) for kind in kinds}
        self.loop = GLib.MainLoop()
        self.connected = None
        self.start = None
        self.pipeline = Gst.Pipeline()
        self.webrtc = Gst.ElementFactory.make("webrtcbin")
        self.webrtc.set_property("bundle-policy", GstWebRTC.WebRTCBundlePolicy.MAX_BUNDLE)
        self.pipeline.add(self.webrtc)
        self.webrtc.connect("pad-added", self.pad_added)
        self.webrtc.connect("notify::ice-gathering-state", self.gathering_changed)
        self.webrtc.connect("notify::connection-state", self.connection_changed)

    def run(self):
        self.pipeline.set_state(Gst.State.PLAYING)
        for kind in self.tracks:
            receive = GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY
            caps = Gst.Caps.from_string(CAPS[self.codecs[kind]])
            transceiver = self.webrtc.emit("add-transceiver", receive, caps)
            transceiver.set_property("do-nack", True)
        promise = Gst.Promise.new_with_change_func(self.offer_made)
        self.webrtc.emit("create-offer", None, promise)
        self.loop.run()
        received = {"connected": self.connected, "took": time.monotonic() - self.start}
        for kind, track in self.tracks.items():
            received[kind] = track.report(self.start)
        print(json.dumps({"received": received}), flush=True)
        self.pipeline.set_state(Gst.State.NULL)

    def offer_made(self, promise):
        # Named, as the offer lives as long as the reply.
        reply = promise.get_reply()
        offer = reply.get_value("offer")
        self.webrtc.emit("set-local-description", offer, None)

    def gathering_changed(self, *_):
        if self.webrtc.props.ice_gathering_state == GstWebRTC.WebRTCICEGatheringState.COMPLETE:
            # Not in webrtcbin's own thread, which must go on.
            GLib.idle_add(self.exchange)

    def exchange(self):
        if self.start is not None:
            return
        self.start = time.monotonic()
        offer = self.webrtc.props.local_description.sdp.as_text()
        print(json.dumps({"offer": offer}), flush=True)
        line = sys.stdin.readline()
        if not line:
            sys.exit("refused")
        _, sdp = GstSdp.SDPMessage.new_from_text(json.loads(line)["answer"])
        kind = GstWebRTC.WebRTCSDPType.ANSWER
        answer = GstWebRTC.WebRTCSessionDescription.new(kind, sdp)
        self.webrtc.emit("set-remote-description", answer, None)
        GLib.timeout_add(20, self.look, time.monotonic() + self.limit)

    def look(self, end):
        enough = all(track.frames >= self.enough for track in self.tracks.values())
        if enough or time.monotonic() >= end:
            self.loop.quit()
        return True

    def connection_changed(self, *_):
        connected = GstWebRTC.WebRTCPeerConnectionState.CONNECTED
        if self.webrtc.props.connection_state == connected and self.connected is None:
            self.connected = time.monotonic() - self.start

    def pad_added(self, _webrtc, pad):
        if pad.get_direction() != Gst.PadDirection.SRC:
            return
        kind = pad.get_current_caps().get_structure(0).get_string("media")
        track = self.tracks[kind]
        pad.add_probe(Gst.PadProbeType.BUFFER, track.packet)
        decoder = Gst.parse_bin_from_description(DECODERS[self.codecs[kind]], True)
        sink = decoder.get_by_name("sink").get_static_pad("sink")
        sink.add_probe(Gst.PadProbeType.BUFFER, track.frame)
        self.pipeline.add(decoder)
        decoder.sync_state_with_parent()
        pad.link(decoder.get_static_pad("sink"))


Gst.init(None)
if sys.argv[1] == "--check":
    sys.exit(any(Gst.ElementFactory.find(name) is None for name in ELEMENTS))
Viewer(**json.loads(sys.argv[1])).run()
