// The page's audio context and volume.

let context = null;
let master = null;

// Browsers start sound only after a key press or a click, so the context is made on first use.
export function audioContext() {
  if (!context) {
    context = new AudioContext();
    master = context.createGain();
    master.gain.value = gainOf(volume());
    master.connect(context.destination);
  }
  if (context.state === 'suspended') context.resume();
  return context;
}

export function output() {
  audioContext();
  return master;
}

// The value of the slider, 0 to 1. One volume for both sides of a pair: no side can be turned up alone.
export function volume() {
  const stored = Number(localStorage.getItem('harmonixr.volume') ?? 0.8);
  return Number.isFinite(stored) ? Math.min(1, Math.max(0, stored)) : 0.8;
}

export function setVolume(value) {
  localStorage.setItem('harmonixr.volume', String(value));
  master?.gain.setTargetAtTime(gainOf(value), context.currentTime, 0.02);
  document.dispatchEvent(new CustomEvent('harmonixr-volume'));
}

// Hearing is logarithmic: with this curve the middle of the slider is about half as loud.
const gainOf = value => value ** 2;
