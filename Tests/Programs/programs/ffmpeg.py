# SPDX-License-Identifier: MIT
"""ffmpeg: test pictures and tones encoded by several codecs with threads, decoded and hashed."""

NEEDS = ["ffmpeg"]
WEIGHT = 6

# x264 with rate control by macroblock trees depends on memory it has not written (on glibc's heap
# MALLOC_PERTURB_ changes what it encodes): it is given a fixed quantiser.
CODECS = [
    ("mpeg4", ["-c:v", "mpeg4", "-c:a", "aac"], "mp4"),
    ("x264", ["-c:v", "libx264", "-preset", "fast", "-qp", "25", "-c:a", "mp3"], "mkv"),
    ("ffv1", ["-c:v", "ffv1", "-slices", "4", "-c:a", "flac"], "mkv"),
]
# x265 with several threads is not always of the same mind on a busy machine (on glibc's heap 1 of 60
# encodings differed): it has one.
LONG_CODECS = [
    ("vp9", ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-row-mt", "1",
             "-c:a", "libopus"], "webm"),
    ("x265", ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params",
              "log-level=error:pools=1:frame-threads=1", "-c:a", "ac3"], "mkv"),
    ("mpeg2", ["-c:v", "mpeg2video", "-c:a", "pcm_s16le"], "avi"),
]


def run(stage):
    base = ["ffmpeg", "-hide_banner", "-nostdin", "-loglevel", "error", "-y", "-bitexact"]
    seconds = "8" if stage.long else "2"
    source = ["-f", "lavfi", "-i", f"testsrc2=size=480x270:rate=25:duration={seconds}",
              "-f", "lavfi", "-i", f"sine=frequency=440:duration={seconds}"]
    for name, codec, suffix in CODECS + (LONG_CODECS if stage.long else []):
        stage.run([*base, *source, *codec, "-threads", "3", "-fflags", "+bitexact", "-flags",
                   "+bitexact", f"{name}.{suffix}"], limit=200)
        stage.run([*base, "-threads", "3", "-i", f"{name}.{suffix}", "-f", "framemd5", "-"],
                  limit=120)
    stage.run([*base, "-i", "x264.mkv", "-filter_complex",
               "[0:v]split[a][b];[a]scale=160:90,hue=s=0[c];[b][c]overlay=10:10,unsharp[v];"
               "[0:a]atempo=1.25,aecho=0.8:0.9:40:0.3[o]",
               "-map", "[v]", "-map", "[o]", "-f", "framemd5", "-"], limit=120)
    stage.run([*base, "-i", "no-such-file.mkv", "-f", "null", "-"], expect=1)
