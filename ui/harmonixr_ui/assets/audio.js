// The page's one audio clock and its volume. Knows nothing of songs.

let context = null;
let master = null;

// Browsers start sound only after a key or a click: make the context as late as that.
export function audioContext() {
  if (!context) {
    context = new AudioContext();
    master = context.createGain();
    master.gain.value = loudness(volume());
    master.connect(context.destination);
  }
  if (context.state === 'suspended') context.resume();
  return context;
}

export function output() {
  audioContext();
  return master;
}

// 0 to 1 as the slider stands. Both sides of a pair go through it, so that no side can be turned up alone.
export function volume() {
  const kept = Number(localStorage.getItem('harmonixr.volume') ?? 0.8);
  return Number.isFinite(kept) ? Math.min(1, Math.max(0, kept)) : 0.8;
}

export function setVolume(value) {
  localStorage.setItem('harmonixr.volume', String(value));
  master?.gain.setTargetAtTime(loudness(value), context.currentTime, 0.02);
  document.dispatchEvent(new CustomEvent('harmonixr-volume'));
}

// Ears hear ratios: the middle of the slider is about half as loud.
const loudness = value => value ** 2;
