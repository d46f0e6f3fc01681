// Check whether a listener wears headphones: three tones, one of them quieter and one in antiphase: over loudspeakers the antiphase
// tone cancels out in the room and seems the quietest. Woods, Siegel, Traer and McDermott, "Headphone screening to
// facilitate web-based auditory experiments", Attention, Perception & Psychophysics 79 (2017).

import { audioContext, output } from './audio.js';
import { button, element } from './page.js';

const HERTZ = 200, TONE_S = 1.0, PAUSE_S = 0.5, RAMP_S = 0.1, LEVEL = 0.35, QUIETER_DB = -6;
// Guessing gets three of three right once in 27.
const ROUNDS = 3;

// Play three tones in random order; returns the index of the quiet one, 0 to 2, and the length in seconds.
export function playTones(random = Math.random) {
  const quiet = Math.floor(random() * 3);
  const antiphase = (quiet + 1 + Math.floor(random() * 2)) % 3;
  const start = audioContext().currentTime + 0.1;
  for (let i = 0; i < 3; i++) {
    tone(start + i * (TONE_S + PAUSE_S), i === quiet ? LEVEL * 10 ** (QUIETER_DB / 20) : LEVEL, i === antiphase ? -1 : 1);
  }
  return { quiet, seconds: 3 * TONE_S + 2 * PAUSE_S };
}

function tone(at, level, right) {
  const sound = audioContext();
  const wave = sound.createOscillator(), both = sound.createChannelMerger(2), envelope = sound.createGain(), inverted = sound.createGain();
  wave.frequency.value = HERTZ;
  envelope.gain.setValueAtTime(0, at);
  envelope.gain.linearRampToValueAtTime(level, at + RAMP_S);
  envelope.gain.setValueAtTime(level, at + TONE_S - RAMP_S);
  envelope.gain.linearRampToValueAtTime(0, at + TONE_S);
  inverted.gain.value = right;
  wave.connect(envelope);
  envelope.connect(both, 0, 0);
  envelope.connect(inverted).connect(both, 0, 1);
  both.connect(output());
  wave.start(at);
  wave.stop(at + TONE_S);
  wave.onended = () => both.disconnect();
}

// Return the check as an element. `onEnd('passed' | 'failed')`.
export function headphoneCheck({ onEnd, play = playTones }) {
  let round = 0, right = 0, quiet = null;
  const status = element('p', { class: 'hx-message', role: 'status' });
  const start = button('Play three tones', () => {
    ({ quiet } = play());
    start.textContent = 'Play them again';
    choices.forEach(one => { one.disabled = false; });
    status.textContent = `Round ${round + 1} of ${ROUNDS}: which of the three tones is the quietest?`;
  }, { class: 'hx-primary' });
  const choose = which => {
    right += which === quiet ? 1 : 0;
    round += 1;
    choices.forEach(one => { one.disabled = true; });
    if (round === ROUNDS) return onEnd(right === ROUNDS ? 'passed' : 'failed');
    start.textContent = 'Play three tones';
    status.textContent = `${round} of ${ROUNDS} done. Play the next three.`;
    start.focus();
  };
  const choices = ['First', 'Second', 'Third'].map((label, i) => button(label, () => choose(i), { class: 'hx-chip', disabled: true }));
  return element('div', { class: 'hx-check3' }, element('div', { class: 'hx-row' }, start, ...choices), status);
}
