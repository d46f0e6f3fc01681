// Play several versions of one stretch of a song in sync: decoded once, started together, switched by crossfade.
// Times are seconds of the song.

import { audioContext, output, volume } from './audio.js';

// Both gains move together and sum to one: where the versions agree, a switch is inaudible.
const FADE_S = 0.012;
// Sound that starts or ends at full level clicks.
const EDGE_S = 0.006;
// With a longer pause between two frames the page was hidden or blocked, and it is unknown what was heard.
const LONGEST_FRAME_S = 0.5;

const players = new Set();

export class Player {
  // `onHeard(name, from, to)`: this stretch of that version has just played.
  constructor({ onFrame = () => {}, onState = () => {}, onHeard = () => {} } = {}) {
    this.voices = new Map();
    Object.assign(this, { onFrame, onState, onHeard });
    this.reset({ origin: 0, from: 0, to: 0, loop: false });
    players.add(this);
  }

  // Forget all sounds. They begin at second `origin` of the song; play [from, to), again and again if `loop`.
  reset({ origin, from, to, loop }) {
    this.pause();
    this.voices.clear();
    Object.assign(this, { origin, from, to, loop, at: from, current: null, epoch: Symbol('epoch') });
  }

  // Fetch and decode once. `fetchBytes` returns a promise of an ArrayBuffer.
  async load(name, fetchBytes) {
    if (this.voices.has(name)) return this.voices.get(name).ready;
    const epoch = this.epoch;
    const voice = { buffer: null, source: null, gain: null };
    voice.ready = fetchBytes().then(bytes => audioContext().decodeAudioData(bytes)).then(buffer => {
      voice.buffer = softenEdges(buffer);
      if (this.epoch === epoch) this.to = Math.min(this.to, this.origin + buffer.duration);
      if (this.isPlaying && this.epoch === epoch) this.#start(name, voice, this.position);
    });
    voice.ready.catch(() => { if (this.epoch === epoch) this.voices.delete(name); });
    this.voices.set(name, voice);
    return voice.ready;
  }

  get isPlaying() { return this.startedAt !== undefined && this.startedAt !== null; }

  get position() {
    if (!this.isPlaying) return this.at;
    const elapsed = Math.max(0, audioContext().currentTime - this.startedAt);
    const length = this.to - this.from;
    const reached = this.at + elapsed;
    if (reached < this.to || !this.loop) return Math.min(reached, this.to);
    return this.from + (reached - this.from) % length;
  }

  // Switch to `name` at the current position; starts the music if it is paused.
  play(name = this.current) {
    if (this.isPlaying) {
      this.#reportHeard();
      this.current = name;
      for (const voice of this.voices.keys()) this.#fade(voice);
      this.onState();
      return;
    }
    this.current = name;
    players.forEach(other => { if (other !== this) other.pause(); });
    if (this.at >= this.to - 0.05 || this.at < this.from) this.at = this.from;
    this.startedAt = audioContext().currentTime + 0.03;
    this.heardUntil = null;
    for (const [key, voice] of this.voices) if (voice.buffer) this.#start(key, voice, this.at);
    this.onState();
    this.#tick();
  }

  pause() {
    if (!this.isPlaying) return;
    this.#reportHeard();
    this.at = this.position;
    this.startedAt = null;
    for (const voice of this.voices.values()) this.#stop(voice);
    this.onState();
  }

  toggle() { this.isPlaying ? this.pause() : this.play(); }

  // Play another stretch of the same sounds from now on.
  setRange(from, to) {
    const playing = this.isPlaying;
    this.pause();
    Object.assign(this, { from, to });
    if (this.at < from || this.at >= to) this.at = from;
    playing ? this.play() : this.onFrame(this.at);
  }

  #start(name, voice, position) {
    const sound = audioContext();
    this.#stop(voice);
    voice.gain = sound.createGain();
    voice.gain.gain.value = 0;
    voice.gain.connect(output());
    voice.source = sound.createBufferSource();
    voice.source.buffer = voice.buffer;
    voice.source.loop = this.loop;
    voice.source.loopStart = this.from - this.origin;
    voice.source.loopEnd = Math.min(this.to - this.origin, voice.buffer.duration);
    voice.source.connect(voice.gain);
    const begin = Math.max(sound.currentTime, this.startedAt);
    voice.source.start(begin, Math.max(0, position - this.origin));
    if (name === this.current) voice.gain.gain.setTargetAtTime(1, begin, EDGE_S / 3);
  }

  #stop({ source, gain }) {
    if (!source) return;
    const now = audioContext().currentTime;
    gain.gain.cancelScheduledValues(now);
    gain.gain.setTargetAtTime(0, now, EDGE_S / 3);
    source.onended = () => gain.disconnect();
    source.stop(now + 4 * EDGE_S);
  }

  #fade(name) {
    const voice = this.voices.get(name);
    voice?.gain?.gain.setTargetAtTime(name === this.current ? 1 : 0, audioContext().currentTime, FADE_S);
  }

  // Report what played since the last report; `play` reports before it switches.
  #reportHeard() {
    const now = audioContext().currentTime, here = this.position, before = this.heardUntil;
    this.heardUntil = { now, here };
    const audible = audioContext().state === 'running' && volume() > 0 && this.voices.get(this.current)?.source;
    if (!before || !audible || document.hidden || now - before.now > LONGEST_FRAME_S) return;
    if (here >= before.here) return this.onHeard(this.current, before.here, here);
    this.onHeard(this.current, before.here, this.to);
    this.onHeard(this.current, this.from, here);
  }

  #tick() {
    if (!this.isPlaying) return;
    this.#reportHeard();
    const position = this.position;
    this.onFrame(position);
    if (!this.loop && position >= this.to) {
      this.pause();
      this.at = this.from;
      return;
    }
    requestAnimationFrame(() => this.#tick());
  }
}

// Fade both ends: without it a loop clicks where it jumps back.
function softenEdges(buffer) {
  const count = Math.min(Math.round(EDGE_S * buffer.sampleRate), Math.floor(buffer.length / 2));
  for (let channel = 0; channel < buffer.numberOfChannels; channel++) {
    const samples = buffer.getChannelData(channel);
    for (let i = 0; i < count; i++) {
      samples[i] *= i / count;
      samples[samples.length - 1 - i] *= i / count;
    }
  }
  return buffer;
}
