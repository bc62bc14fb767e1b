// Pass on what the microphone gives, in blocks.

class Recorder extends AudioWorkletProcessor {
  constructor() {
    super();
    this.held = new Float32Array(4096);
    this.filled = 0;
  }

  process([input]) {
    const channel = input[0];
    if (!channel) return true;
    for (const sample of channel) {
      this.held[this.filled] = sample;
      this.filled += 1;
      if (this.filled === this.held.length) {
        this.port.postMessage(this.held);
        this.held = new Float32Array(4096);
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("recorder", Recorder);
