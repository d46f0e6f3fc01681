// Play several versions of one stretch of a song in step: decoded once, started together, switched by fading.
// One AudioContext for the whole page. Times are seconds of the song. Knows nothing of what is played.

const FADE_S = 0.012;
let context = null;

// Browsers start sound only after a key or a click: make the context as late as that.
function audioContext() {
  context ||= new AudioContext();
  if (context.state === 'suspended') context.resume();
  return context;
}

const players = new Set();

export class Player {
  constructor({ onFrame = () => {}, onState = () => {} } = {}) {
    this.voices = new Map();
    this.onFrame = onFrame;
    this.onState = onState;
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
      voice.buffer = buffer;
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
    const gone = Math.max(0, audioContext().currentTime - this.startedAt);
    const length = this.to - this.from;
    const reached = this.at + gone;
    if (reached < this.to || !this.loop) return Math.min(reached, this.to);
    return this.from + (reached - this.from) % length;
  }

  // Hear `name` from where the music is; starts it if it stands still.
  play(name = this.current) {
    const previous = this.current;
    this.current = name;
    if (this.isPlaying) {
      this.#fade(previous);
      this.#fade(name);
      this.onState();
      return;
    }
    players.forEach(other => { if (other !== this) other.pause(); });
    if (this.at >= this.to - 0.05) this.at = this.from;
    this.startedAt = audioContext().currentTime + 0.03;
    for (const [key, voice] of this.voices) if (voice.buffer) this.#start(key, voice, this.at);
    this.onState();
    this.#tick();
  }

  pause() {
    if (!this.isPlaying) return;
    this.at = this.position;
    this.startedAt = null;
    for (const voice of this.voices.values()) this.#stop(voice);
    this.onState();
  }

  toggle() { this.isPlaying ? this.pause() : this.play(); }

  seek(second) {
    const playing = this.isPlaying;
    this.pause();
    this.at = Math.min(this.to, Math.max(this.from, second));
    playing ? this.play() : this.onFrame(this.at);
  }

  #start(name, voice, position) {
    const sound = audioContext();
    this.#stop(voice);
    voice.gain = sound.createGain();
    voice.gain.gain.value = name === this.current ? 1 : 0;
    voice.gain.connect(sound.destination);
    voice.source = sound.createBufferSource();
    voice.source.buffer = voice.buffer;
    voice.source.loop = this.loop;
    voice.source.loopStart = this.from - this.origin;
    voice.source.loopEnd = Math.min(this.to - this.origin, voice.buffer.duration);
    voice.source.connect(voice.gain);
    voice.source.start(Math.max(sound.currentTime, this.startedAt), Math.max(0, position - this.origin));
  }

  #stop(voice) {
    voice.source?.stop();
    voice.source?.disconnect();
    voice.gain?.disconnect();
    voice.source = voice.gain = null;
  }

  #fade(name) {
    const voice = this.voices.get(name);
    if (voice?.gain) voice.gain.gain.setTargetAtTime(name === this.current ? 1 : 0, audioContext().currentTime, FADE_S);
  }

  #tick() {
    if (!this.isPlaying) return;
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
