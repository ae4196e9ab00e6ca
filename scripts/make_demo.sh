#!/usr/bin/env bash
# Makes the media of the built-in demo camera, under assets/:
#
#   demo.h264      H.264 Annex B, constrained baseline, 640x360, 25 fps, 30 s,
#                  an SPS, a PPS and an IDR picture each second, one slice per
#                  picture, nothing else
#   demo.opus.bin  Opus, mono, 20 ms packets, 2 s, each packet after its length
#                  as a big-endian u16
#   demo.pcmu      G.711 mu-law, 8 kHz, mono, 2 s
#
# Each is meant to be repeated for ever. They are built into the program, which
# is why their size is limited.
#
# Needs ffmpeg (with libx264, libopus and librsvg, as Debian's has), python3 and
# the DejaVu fonts (fonts-dejavu-core).
set -euo pipefail

cd "$(dirname "$0")/.."
make_demo() { python3 scripts/make_demo.py "$@"; }
ff() { ffmpeg -nostdin -hide_banner -loglevel error -y "$@"; }

LIMIT=480000

# The renderer would quietly use another font, and the text would not fit.
if ! fc-list 2>/dev/null | grep -q 'DejaVuSans\.ttf' &&
    [ ! -e /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf ]; then
    echo "The font DejaVu Sans is missing (package fonts-dejavu-core)." >&2
    exit 1
fi

# Work beside the result and move it into place only when it passed its checks:
# a failed run leaves the old assets alone.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p assets "$work/frames"

# --- picture ---

make_demo frames "$work/frames"

# - One thread: x264's decisions, and so the bytes, then do not depend on how
#   many cores the machine has.
# - psy=0, no-dct-decimate, higher qcomp: the defaults suit film. Here they would
#   spend bits on texture that does not exist, or on a perfect background, and
#   leave the edges of the moving waves ragged.
# - The colour matrix is the one that players assume for a small picture without
#   a tag, so that those that ignore the tag are right too.
# - filter_units drops the SEI unit with x264's settings: it is long, and viewers
#   would get it again each time the loop starts.
ff -framerate 25 -i "$work/frames/%04d.svg" \
    -vf format=yuv420p \
    -c:v libx264 -preset veryslow -tune animation -threads 1 \
    -profile:v baseline -level 3.1 -crf 29.6 \
    -x264-params "keyint=25:min-keyint=25:scenecut=0:open-gop=0:bframes=0:ref=5:slices=1:aud=0:repeat-headers=1:psy=0:qcomp=0.8:no-dct-decimate=1" \
    -color_range tv -colorspace smpte170m -color_primaries smpte170m -color_trc smpte170m \
    -bsf:v filter_units=remove_types=6 \
    -f h264 "$work/demo.h264"

ff -i "$work/demo.h264" -vf extractplanes=y -f rawvideo "$work/gray"
make_demo check-video "$work/demo.h264" "$work/gray"

# --- sound ---

# An encoder starts from silence, and its first packets show it. In the middle
# of several loops its state is that of an endless tone, so the 100 packets of
# any later loop can follow themselves. "lowdelay" keeps to the part of Opus with
# the shortest memory, which makes the seam smoother still.
make_demo tone 48000 6 >"$work/tone48"
ff -f s16le -ar 48000 -ac 1 -i "$work/tone48" \
    -c:a libopus -application lowdelay -b:a 20k -vbr on -frame_duration 20 \
    -fflags +bitexact -flags +bitexact -f ogg "$work/tone.ogg"
make_demo opus "$work/tone.ogg" 300 100 >"$work/demo.opus.bin"

make_demo tone 8000 1 >"$work/tone8"
ff -f s16le -ar 8000 -ac 1 -i "$work/tone8" -c:a pcm_mulaw -f mulaw "$work/demo.pcmu"

# Measure what a listener gets, with the seams. The start is left out, where
# the Opus decoder, unlike in a stream that already runs, has no past.
make_demo ogg "$work/demo.opus.bin" >"$work/loop.ogg"
ff -i "$work/loop.ogg" -af atrim=start=1,asetpts=PTS-STARTPTS -f s16le "$work/opus.s16"
ff -stream_loop 2 -f mulaw -ar 8000 -ac 1 -i "$work/demo.pcmu" -f s16le "$work/pcmu.s16"
make_demo check-level "$work/opus.s16" "opus, looped"
make_demo check-level "$work/pcmu.s16" "pcmu, looped"

# --- sizes ---

names=(demo.h264 demo.opus.bin demo.pcmu)
total=0
for name in "${names[@]}"; do
    size=$(wc -c <"$work/$name")
    total=$((total + size))
    printf '%8d  assets/%s\n' "$size" "$name"
done
printf '%8d  total, of %d at most\n' "$total" "$LIMIT"
if [ "$total" -gt "$LIMIT" ]; then
    echo "Too large." >&2
    exit 1
fi
for name in "${names[@]}"; do
    install -m 644 "$work/$name" "assets/$name"
done
