#!/usr/bin/python3
"""A live RTSP camera on GStreamer's RTSP server, told what to be by its arguments.

Tells what happens to it as JSON lines on standard output: `listening`, `connected`, `request`,
`closed`, and each half second of what is `heard` through its back channel. The picture is a function of the time since `--epoch` alone, so viewers see the same
picture at the same time, and a restarted camera shows what it would have shown anyway.
"""

import argparse
import array
import functools
import gc
import json
import sys
import threading
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstApp, GstRtsp, GstRtspServer  # noqa: E402, F401

SECOND = 1_000_000_000
G711_FRAME = 160

# codec: how its access units are cut out of a Matroska file, what packs them, payload type
CODECS = {
    "h264": ("h264parse ! video/x-h264,stream-format=avc,alignment=au", "rtph264pay", 96),
    "h265": ("h265parse ! video/x-h265,stream-format=hvc1,alignment=au", "rtph265pay", 96),
    "mjpeg": ("jpegparse", "rtpjpegpay", 26),
    "pcmu": ("identity", "rtppcmupay", 0),
    "pcma": ("identity", "rtppcmapay", 8),
    "opus": ("opusparse", "rtpopuspay", 97),
    "aac": ("aacparse ! audio/mpeg,stream-format=raw", "rtpmp4gpay", 97),
    "latm": ("aacparse ! audio/mpeg,stream-format=raw", "rtpmp4apay", 97),
    # Coded by the camera: a Matroska file has plain samples.
    "l16": ("identity", "audioconvert ! rtpL16pay", 97),
    "g722": ("identity", "avenc_g722 ! rtpg722pay", 9),
    "g726": ("identity", "avenc_g726 bitrate=32000 ! rtpg726pay", 97),
}


# What is said through the back channel: payload type, its name, what unpacks it
SPEECH = {"pcmu": (0, "PCMU", "rtppcmudepay ! mulawdec"), "pcma": (8, "PCMA", "rtppcmadepay ! alawdec")}
SPEECH_RATE = 8000


def tell(event, **facts):
    """One event, as a line that the harness reads; in one write, as several threads tell."""
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()


class Clip:
    """The access units of one track, which repeat for ever."""

    def __init__(self, codec, file, fps):
        self.codec = codec
        cut = CODECS[codec][0]
        pipeline = Gst.parse_launch(
            f"filesrc name=file ! matroskademux ! {cut} ! appsink name=units sync=false"
        )
        pipeline.get_by_name("file").set_property("location", file)
        sink = pipeline.get_by_name("units")
        pipeline.set_state(Gst.State.PLAYING)
        self.units, self.caps, shown = [], None, []
        while (sample := sink.emit("pull-sample")) is not None:
            self.caps = sample.get_caps()
            buffer = sample.get_buffer()
            self.units.append(buffer.extract_dup(0, buffer.get_size()))
            shown.append(buffer.pts)
        pipeline.set_state(Gst.State.NULL)
        if not self.units:
            sys.exit(f"nothing to play in {file}")
        rate = self.caps.get_structure(0).get_int("rate").value
        if codec in ("pcmu", "pcma", "l16", "g722", "g726"):
            # Matroska's blocks are longer than the 20 ms that telephony sends at once.
            sound = b"".join(self.units)
            frame = G711_FRAME if codec in ("pcmu", "pcma") else rate // 50 * 2
            whole = len(sound) // frame * frame
            self.units = [sound[i : i + frame] for i in range(0, whole, frame)]
        self.duration = {
            "pcmu": SECOND // 50,
            "pcma": SECOND // 50,
            "opus": SECOND // 50,
            "l16": SECOND // 50,
            "g722": SECOND // 50,
            "g726": SECOND // 50,
            "aac": 1024 * SECOND // max(rate, 1),
            "latm": 1024 * SECOND // max(rate, 1),
        }.get(codec, SECOND // fps)
        # How much earlier a picture is shown than the one that waits longest for others sent before.
        self.shifts = [0] * len(self.units)
        if codec == "h264":
            shifts = [pts - n * self.duration for n, pts in enumerate(shown)]
            self.shifts = [shift - max(shifts) for shift in shifts]


class Broadcast(threading.Thread):
    """Feeds one opened media at the pace of the clock, until it is closed."""

    def __init__(self, clips, media, epoch):
        super().__init__(daemon=True)
        self.epoch, self.closed = epoch, threading.Event()
        element = media.get_element()
        self.sources = [element.get_by_name_recurse_up(f"source{i}") for i in range(len(clips))]
        self.clips = clips
        for source, clip in zip(self.sources, clips):
            source.set_property("caps", clip.caps)
        media.connect("unprepared", lambda _media: self.closed.set())

    def run(self):
        start = time.time_ns() - self.epoch
        turn = [start // clip.duration + 1 for clip in self.clips]
        offset = None
        while True:
            dues = [n * clip.duration for n, clip in zip(turn, self.clips)]
            due = min(dues)
            track = dues.index(due)
            wait = self.epoch + due - time.time_ns()
            if self.closed.wait(max(0, wait) / SECOND):
                return
            source, clip, n = self.sources[track], self.clips[track], turn[track]
            turn[track] += 1
            clock, base = source.get_clock(), source.get_base_time()
            if clock is None or base == 0:
                continue  # The pipeline does not run yet: a live camera does not wait.
            if offset is None:
                running = clock.get_time() - base
                offset = running - (time.time_ns() - self.epoch)
            place = n % len(clip.units)
            buffer = Gst.Buffer.new_wrapped(clip.units[place])
            buffer.pts = max(0, due + offset + clip.shifts[place])
            buffer.duration = clip.duration
            source.emit("push-buffer", buffer)


class Ears:
    """Tells how loud what comes through the back channel is, and its tone."""

    def __init__(self, sink):
        self.samples = array.array("h")
        sink.connect("new-sample", self.take)

    def take(self, sink):
        buffer = sink.emit("pull-sample").get_buffer()
        self.samples.frombytes(buffer.extract_dup(0, buffer.get_size()))
        if len(self.samples) >= SPEECH_RATE // 2:
            now, self.samples = self.samples, array.array("h")
            rising = sum(a < 0 <= b for a, b in zip(now, now[1:]))
            tell("heard", hertz=rising * SPEECH_RATE / len(now), loudest=max(map(abs, now)))
        return Gst.FlowReturn.OK


class Camera:
    """One media, shared by everybody who watches."""

    def __init__(self, options, clips):
        self.clips, self.epoch = clips, options.epoch
        if options.back_channel:
            self.factory = GstRtspServer.RTSPOnvifMediaFactory.new()
            self.factory.set_media_gtype(GstRtspServer.RTSPOnvifMedia.__gtype__)
            number, name, unpack = SPEECH[options.back_channel]
            self.factory.set_backchannel_launch(
                f'( capsfilter name=depay_backchannel caps="application/x-rtp,media=audio,'
                f'payload={number},clock-rate={SPEECH_RATE},encoding-name={name}" ! {unpack}'
                " ! audioconvert ! audio/x-raw,format=S16LE,channels=1"
                " ! appsink name=ears emit-signals=true sync=false async=false )"
            )
        else:
            self.factory = GstRtspServer.RTSPMediaFactory()
        tracks = []
        # Who speaks takes no other track, of which GStreamer's server would complain now and then, and not
        # hear anything any more.
        lenient = "errorignore ignore-notlinked=true convert-to=ok !" if options.back_channel else ""
        for i, clip in enumerate(clips):
            _, payloader, payload_type = CODECS[clip.codec]
            extra = ""
            if clip.codec in ("h264", "h265"):
                # 0: parameter sets are in the SDP only; -1: before each key frame too.
                extra = f"config-interval={-1 if options.parameter_sets_in_band else 0}"
            if clip.codec == "h264":
                extra += " aggregate-mode=none"
            mtu = options.mtu if i == 0 else 1400
            tracks.append(
                f"appsrc name=source{i} is-live=true format=time block=false"
                f" ! {lenient} {payloader} name=pay{i} pt={payload_type} mtu={mtu} {extra}"
            )
        self.factory.set_launch(f"( {' '.join(tracks)} )")
        self.factory.set_shared(True)
        self.factory.set_stop_on_disconnect(True)
        self.factory.set_latency(0)
        self.factory.set_enable_rtcp(not options.no_sender_reports)
        lower = GstRtsp.RTSPLowerTrans
        self.factory.set_protocols(
            {"tcp": lower.TCP, "udp": lower.UDP, "any": lower.TCP | lower.UDP}[options.transport]
        )
        self.factory.connect("media-configure", self.configure)

    def configure(self, _factory, media):
        if sink := media.get_element().get_by_name_recurse_up("ears"):
            Ears(sink)
        Broadcast(self.clips, media, self.epoch).start()


def demand_password(server, camera, options):
    """Makes the camera refuse whoever does not know user and password."""
    role = GstRtspServer.RTSPToken()
    role.set_string("media.factory.role", "viewer")
    auth = GstRtspServer.RTSPAuth()
    if options.auth == "digest":
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(options.user, options.password, role)
    else:
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.BASIC)
        secret = GstRtspServer.RTSPAuth.make_basic(options.user, options.password)
        auth.add_basic(secret, role)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    for what in ("access", "construct"):
        permissions.add_permission_for_role("viewer", f"media.factory.{what}", True)
    camera.factory.set_permissions(permissions)


def watch_clients(server):
    """Tells of each client's coming, going and requests."""
    numbers = iter(range(1, sys.maxsize))

    def connected(_server, client):
        number = next(numbers)
        tell("connected", client=number)
        client.connect("closed", lambda _client: tell("closed", client=number))
        for method in ("OPTIONS", "DESCRIBE", "SETUP", "PLAY", "PAUSE", "TEARDOWN",
                       "GET_PARAMETER", "SET_PARAMETER"):
            client.connect(
                f"{method.lower().replace('_', '-')}-request",
                lambda _client, _context, method=method: tell(
                    "request", client=number, method=method
                ),
            )

    server.connect("client-connected", connected)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", required=True)
    parser.add_argument("--epoch", type=int, required=True, help="Unix time of picture 0, in ns")
    parser.add_argument("--fps", type=int, default=25)
    parser.add_argument("--track", action="append", default=[], metavar="CODEC=FILE")
    parser.add_argument("--mount", action="append", nargs="+", default=[],
                        metavar=("PATH", "CODEC=FILE"), help="one more camera, without password")
    parser.add_argument("--transport", choices=["any", "tcp", "udp"], default="any")
    parser.add_argument("--mtu", type=int, default=1400)
    parser.add_argument("--parameter-sets-in-band", action="store_true")
    parser.add_argument("--no-sender-reports", action="store_true")
    parser.add_argument("--back-channel", choices=SPEECH)
    parser.add_argument("--auth", choices=["digest", "basic"])
    parser.add_argument("--user")
    parser.add_argument("--password")
    options = parser.parse_args()

    Gst.init(None)
    # Cameras share what they play.
    clip_of = functools.cache(lambda track: Clip(*track.split("=", 1), options.fps))
    onvif = GstRtspServer.RTSPOnvifServer
    server = onvif.new() if options.back_channel else GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(options.port)
    if options.track:
        camera = Camera(options, [clip_of(track) for track in options.track])
        if options.auth:
            demand_password(server, camera, options)
        # Cameras decode percent-encoded paths, GStreamer's server does not.
        for path in ("/live", "/%6Cive"):
            server.get_mount_points().add_factory(path, camera.factory)
    for path, *tracks in options.mount:
        camera = Camera(options, [clip_of(track) for track in tracks])
        server.get_mount_points().add_factory(path, camera.factory)
    watch_clients(server)
    if server.attach(None) == 0:
        sys.exit(f"port {options.port} is taken")
    # Sessions whose client vanished end here, not by themselves.
    GLib.timeout_add_seconds(2, lambda: server.get_session_pool().cleanup() >= 0)
    # The collector would run finalizers of GStreamer's objects on a feeding thread.
    gc.disable()
    tell("listening", port=server.get_bound_port())
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
