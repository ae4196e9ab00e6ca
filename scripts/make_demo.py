#!/usr/bin/env python3
"""Parts of make_demo.sh that a shell cannot do: drawing, tones, packing, checks.

Standard library only, so that the demo camera's media can be rebuilt on any
machine that has ffmpeg and the DejaVu fonts.

    make_demo.py frames DIR             one SVG per picture of the loop
    make_demo.py tone RATE LOOPS        the tone, raw s16le mono, to stdout
    make_demo.py opus OGG FIRST COUNT   packets of an Ogg Opus file, to stdout
    make_demo.py ogg BIN                the reverse: Ogg Opus file, to stdout
    make_demo.py check-video H264 GRAY  headers of H264, frame codes in GRAY
    make_demo.py check-level S16 NAME   level of raw s16le audio
"""

import math
import os
import struct
import sys

WIDTH, HEIGHT = 640, 360
FPS = 25
# Every motion below fits a whole number of times into the loop, or it would
# show a jump. A minute would suit the clock better, but a key frame a second
# leaves too few bits for one.
SECONDS = 30
FRAMES = FPS * SECONDS

# The frame number, for programs that look at the picture (latency and
# smoothness tests): bits as squares, least significant first, and under them
# the same bits inverted, so that a reader can tell a code from anything else.
# The squares are macroblock-sized and macroblock-aligned. This keeps them crisp
# at any quantiser and makes them cheap: each is one flat macroblock.
CODE_BITS = 11
CODE_BLOCK = 16

TONE_SECONDS = 2
TONE_RMS_DBFS = -23.0


# --- picture ---------------------------------------------------------------

NAVY = "#0b1828"
CREAM = "#f3ead7"
BRASS = "#d9a755"

# The porthole: centre, radius of the glass, outer radius of the brass ring,
# radius of the bead's track.
CX, CY = 448, 182
GLASS, RING, TRACK = 116, 146, 159

# Waves, back to front: (y of the mean level, amplitude, wavelength, pixels per
# frame, colour). They move by whole pixels, which a motion vector describes for
# free; anything in between would have to be coded again in every picture. The
# 750 px of a loop are a whole number of each wavelength.
WAVES = (
    (206, 4.0, 75, 1, "#2f7d95"),
    (230, 5.0, 125, -1, "#1f5c7a"),
    (256, 6.0, 150, 1, "#123b55"),
)


def polar(radius, turns):
    """Point on a circle round the porthole; turns are clockwise from the top."""
    a = 2 * math.pi * turns
    return CX + radius * math.sin(a), CY - radius * math.cos(a)


def wave(n, level, amplitude, length, speed, colour):
    shift = speed * n
    left, right, bottom = CX - GLASS - 4, CX + GLASS + 4, CY + GLASS + 4
    points = []
    for x in range(left, right + 1, 4):
        y = level + amplitude * math.sin(2 * math.pi * (x - shift) / length)
        points.append(f"{x},{y:.2f}")
    points += [f"{right},{bottom}", f"{left},{bottom}"]
    return f'<polygon points="{" ".join(points)}" fill="{colour}"/>'


def boat(n):
    # Both periods divide the loop, but not each other: together they do not
    # look mechanical.
    t = n / FPS
    y = 222 + 2.5 * math.sin(2 * math.pi * t / 3)
    roll = 4 * math.sin(2 * math.pi * t / 5)
    return (
        f'<g transform="translate({CX + 26} {y:.2f}) rotate({roll:.2f})">'
        f'<path d="M-30 0 H30 L21 15 H-20 Z" fill="#7a3b2e"/>'
        f'<rect x="-1.5" y="-66" width="3" height="67" fill="#4a2a22"/>'
        f'<path d="M4 -64 Q26 -32 29 -6 H4 Z" fill="{CREAM}"/>'
        f'<path d="M-4 -56 Q-12 -28 -25 -6 H-4 Z" fill="#e2cda6"/>'
        f"</g>"
    )


def bead(n):
    """A bead that goes round the ring once a loop."""
    x, y = polar(TRACK, n / FRAMES)
    return f'<circle cx="{x:.2f}" cy="{y:.2f}" r="6.5" fill="{CREAM}"/>'


def code(n):
    squares = []
    for bit in range(CODE_BITS):
        value = n >> bit & 1
        for row, lit in enumerate((value, 1 - value)):
            squares.append(
                f'<rect x="{bit * CODE_BLOCK}" y="{row * CODE_BLOCK}" '
                f'width="{CODE_BLOCK}" height="{CODE_BLOCK}" '
                f'fill="{"#fff" if lit else "#000"}"/>'
            )
    return "".join(squares)


def still_parts():
    """What does not move, as (below the moving sea, above it)."""
    sky = (
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#27506f"/>'
        # Flat steps rather than a gradient: they cost almost nothing, and
        # cannot show the banding that a gradient gets at this bit rate.
        f'<circle cx="{CX - 40}" cy="196" r="128" fill="#4d7286"/>'
        f'<circle cx="{CX - 40}" cy="196" r="92" fill="#98897c"/>'
        f'<circle cx="{CX - 40}" cy="196" r="60" fill="#dfa36c"/>'
        f'<circle cx="{CX - 40}" cy="196" r="34" fill="#ffdf9b"/>'
    )
    bolts = []
    for hour in range(12):
        x, y = polar((GLASS + RING) / 2 + 1, hour / 12)
        bolts.append(
            f'<circle cx="{x:.2f}" cy="{y:.2f}" r="5.5" fill="#8a5f22"/>'
            f'<circle cx="{x - 0.8:.2f}" cy="{y - 0.8:.2f}" r="3.8" fill="#f0cd86"/>'
        )
    middle = (GLASS + RING) / 2
    x0, y0 = polar(GLASS - 13, -0.20)
    x1, y1 = polar(GLASS - 13, -0.07)
    above = (
        # A reflection on the glass.
        f'<path d="M{x0:.2f} {y0:.2f} A{GLASS - 13} {GLASS - 13} 0 0 1 {x1:.2f} {y1:.2f}" '
        f'fill="none" stroke="#fff" stroke-opacity="0.28" stroke-width="7" stroke-linecap="round"/>'
        # The ring: body, lit edge, inner rim.
        f'<circle cx="{CX}" cy="{CY}" r="{TRACK}" fill="none" stroke="#2b4259" stroke-width="2"/>'
        f'<circle cx="{CX}" cy="{CY}" r="{middle}" fill="none" '
        f'stroke="url(#brass)" stroke-width="{RING - GLASS}"/>'
        f'<circle cx="{CX}" cy="{CY}" r="{GLASS + 2}" fill="none" stroke="#6b4717" stroke-width="5"/>'
        f'<circle cx="{CX}" cy="{CY}" r="{RING - 1}" fill="none" stroke="#f0cd86" stroke-width="2"/>'
        + "".join(bolts)
        + f'<g font-family="DejaVu Sans" fill="{CREAM}">'
        f'<text x="38" y="160" font-size="46" font-weight="bold">Porthole</text>'
        f'<text x="41" y="190" font-size="19" fill="{BRASS}" letter-spacing="2.2">demo camera</text>'
        f"</g>"
        f'<rect x="41" y="212" width="214" height="2" fill="#24384e"/>'
    )
    return sky, above


def frames(directory):
    sky, above = still_parts()
    for n in range(FRAMES):
        seconds, rest = divmod(n, FPS)
        clock = f"{seconds // 60:02}:{seconds % 60:02}.{rest * 100 // FPS:02}"
        back, middle, front = (wave(n, *w) for w in WAVES)
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
            f'viewBox="0 0 {WIDTH} {HEIGHT}"><defs>'
            f'<clipPath id="glass"><circle cx="{CX}" cy="{CY}" r="{GLASS}"/></clipPath>'
            f'<linearGradient id="brass" x1="0" y1="0" x2="1" y2="1">'
            f'<stop offset="0" stop-color="#e8bd6d"/><stop offset="1" stop-color="#a87530"/>'
            f"</linearGradient></defs>"
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{NAVY}"/>'
            f'<g clip-path="url(#glass)">{sky}{back}{boat(n)}{middle}{front}</g>'
            f"{above}{bead(n)}"
            f'<text x="40" y="252" font-family="DejaVu Sans" font-size="30" '
            f'fill="{CREAM}">{clock}</text>'
            f'<g shape-rendering="crispEdges">{code(n)}</g></svg>'
        )
        with open(os.path.join(directory, f"{n:04}.svg"), "w") as f:
            f.write(svg)


# --- sound -----------------------------------------------------------------


def tone(rate, loops):
    """A quiet open chord (A, E, A) that swells once a second.

    Each frequency is a multiple of 0.5 Hz, so that all of them end a 2 s loop
    where they began it. The lone half makes two partials beat slowly, which
    sounds less like test equipment. The swell never reaches zero: a silent
    moment would look like a lost stream to a level meter.
    """
    partials = ((220, 1.0), (330, 0.55), (440, 0.4), (440.5, 0.25), (660, 0.08))
    total = rate * TONE_SECONDS
    loop = []
    for i in range(total):
        t = i / rate
        swell = 0.72 + 0.28 * math.cos(2 * math.pi * t)
        loop.append(swell * sum(a * math.sin(2 * math.pi * f * t) for f, a in partials))
    rms = math.sqrt(sum(s * s for s in loop) / total)
    gain = 32768 * 10 ** (TONE_RMS_DBFS / 20) / rms
    pcm = struct.pack(f"<{total}h", *(round(gain * s) for s in loop))
    sys.stdout.buffer.write(pcm * loops)


def ogg_packets(data):
    """Packets of the only logical stream of an Ogg file."""
    packets, partial, at = [], b"", 0
    while at < len(data):
        if data[at : at + 4] != b"OggS":
            sys.exit(f"no Ogg page at byte {at}")
        lacing = data[at + 27 : at + 27 + data[at + 26]]
        at += 27 + len(lacing)
        for size in lacing:
            partial += data[at : at + size]
            at += size
            # A segment of 255 bytes says that its packet goes on.
            if size < 255:
                packets.append(partial)
                partial = b""
    return packets


def opus(path, first, count):
    with open(path, "rb") as f:
        packets = ogg_packets(f.read())
    if packets[0][:8] != b"OpusHead" or packets[1][:8] != b"OpusTags":
        sys.exit(f"{path} is not Ogg Opus")
    chosen = packets[2:][first : first + count]
    if len(chosen) != count:
        sys.exit(f"{path} has too few packets")
    # RFC 6716, section 3.1: all packets must be alike in duration (20 ms, one
    # frame each) for the server to pace them without parsing.
    for p in chosen:
        config, frame_count_code = p[0] >> 3, p[0] & 3
        twenty_ms = (1, 5, 9, 13, 15, 19, 23, 27, 31)
        if frame_count_code != 0 or config not in twenty_ms:
            sys.exit("an Opus packet is not a single 20 ms frame")
    kinds = sorted({p[0] for p in chosen})
    print("opus TOC bytes:", " ".join(f"{k:02x}" for k in kinds), file=sys.stderr)
    for p in chosen:
        sys.stdout.buffer.write(struct.pack(">H", len(p)) + p)


def read_opus(path):
    with open(path, "rb") as f:
        data = f.read()
    packets, at = [], 0
    while at < len(data):
        (size,) = struct.unpack_from(">H", data, at)
        packets.append(data[at + 2 : at + 2 + size])
        at += 2 + size
    return packets


def ogg_crc(data):
    crc = 0
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    return crc


def ogg(path):
    """Ogg Opus file that plays the packets three times, to hear both seams."""
    packets = read_opus(path) * 3
    channels = 2 if packets[0][0] & 4 else 1
    head = b"OpusHead" + struct.pack("<BBHIhB", 1, channels, 0, 48000, 0, 0)
    tags = b"OpusTags" + struct.pack("<I", 0) + struct.pack("<I", 0)
    for i, p in enumerate([head, tags] + packets):
        flags = 2 if i == 0 else 4 if i == len(packets) + 1 else 0
        granule = max(0, i - 1) * 960
        lacing = b"\xff" * (len(p) // 255) + bytes([len(p) % 255])
        page = [
            b"OggS\0" + struct.pack("<BQII", flags, granule, 1, i),
            b"\0\0\0\0",
            bytes([len(lacing)]) + lacing + p,
        ]
        page[1] = struct.pack("<I", ogg_crc(b"".join(page)))
        sys.stdout.buffer.write(b"".join(page))


# --- checks ----------------------------------------------------------------


def check_video(h264, gray):
    with open(h264, "rb") as f:
        data = f.read()
    units, at = [], data.find(b"\0\0\1")
    while at >= 0:
        after = data.find(b"\0\0\1", at + 3)
        unit = data[at + 3 : after if after >= 0 else len(data)]
        units.append(unit.rstrip(b"\0"))
        at = after
    # Pictures and what stands before each: an IDR needs its parameter sets in
    # front of it, because a viewer may join there.
    pending, pictures, largest_idr = [], 0, 0
    for unit in units:
        kind = unit[0] & 31
        if kind not in (1, 5):
            pending.append(kind)
            continue
        want = (5, [7, 8]) if pictures % FPS == 0 else (1, [])
        if (kind, pending) != want:
            sys.exit(f"picture {pictures}: type {kind} after {pending}, not {want}")
        # first_mb_in_slice, an Exp-Golomb zero ("1"), in every slice means that
        # no picture has a second one.
        if not unit[1] & 0x80:
            sys.exit(f"picture {pictures} has more than one slice")
        if kind == 5:
            largest_idr = max(largest_idr, len(unit))
        pending, pictures = [], pictures + 1
    if pictures != FRAMES or pending:
        sys.exit(f"{pictures} pictures, not {FRAMES}")
    sps = {u for u in units if u[0] & 31 == 7}
    pps = {u for u in units if u[0] & 31 == 8}
    if len(sps) != 1 or len(pps) != 1:
        sys.exit("parameter sets change on the way")
    (sps,) = sps
    if sps[1] != 66 or sps[2] & 0xC0 != 0xC0 or sps[3] > 31:
        sys.exit(f"not constrained baseline at level 3.1 at most: {sps[1:4].hex()}")

    with open(gray, "rb") as f:
        for n in range(FRAMES):
            picture = f.read(WIDTH * HEIGHT)
            if len(picture) != WIDTH * HEIGHT:
                sys.exit(f"only {n} pictures decode")
            value = 0
            for bit in range(CODE_BITS):
                # All pixels but a rim, not just the middle one: readers may
                # look anywhere in a square.
                for row in (0, 1):
                    want = (n >> bit & 1) ^ row
                    for y in range(2, CODE_BLOCK - 2):
                        start = (row * CODE_BLOCK + y) * WIDTH + bit * CODE_BLOCK
                        line = picture[start + 2 : start + CODE_BLOCK - 2]
                        if (min(line) > 128) != want or (max(line) > 128) != want:
                            sys.exit(f"picture {n}: bit {bit}, row {row} is unclear")
                value |= (picture[8 * WIDTH + bit * CODE_BLOCK + 8] > 128) << bit
            if value != n:
                sys.exit(f"picture {n} reads as {value}")
        if f.read(1):
            sys.exit("more pictures decode than expected")
    print(
        f"video: {FRAMES} pictures, codes and headers right, "
        f"SPS {sps.hex(' ')}, largest IDR {largest_idr} bytes"
    )


def check_level(path, name):
    with open(path, "rb") as f:
        data = f.read()
    samples = struct.unpack(f"<{len(data) // 2}h", data)

    def dbfs(part):
        return 10 * math.log10(max(1, sum(s * s for s in part) / len(part)) / 2**30)

    window = len(samples) // 30
    quietest = min(
        dbfs(samples[i : i + window]) for i in range(0, len(samples) - window + 1, window)
    )
    step = max(abs(b - a) for a, b in zip(samples, samples[1:]))
    level = dbfs(samples)
    print(
        f"{name}: {len(samples)} samples, RMS {level:.1f} dBFS, "
        f"quietest part {quietest:.1f} dBFS, largest step {step}"
    )
    if not -26 < level < -20 or quietest < -40:
        sys.exit(f"{name}: level out of range")


def main():
    command, args = sys.argv[1], sys.argv[2:]
    if command == "frames":
        frames(args[0])
    elif command == "tone":
        tone(int(args[0]), int(args[1]))
    elif command == "opus":
        opus(args[0], int(args[1]), int(args[2]))
    elif command == "ogg":
        ogg(args[0])
    elif command == "check-video":
        check_video(*args)
    elif command == "check-level":
        check_level(*args)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
