// The two fills of a pair: played in sync, drawn one at a time, with the record of what the listener heard of each.

import { Coverage } from './coverage.js';
import { button, clock, element, getSound, setPressed, toggle } from './page.js';
import { Player } from './player.js';
import { FILL_COLOUR, Roll, trackColour } from './roll.js';
import { volumeSlider } from './volume.js';

// The loop of the fill includes this much of the music around it, so that its edges are heard.
const SEAM_S = 1;
const SIDES = ['a', 'b'];
// A lower roll on a phone leaves room for both sides and the form below it.
const SMALL_PX = 640;

export class PairView {
  // `onHeard()`: the record of what was heard changed.
  constructor({ onHeard = () => {} } = {}) {
    this.onHeard = onHeard;
    this.playButton = button('Play', () => this.toggle(), { class: 'hx-play' });
    this.time = element('span', { class: 'hx-time' }, '0:00');
    this.loopButton = toggle('Loop the fill', () => this.loopFill(), { class: 'hx-loop' });
    this.sides = SIDES.map(side => toggle(element('strong', {}, side.toUpperCase()), () => this.hear(side), { class: 'hx-side', 'data-side': side }));
    for (const one of this.sides) one.append(element('span', { class: 'hx-heard' }));
    this.legend = element('ul', { class: 'hx-legend', 'aria-label': 'Colours of the piano roll' });
    const rollBox = element('div');
    this.element = element('div', { class: 'hx-pair', hidden: true }, this.legend, rollBox,
      element('div', { class: 'hx-transport' }, this.playButton, this.time, this.loopButton, volumeSlider()),
      element('div', { class: 'hx-sides', role: 'group', 'aria-label': 'Listen to' }, ...this.sides));
    this.roll = new Roll(rollBox, { height: window.innerWidth < SMALL_PX ? 150 : 220 });
    this.player = new Player({ onFrame: at => this.#frame(at), onState: () => this.#show(),
      onHeard: (side, from, to) => this.#heard(side, from, to) });
  }

  get side() { return this.player.current; }

  // Load both sounds and show the pair. `trace`: the record of what was heard of it on an earlier visit.
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

  // Stop, but leave the pair visible until the next one replaces it, so that the page does not jump.
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

  pause() { this.player.pause(); }

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

  // The listening evidence of a judgment. The service computes the shares again.
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

  // Both sides have one colour: only the notes differ.
  #draw() {
    const { song, a, b, audio_start_s, audio_end_s } = this.pair;
    const gap = { ...this.gap, ticks: null };
    this.roll.show({ song, gap, fill: this.pair[this.side].notes, others: [...a.notes, ...b.notes],
      stretch: [audio_start_s, audio_end_s], heard: this.trace[this.side].intervals });
    gap.ticks = [this.pair.start_s, this.pair.end_s].map(second => this.roll.tickOf(second));
    this.roll.show({ gap });
  }

  #describe() {
    const entry = (colour, name) => element('li', {}, element('span', { class: 'hx-dot', style: `background:${colour}` }), name);
    const nameOf = track => track.name || (track.is_drum ? 'Drums' : `Track ${track.number}`);
    const tracks = this.pair.song.tracks.map(track => entry(trackColour(track.number), nameOf(track)));
    this.legend.replaceChildren(...tracks, entry(FILL_COLOUR, 'the fill you hear'));
  }

  #show() {
    const playing = Boolean(this.player?.isPlaying);
    this.playButton.textContent = playing ? 'Pause' : 'Play';
    this.playButton.dataset.playing = String(playing);
    setPressed(one => one.dataset.side === this.side, ...this.sides);
    if (this.pair) this.#showHeard();
  }

  #showHeard() {
    const { start_s, end_s, min_heard } = this.pair;
    for (const one of this.sides) {
      const share = this.share(one.dataset.side);
      one.style.setProperty('--heard', `${share * 100}%`);
      one.classList.toggle('is-enough', share >= min_heard);
      one.style.setProperty('--needed', `${min_heard * 100}%`);
      const text = share ? `heard ${Math.floor(share * 100)} %` : 'not heard yet';
      one.querySelector('.hx-heard').textContent = share >= min_heard ? `${text} ✓` : text;
    }
    const inGap = ([from, to]) => [Math.max(from, start_s), Math.min(to, end_s)];
    this.roll.heard = this.trace[this.side].intervals.map(inGap).filter(([from, to]) => to > from);
  }
}

function gapOf({ song, start_s, end_s, region }) {
  const bars = song.bars.filter(bar => bar.start_s >= start_s - 0.01 && bar.start_s < end_s - 0.01);
  const numberOf = which => typeof which === 'number' ? which : song.tracks.find(track => track.name === which)?.number;
  const named = region.tracks?.map(numberOf);
  return { first: bars[0]?.number, last: bars.at(-1)?.number, tracks: named || song.tracks.map(track => track.number) };
}
