// Two versions of one stretch of a song, heard in step and seen in turn, and what was heard of each.
// Knows nothing of verdicts or of where pairs come from.

import { setVolume, volume } from './audio.js';
import { Coverage } from './coverage.js';
import { clock, element, getSound } from './page.js';
import { Player } from './player.js';
import { FILL_COLOUR, Roll, trackColour } from './roll.js';

// Around the fill alone one still wants to hear how it joins on.
const SEAM_S = 1;
const SIDES = ['a', 'b'];

export class Stage {
  // `onHeard()`: more was heard, or a pair was opened or closed.
  constructor({ onHeard = () => {} } = {}) {
    this.onHeard = onHeard;
    this.playButton = element('button', { type: 'button', class: 'hx-play', onclick: () => this.toggle() }, 'Play');
    this.time = element('span', { class: 'hx-time' }, '0:00');
    this.loopButton = element('button', { type: 'button', class: 'hx-loop', 'aria-pressed': 'false', onclick: () => this.loopFill() }, 'Loop the fill alone');
    this.volume = element('input', { type: 'range', min: 0, max: 1, step: 0.01, value: volume(), 'aria-label': 'Volume', oninput: () => setVolume(Number(this.volume.value)) });
    document.addEventListener('harmonixr-volume', () => { this.volume.value = volume(); });
    this.buttons = SIDES.map(side => element('button', { type: 'button', class: 'hx-side', 'data-side': side, 'aria-pressed': 'false', onclick: () => this.hear(side) },
      element('strong', {}, side.toUpperCase()), element('span', { class: 'hx-heard' })));
    this.legend = element('ul', { class: 'hx-legend', 'aria-label': 'What the roll shows' });
    const rollBox = element('div');
    this.element = element('div', { class: 'hx-stage', hidden: true }, this.legend, rollBox,
      element('div', { class: 'hx-transport' }, this.playButton, this.time, this.loopButton,
        element('label', { class: 'hx-volume' }, element('span', { class: 'hx-small' }, 'Volume'), this.volume)),
      element('div', { class: 'hx-sides', role: 'group', 'aria-label': 'Listen to' }, ...this.buttons));
    this.roll = new Roll(rollBox, { height: 220 });
    this.player = new Player({ onFrame: at => this.#frame(at), onState: () => this.#show(), onHeard: (side, from, to) => this.#heard(side, from, to) });
  }

  get side() { return this.player.current; }

  // Load both sounds and show the pair. `trace`: what was heard of it before, from `trace` of an earlier visit.
  async open(pair, trace = null) {
    const { audio_start_s: origin, audio_end_s: end } = pair;
    this.player.reset({ origin, from: origin, to: end, loop: true });
    await Promise.all(SIDES.map(side => this.player.load(side, () => pair[side].sound?.() ?? getSound(pair[side].audio))));
    this.pair = pair;
    this.trace = trace || { a: new Coverage(), b: new Coverage(), seconds: 0, switches: 0 };
    this.gap = gapOf(pair);
    this.#describe();
    this.element.hidden = this.element.inert = false;
    this.element.classList.remove('is-resting');
    this.loopFill(false);
    this.player.current = 'a';
    this.roll.song = null;
    this.#draw();
    this.#show();
    this.onHeard();
  }

  // Nothing to hear for a moment; what was shown stays in its place, so that the page does not jump.
  rest() {
    this.player.reset({ origin: 0, from: 0, to: 0, loop: true });
    this.pair = null;
    this.element.classList.add('is-resting');
    this.element.inert = true;
    this.onHeard();
  }

  close() {
    this.player.reset({ origin: 0, from: 0, to: 0, loop: true });
    this.pair = null;
    this.element.hidden = true;
    this.onHeard();
  }

  toggle() { if (this.pair) this.player.toggle(); }

  hear(side) {
    if (!this.pair) return;
    if (side !== this.side) this.trace.switches += 1;
    this.player.play(side);
    this.#draw();
  }

  loopFill(alone = !this.isFillAlone) {
    this.isFillAlone = alone;
    this.loopButton.setAttribute('aria-pressed', String(alone));
    if (!this.pair) return;
    const { start_s, end_s, audio_start_s: from, audio_end_s: to } = this.pair;
    this.player.setRange(alone ? Math.max(from, start_s - SEAM_S) : from, alone ? Math.min(to, end_s + SEAM_S) : to);
  }

  share(side) { return this.pair ? this.trace[side].share(this.pair.start_s, this.pair.end_s) : 0; }

  get isHeard() { return Boolean(this.pair) && SIDES.every(side => this.share(side) >= this.pair.min_heard); }

  // What the service is told, which works the shares out again.
  evidence() {
    const { a, b, seconds, switches } = this.trace;
    return { heard_a: this.share('a'), heard_b: this.share('b'), intervals_a: a.rounded(), intervals_b: b.rounded(),
      seconds: Math.round(seconds * 10) / 10, switches };
  }

  #heard(side, from, to) {
    if (!this.pair || to <= from) return;
    this.trace[side].add(from, to);
    this.trace.seconds += to - from;
    this.#showHeard();
    this.onHeard();
  }

  #frame(at) {
    this.roll.setPlayhead(at);
    this.time.textContent = clock(at);
  }

  // Both sides in one colour: nothing tells them apart but the notes.
  #draw() {
    const { song, a, b, audio_start_s, audio_end_s } = this.pair;
    const gap = { ...this.gap, ticks: null };
    this.roll.show({ song, gap, fill: this.pair[this.side].notes, others: [...a.notes, ...b.notes],
      stretch: [audio_start_s, audio_end_s], heard: this.trace[this.side].intervals });
    gap.ticks = [this.pair.start_s, this.pair.end_s].map(second => this.roll.tickOf(second));
    this.roll.show({ gap });
  }

  #describe() {
    const shown = this.pair.song.tracks.map(track => element('li', {}, element('span', { class: 'hx-dot', style: `background:${trackColour(track.number)}` }),
      track.name || (track.is_drum ? 'Drums' : `Track ${track.number}`)));
    this.legend.replaceChildren(...shown, element('li', {}, element('span', { class: 'hx-dot', style: `background:${FILL_COLOUR}` }), 'the fill you hear'));
  }

  #show() {
    const playing = Boolean(this.player?.isPlaying);
    this.playButton.textContent = playing ? 'Pause' : 'Play';
    this.playButton.dataset.playing = String(playing);
    for (const button of this.buttons) button.setAttribute('aria-pressed', String(button.dataset.side === this.side));
    if (this.pair) this.#showHeard();
  }

  #showHeard() {
    for (const button of this.buttons) {
      const share = this.share(button.dataset.side), needed = this.pair.min_heard;
      button.style.setProperty('--heard', `${share * 100}%`);
      button.style.setProperty('--needed', `${needed * 100}%`);
      button.classList.toggle('is-enough', share >= needed);
      button.querySelector('.hx-heard').textContent = share >= needed ? `heard ${Math.round(share * 100)} % ✓`
        : `${share ? `heard ${Math.floor(share * 100)} %` : 'not heard yet'} · ${Math.round(needed * 100)} % needed`;
    }
    this.roll.heard = this.trace[this.side].intervals.map(([from, to]) => [Math.max(from, this.pair.start_s), Math.min(to, this.pair.end_s)]).filter(([from, to]) => to > from);
  }
}

function gapOf({ song, start_s, end_s, region }) {
  const bars = song.bars.filter(bar => bar.start_s >= start_s - 0.01 && bar.start_s < end_s - 0.01);
  const named = region.tracks?.map(which => typeof which === 'number' ? which : song.tracks.find(track => track.name === which)?.number);
  return { first: bars[0]?.number, last: bars.at(-1)?.number, tracks: named || song.tracks.map(track => track.number) };
}
