// Sounds that are played, dropped and recorded.

import { askBytes, sendSound } from "./api.js";
import { h } from "./dom.js";

/** One sound that plays, with its time told on every frame. */
export class Player {
  constructor(tell) {
    this.audio = new Audio();
    this.tell = tell;
    this.wanted = "";
    this.audio.addEventListener("play", () => { this.tick(); });
    this.audio.addEventListener("pause", () => this.tell(this.audio.currentTime, false));
    this.audio.addEventListener("ended", () => this.tell(null, false));
  }

  tick() {
    this.tell(this.audio.currentTime, !this.audio.paused);
    if (!this.audio.paused) requestAnimationFrame(() => this.tick());
  }

  get isPlaying() { return !this.audio.paused && !this.audio.ended; }

  async load(network, sound) {
    const wanted = `${network}\n${sound}`;
    if (wanted === this.wanted) return;
    this.wanted = wanted;
    this.audio.pause();
    const blob = await askBytes("audio", { network, sound });
    if (wanted !== this.wanted) return;
    if (this.audio.src) URL.revokeObjectURL(this.audio.src);
    this.audio.src = URL.createObjectURL(blob);
  }

  async toggle() {
    if (this.isPlaying) this.audio.pause(); else await this.audio.play();
  }

  seek(seconds) {
    if (this.audio.src) this.audio.currentTime = Math.max(0, Math.min(seconds, (this.audio.duration || seconds) - 0.001));
    this.tell(seconds, this.isPlaying);
  }
}

const once = new Audio();

/** Play a sound once, without a picture: a neighbor, an exemplar. */
export async function playOnce(command, given) {
  const blob = await askBytes(command, given);
  once.pause();
  if (once.src) URL.revokeObjectURL(once.src);
  once.src = URL.createObjectURL(blob);
  await once.play();
}

/** A button that plays a sound once. */
export function makePlayer(view, label, command, given) {
  return h("button", { type: "button", class: "play tiny", "aria-label": `Play ${label}`, onclick: () => playOnce(command, given).catch((error) => view.fail(error)) }, "▶");
}

/** The name of a sound, as a button that opens it in the view. */
export function makeSoundButton(view, id, condition) {
  const words = condition === id ? id : `${id} (${condition})`;
  return h("button", { type: "button", class: "text", title: "Look at this sound", onclick: () => { view.choice.sound = id; view.drawControls(); view.openSound(); } }, words);
}

export function limitsOf(body) {
  return { megabytes: Number(body.dataset.megabytes), seconds: Number(body.dataset.seconds) };
}

/** Send a file; what is too large is refused before it is sent. */
export async function sendFile(file, limits) {
  if (file.size > limits.megabytes * 1e6) {
    throw new Error(`${file.name} has ${(file.size / 1e6).toFixed(1)} MB, and the explorer takes at most ${limits.megabytes} MB.`);
  }
  return sendSound(file, file.name);
}

function encodeWav(blocks, rate) {
  const length = blocks.reduce((sum, block) => sum + block.length, 0);
  const bytes = new DataView(new ArrayBuffer(44 + 2 * length));
  const words = (at, text) => [...text].forEach((letter, k) => bytes.setUint8(at + k, letter.charCodeAt(0)));
  words(0, "RIFF");
  bytes.setUint32(4, 36 + 2 * length, true);
  words(8, "WAVEfmt ");
  bytes.setUint32(16, 16, true);
  bytes.setUint16(20, 1, true);
  bytes.setUint16(22, 1, true);
  bytes.setUint32(24, rate, true);
  bytes.setUint32(28, 2 * rate, true);
  bytes.setUint16(32, 2, true);
  bytes.setUint16(34, 16, true);
  words(36, "data");
  bytes.setUint32(40, 2 * length, true);
  let at = 44;
  for (const block of blocks) {
    for (const sample of block) {
      bytes.setInt16(at, Math.round(Math.max(-1, Math.min(1, sample)) * 32767), true);
      at += 2;
    }
  }
  return new Blob([bytes.buffer], { type: "audio/wav" });
}

/** Record the microphone until `stop`, or for as long as is allowed; gives a WAV. */
export async function record(limits, tell) {
  if (!navigator.mediaDevices?.getUserMedia) throw new Error("This browser gives no microphone to this page.");
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    });
  } catch (error) {
    throw new Error(`The browser gives no microphone (${error.name}); allow it for this address, or drop a file.`);
  }
  const context = new AudioContext();
  await context.audioWorklet.addModule("/assets/recorder.js");
  const blocks = [];
  let ended;
  const done = new Promise((resolve) => { ended = resolve; });
  const node = new AudioWorkletNode(context, "recorder");
  node.port.onmessage = ({ data }) => {
    blocks.push(data);
    const seconds = blocks.reduce((sum, block) => sum + block.length, 0) / context.sampleRate;
    tell(seconds);
    if (seconds >= limits.seconds - 0.2) ended();
  };
  context.createMediaStreamSource(stream).connect(node);
  return {
    stop: () => ended(),
    sound: done.then(async () => {
      stream.getTracks().forEach((track) => track.stop());
      const rate = context.sampleRate;
      await context.close();
      if (!blocks.length) throw new Error("The microphone gave nothing; record again.");
      return new File([encodeWav(blocks, rate)], "recording.wav", { type: "audio/wav" });
    }),
  };
}
