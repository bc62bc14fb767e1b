"""Make the spoken words of the demo and the larger training corpus with speech synthesizers.

    python data/make_words.py words data/words           192 clips, 12 voices: what the demo ships
    python data/make_words.py corpus corpus              9,664 clips, 359 voices: what the networks learn from
    python data/make_words.py corpus corpus --foreign 2  11,552 clips, 477 voices: English with foreign accents too

Needs the Debian package `espeak-ng`, only to make them again. Where `flite` and `festival` (with `festvox-kdlpc16k`)
are installed too, the corpus gains five voices that were built from recordings of people; it is made without them too.

No voice timbre is in two of: the demo's words, the training, validation and testing parts of the corpus.
Every clip is 16 kHz mono FLAC, silence trimmed, 50 ms before the onset, peak at -6 dB.
"""

from __future__ import annotations

import argparse
import csv
import functools
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    "bed", "bird", "tree", "cat", "house", "dog",
)  # fmt: skip
RATE = 16_000

# Accents and timbres of espeak-ng; robots and whispers are left out.
ACCENTS = ("en-us", "en-gb", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029", "en-us-nyc")
DEMO_TIMBRES = (  # (accent, timbre, pitch 0-99, words a minute)
    ("en-us", "m3", 45, 140), ("en-gb", "f2", 55, 140), ("en-gb-x-rp", "Andy", 50, 145),
    ("en-us", "Annie", 50, 140), ("en-gb-scotland", "m7", 40, 140), ("en-us", "linda", 55, 145),
    ("en-gb", "david", 45, 140), ("en-us", "f5", 45, 135), ("en-gb-x-gbclan", "pablo", 50, 140),
    ("en-029", "steph", 50, 140), ("en-us", "john", 50, 145), ("en-gb", "shelby", 50, 140),
)  # fmt: skip
TIMBRES = (
    "f1", "f3", "f4", "m1", "m2", "m4", "m5", "m6", "m8", "klatt", "klatt2", "klatt3", "klatt4", "Alex", "Alicia",
    "Andrea", "Denis", "Diogo", "Gene", "Henrique", "Hugo", "Jacky", "Lee", "Marco", "Mario", "Michael", "Mike",
    "Nguyen", "adam", "anika", "announcer", "antonio", "aunty", "belinda", "benjamin", "boris", "caleb", "ed",
    "edward", "grandma", "grandpa", "gustave", "iven", "iven2", "kaukovalta", "marcelo", "max", "michel", "miguel",
    "norbert", "paul", "pedro", "quincy", "rob", "robert", "sandro", "travis", "victor", "zac",
)  # fmt: skip
# Voices made from people's recordings: (program, voice, part of the corpus, usual pitch in Hz).
NATURAL = (
    ("flite", "awb", "training", 110.0), ("flite", "slt", "training", 170.0), ("flite", "kal16", "training", 100.0),
    ("festival", "ked_diphone", "training", 105.0), ("flite", "rms", "testing", 95.0),
)  # fmt: skip

# English as speakers of other languages may say it: phonemes of espeak-ng, of which each take draws one spelling.
LANGUAGES = ("de", "fr", "it", "hi", "nl", "sv", "pl", "pt", "el", "tr")
SPELLINGS = {
    "zero": ("z'i@roU", "z'iro", "z'e:ro", "s'iro"), "one": ("w'Vn", "w'an", "v'an"), "two": ("t'u:", "t'u"),
    "three": ("Tr'i:", "Tr'i", "sr'i:"), "four": ("f'O:", "f'o:r", "f'Or"), "five": ("f'aIv", "f'aiv", "f'aif"),
    "six": ("s'Iks", "s'iks"), "seven": ("s'Ev@n", "s'even"), "eight": ("'eIt", "'eit", "'e:t"),
    "nine": ("n'aIn", "n'ain"), "bed": ("b'Ed", "b'ed"), "bird": ("b'Erd", "b'ird", "b'@:d", "b'Y:d"),
    "tree": ("tr'i:", "tr'i"), "cat": ("k'at", "k'Et", "k'a:t"), "house": ("h'aUs", "h'aus", "x'aus"),
    "dog": ("d'Og", "d'o:g", "d'og"),
}  # fmt: skip


@dataclass(frozen=True)
class Take:
    """One word spoken once: who says it, how, and where it goes."""

    word: str
    voice: str
    part: str  # training, validation, testing or demo
    program: str
    accent: str
    timbre: str
    pitch: float  # espeak-ng 0-99, flite Hz
    speed: float  # espeak-ng words a minute, flite and festival duration factor
    path: Path
    said: str = ""  # phonemes, where these are not those of the word in its accent


def demo_takes(out: Path) -> list[Take]:
    """Each word by each of the demo's voices."""
    return [
        Take(word, f"v{i:02d}", "demo", "espeak-ng", accent, timbre, pitch, speed, out / f"{word}_v{i:02d}.flac")
        for i, (accent, timbre, pitch, speed) in enumerate(DEMO_TIMBRES, start=1)
        for word in WORDS
    ]


def deal_timbres(rng: np.random.Generator) -> dict[str, str]:
    """Say in which part of the corpus each timbre is."""
    timbres = [str(t) for t in rng.permutation(TIMBRES)]
    tenth = len(timbres) // 10
    return {t: "testing" if i < tenth else "validation" if i < 2 * tenth else "training" for i, t in enumerate(timbres)}


def foreign_takes(
    out: Path, part_of: Mapping[str, str], rng: np.random.Generator, languages_per_timbre: int
) -> list[Take]:
    """Each word by every timbre with the accents of some other languages; a timbre stays in its part."""
    takes = []
    for timbre, part in part_of.items():
        for language in rng.choice(LANGUAGES, languages_per_timbre, replace=False):
            center = rng.uniform(30, 70)
            voice = f"{language}-{timbre}".lower()
            for word in WORDS:
                said = [p for p in SPELLINGS[word] if has_phonemes(str(language), p)]
                if not said:
                    raise RuntimeError(f"{word}: espeak-ng has no spelling of it for the accent {language}")
                path = out / word / f"{voice}_nohash_0.flac"
                pitch, speed = float(center + rng.uniform(-12, 12)), float(rng.uniform(105, 190))
                spelling = said[int(rng.integers(len(said)))]
                takes.append(
                    Take(word, voice, part, "espeak-ng", str(language), timbre, pitch, speed, path, said=spelling)
                )
    return takes


@functools.cache
def has_phonemes(language: str, said: str) -> bool:
    """Tell whether espeak-ng speaks all phonemes in this language: it leaves out those that a language lacks."""
    command = ["espeak-ng", "-q", "-x", "-v", language, f"[[{said}]]"]
    spoken = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    one, other = (re.sub(r"[\s_':;,|]", "", text) for text in (said, spoken))
    return len(one) == len(other)


def corpus_takes(out: Path, rng: np.random.Generator, accents_per_timbre: int = 6) -> list[Take]:
    """Each word by every voice of the corpus; timbres are dealt to training, validation and testing 80/10/10.

    The plan depends on `rng` alone, not on the synthesizers of this machine.
    """
    takes = []
    for timbre, part in deal_timbres(rng).items():
        for accent in rng.choice(ACCENTS, accents_per_timbre, replace=False):
            center = rng.uniform(30, 70)
            voice = f"{accent}-{timbre}".lower()
            for word in WORDS:
                takes += [
                    Take(
                        word,
                        voice,
                        part,
                        "espeak-ng",
                        str(accent),
                        timbre,
                        float(center + rng.uniform(-12, 12)),
                        float(rng.uniform(105, 190)),
                        out / word / f"{voice}_nohash_0.flac",
                    )
                ]
    for program, voice, part, pitch in NATURAL:
        for take in range(60 if part == "training" else 10):
            for word in WORDS:
                takes.append(
                    Take(
                        word,
                        f"{program}-{voice}",
                        part,
                        program,
                        "",
                        voice,
                        float(pitch * rng.uniform(0.75, 1.45)),
                        float(rng.uniform(0.8, 1.5)),
                        out / word / f"{program}-{voice}_nohash_{take}.flac",
                    )
                )
    return takes


def installed(takes: Iterable[Take]) -> list[Take]:
    """The takes whose synthesizer this machine has; what is left is the same as on a machine that has them all."""
    return [t for t in takes if shutil.which(t.program) is not None]


def speak(takes: Iterable[Take], workers: int = 2) -> None:
    """Run the synthesizers; festival takes all its words in one process because it is slow to start."""
    takes = list(takes)
    with tempfile.TemporaryDirectory() as scratch:
        festival = [t for t in takes if t.program == "festival"]
        _run_festival(festival, Path(scratch))
        for take in festival:
            finish(Path(scratch) / f"{take.path.stem}_{take.word}.wav", take.path)
    with ThreadPoolExecutor(workers) as pool:
        rest = [t for t in takes if t.program != "festival"]
        for done, _ in enumerate(pool.map(_speak_one, rest), start=1):
            if done % 1000 == 0:
                print(f"{done} of {len(rest)} clips", file=sys.stderr)  # noqa: T201


def _speak_one(take: Take) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        wav = Path(scratch) / "word.wav"
        if take.program == "espeak-ng":
            command = [
                "espeak-ng",
                "-v",
                f"{take.accent}+{take.timbre}",
                "-p",
                f"{take.pitch:.0f}",
                "-s",
                f"{take.speed:.0f}",
                "-w",
                str(wav),
                f"[[{take.said}]]" if take.said else take.word,
            ]
        else:
            command = [
                "flite",
                "-voice",
                take.timbre,
                "-t",
                take.word,
                "-o",
                str(wav),
                "--setf",
                f"duration_stretch={take.speed:.3f}",
                "--setf",
                f"int_f0_target_mean={take.pitch:.1f}",
            ]
        subprocess.run(command, check=True, capture_output=True)
        finish(wav, take.path)


def _run_festival(takes: list[Take], scratch: Path) -> None:
    if not takes:
        return
    lines = []
    for take in takes:
        lines += [
            f"(voice_{take.timbre})",
            f"(Parameter.set 'Duration_Stretch {take.speed:.3f})",
            f"(set! int_lr_params '((target_f0_mean {take.pitch:.1f}) (target_f0_std 14) "
            "(model_f0_mean 170) (model_f0_std 34)))",
            f'(utt.save.wave (utt.synth (Utterance Text "{take.word}")) "{scratch}/{take.path.stem}_{take.word}.wav")',
        ]
    script = scratch / "speak.scm"
    script.write_text("\n".join(lines))
    subprocess.run(["festival", "-b", str(script)], check=True, capture_output=True)


def finish(wav: Path, path: Path) -> None:
    """Mono, 16 kHz, silence trimmed at -40 dB of the loudest 10 ms, 50 ms lead, peak at -6 dB, FLAC."""
    sound, rate = soundfile.read(wav, dtype="float32", always_2d=True)
    mono = soxr.resample(sound.mean(axis=1), rate, RATE)
    frame = RATE // 100
    frames = mono[: len(mono) // frame * frame].reshape(-1, frame)
    power = (frames**2).mean(axis=1)
    if not power.any():
        raise RuntimeError(f"{path.name}: the synthesizer gave no sound")
    loud = np.flatnonzero(np.sqrt(power) > 0.01 * np.sqrt(power.max()))
    word = mono[loud[0] * frame : (loud[-1] + 1) * frame]
    edge = np.minimum(1.0, np.arange(len(word)) / 80)  # 5 ms ramps, so that a cut never clicks
    word = word * edge * edge[::-1] * (0.5 / np.abs(word).max())
    path.parent.mkdir(parents=True, exist_ok=True)
    lead = np.zeros(RATE // 20, np.float32)
    soundfile.write(path, np.concatenate([lead, word]), RATE, subtype="PCM_16", format="FLAC")


def write_tables(takes: list[Take], out: Path, kind: str) -> None:
    """`stimuli.tsv` for the words; the lists that Speech Commands has for the corpus."""
    if kind == "words":
        with (out / "stimuli.tsv").open("w", newline="") as file:
            writer = csv.writer(file, delimiter="\t", lineterminator="\n")
            columns = ["stimulus_id", "condition", "path", "voice", "accent", "timbre", "pitch", "words_per_minute"]
            writer.writerow(columns)
            for t in takes:
                writer.writerow(
                    [t.path.stem, t.word, t.path.name, t.voice, t.accent, t.timbre, f"{t.pitch:.0f}", f"{t.speed:.0f}"]
                )
        return
    for part in ("validation", "testing"):
        names = sorted(t.path.relative_to(out).as_posix() for t in takes if t.part == part)
        (out / f"{part}_list.txt").write_text("\n".join(names) + "\n")


def main() -> None:
    """Parse and make."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["words", "corpus"])
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--foreign", type=int, default=0, help="foreign accents of each timbre of the corpus")
    options = parser.parse_args()
    if shutil.which("espeak-ng") is None:
        parser.error("espeak-ng is not installed: apt-get install espeak-ng")
    rng = np.random.default_rng(options.seed)
    takes = installed(demo_takes(options.out) if options.kind == "words" else corpus_takes(options.out, rng))
    if options.kind == "corpus" and options.foreign:
        part_of = deal_timbres(np.random.default_rng(options.seed))  # as corpus_takes has dealt them
        takes += foreign_takes(options.out, part_of, rng, options.foreign)
    try:
        speak(takes)
    except subprocess.CalledProcessError as error:
        said = (error.stderr or b"").decode(errors="replace").strip()
        parser.error(f"{error.cmd[0]} failed ({error.returncode}): {said}")
    write_tables(takes, options.out, options.kind)
    voices = len({t.voice for t in takes})
    print(f"{len(takes)} clips, {voices} voices, {options.out}", file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    main()
