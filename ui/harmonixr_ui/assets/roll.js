// Draw a song as a piano roll: one colour per track, bar lines and the gap.

export const TRACK_COLOURS = ['#4f6bed', '#0f9d8a', '#b4559b', '#7a8b2f', '#c2773b', '#3d8fc4', '#8a6bd1', '#5b7083'];
export const FILL_COLOUR = '#e8502f';
const BLACK_KEYS = new Set([1, 3, 6, 8, 10]);
const RULER = 22, DRUM_LANE = 54, MARGIN = 6;

export const trackColour = number => TRACK_COLOURS[(number - 1) % TRACK_COLOURS.length];

export class Roll {
  // `onPick(first, last)`: bars were marked by dragging; without it, dragging does nothing. A bar is at least `barPx` wide.
  constructor(parent, { onPick = null, height = 300, barPx = 26 } = {}) {
    this.height = height;
    this.barPx = barPx;
    this.onPick = onPick;
    this.scroller = parent.appendChild(document.createElement('div'));
    this.scroller.className = 'hx-roll';
    this.scroller.tabIndex = 0;
    this.scroller.setAttribute('role', 'region');
    this.scroller.setAttribute('aria-label', 'Piano roll');
    this.spacer = this.scroller.appendChild(document.createElement('div'));
    this.canvas = this.spacer.appendChild(document.createElement('canvas'));
    this.canvas.setAttribute('role', 'img');
    this.song = null; this.gap = null; this.fill = null; this.playhead = null; this.dragged = null;
    this.stretch = null; this.others = null; this.heard = null;
    this.scroller.addEventListener('scroll', () => this.draw());
    new ResizeObserver(() => this.layout()).observe(this.scroller);
    if (onPick) this.#listenToDrags();
  }

  // `stretch`: seconds [from, to) that fill the width; without it, the whole song scrolls. `others`: notes of the other
  // fill, so that the pitch range stays the same after a switch. `heard`: seconds to mark along the top.
  show({ song = this.song, gap = this.gap, fill = this.fill, stretch = this.stretch, others = this.others, heard = this.heard }) {
    const isNew = song !== this.song;
    Object.assign(this, { song, gap, fill, stretch, others, heard });
    this.byTrack = new Map(song ? song.tracks.map(t => [t.number, t]) : []);
    const drums = n => this.byTrack.get(n.track)?.is_drum;
    const shown = n => !stretch || (n.onset_s < stretch[1] && n.onset_s + n.duration_s > stretch[0]);
    const pitched = song ? [...song.notes, ...(fill || []), ...(others || [])].filter(n => !drums(n) && shown(n)).map(n => n.pitch) : [];
    this.low = pitched.length ? Math.min(...pitched) - 2 : 58;
    this.high = Math.max(this.low + 16, (pitched.length ? Math.max(...pitched) : 72) + 2);
    this.hasDrums = Boolean(song && song.tracks.some(t => t.is_drum));
    this.layout();
    if (isNew) this.revealGap();
  }

  setPlayhead(second) {
    this.playhead = second;
    if (second !== null && this.song && !this.stretch) {
      const x = this.xOfTick(this.tickOf(second));
      if (x > this.scroller.scrollLeft + this.width * 0.92 || x < this.scroller.scrollLeft) {
        this.scroller.scrollLeft = x - this.width * 0.15;
      }
    }
    this.draw();
  }

  revealGap() {
    const gap = this.gapTicks();
    if (gap) this.scroller.scrollLeft = Math.max(0, this.xOfTick(gap[0]) - this.width * 0.3);
  }

  layout() {
    this.width = this.scroller.clientWidth;
    if (!this.song || !this.width) return;
    const bars = this.song.bars;
    this.ticks = bars.at(-1).end_tick;
    this.first = this.stretch ? this.tickOf(this.stretch[0]) : 0;
    this.last = this.stretch ? this.tickOf(this.stretch[1]) : this.ticks;
    this.total = this.stretch ? this.width : Math.max(this.width, bars.length * this.barPx);
    this.spacer.style.width = `${this.total}px`;
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = this.width * ratio;
    this.canvas.height = this.height * ratio;
    this.canvas.style.width = `${this.width}px`;
    this.canvas.style.height = this.spacer.style.height = `${this.height}px`;
    this.draw();
  }

  xOfTick(tick) { return MARGIN + (tick - this.first) / (this.last - this.first) * (this.total - 2 * MARGIN); }

  tickOf(second) {
    const bars = this.song.bars;
    let i = bars.findLastIndex(bar => bar.start_s <= second);
    if (i < 0) i = 0;
    const ends = i + 1 < bars.length ? bars[i + 1].start_s : Math.max(this.song.duration_s, bars[i].start_s + 0.1);
    const share = Math.min(1, (second - bars[i].start_s) / (ends - bars[i].start_s));
    return bars[i].start_tick + share * (bars[i].end_tick - bars[i].start_tick);
  }

  // A gap that does not consist of whole bars has its own `ticks`.
  gapTicks() {
    if (this.gap?.ticks) return this.gap.ticks;
    const bars = this.song?.bars;
    const { first, last } = this.dragged || this.gap || {};
    if (!bars || !first || !last || first > last || !bars[first - 1] || !bars[last - 1]) return null;
    return [bars[first - 1].start_tick, bars[last - 1].end_tick];
  }

  draw() {
    if (!this.song || !this.width) return;
    const pen = this.canvas.getContext('2d');
    const ratio = window.devicePixelRatio || 1;
    const style = getComputedStyle(this.scroller);
    const ink = { line: style.getPropertyValue('--hx-line'), faint: style.getPropertyValue('--hx-faint'),
      text: style.getPropertyValue('--hx-muted'), gap: style.getPropertyValue('--hx-gap'),
      edge: style.getPropertyValue('--hx-gap-edge'), paper: style.getPropertyValue('--hx-paper'), accent: style.getPropertyValue('--hx-accent') };
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, this.width, this.height);
    pen.translate(-this.scroller.scrollLeft, 0);
    this.#drawPaper(pen, ink);
    this.#drawNotes(pen, ink);
    for (const [from, to] of this.heard || []) {
      const x = this.xOfTick(this.tickOf(from));
      pen.fillStyle = ink.accent;
      pen.fillRect(x, 0, this.xOfTick(this.tickOf(to)) - x, 4);
    }
    if (this.playhead !== null) {
      const x = this.xOfTick(this.tickOf(this.playhead));
      pen.fillStyle = FILL_COLOUR;
      pen.fillRect(x - 0.75, RULER - 4, 1.5, this.height);
    }
    this.#describe();
  }

  #laneBottom() { return this.height - (this.hasDrums ? DRUM_LANE : 4); }
  #row() { return (this.#laneBottom() - RULER) / (this.high - this.low + 1); }

  #y(note) {
    if (!this.byTrack.get(note.track)?.is_drum) return this.#laneBottom() - (note.pitch - this.low + 1) * this.#row();
    const share = Math.min(1, Math.max(0, (note.pitch - 35) / 24));
    return this.height - 6 - share * (DRUM_LANE - 14);
  }

  #drawPaper(pen, ink) {
    const left = this.scroller.scrollLeft, row = this.#row();
    pen.fillStyle = ink.faint;
    for (let pitch = this.low; pitch <= this.high; pitch++) {
      if (BLACK_KEYS.has(pitch % 12)) pen.fillRect(left, this.#laneBottom() - (pitch - this.low + 1) * row, this.width, row);
    }
    if (this.hasDrums) {
      pen.fillStyle = ink.line;
      pen.fillRect(left, this.#laneBottom() + 2, this.width, 1);
    }
    const gap = this.gapTicks();
    if (gap) {
      const [from, to] = gap.map(tick => this.xOfTick(tick));
      pen.fillStyle = ink.gap;
      pen.fillRect(from, 0, to - from, this.height);
      pen.fillStyle = ink.edge;
      for (const x of [from, to]) pen.fillRect(x - 0.75, 0, 1.5, this.height);
    }
    const barPx = this.total / this.song.bars.filter(bar => bar.start_tick < this.last && bar.end_tick > this.first).length;
    const every = [1, 2, 4, 8, 16, 32].find(step => step * barPx > 30) || 64;
    pen.font = '11px system-ui, sans-serif';
    for (const bar of this.song.bars) {
      const x = this.xOfTick(bar.start_tick);
      if (x < left - 40 || x > left + this.width + 40) continue;
      pen.fillStyle = ink.line;
      pen.fillRect(x, RULER, 1, this.height - RULER);
      pen.fillStyle = ink.text;
      if ((bar.number - 1) % every === 0 && x > left - 4) pen.fillText(String(bar.number), x + 4, 15);
    }
  }

  #drawNotes(pen, ink) {
    const gap = this.gapTicks();
    const chosen = new Set(this.gap?.tracks || []);
    for (const note of this.song.notes) {
      const inGap = gap && chosen.has(note.track) && note.onset_tick >= gap[0] && note.onset_tick < gap[1];
      if (inGap && this.fill) continue;
      this.#drawNote(pen, note, trackColour(note.track), inGap ? 'hollow' : 'plain', ink);
    }
    for (const note of this.fill || []) this.#drawNote(pen, note, FILL_COLOUR, 'plain', ink);
  }

  #drawNote(pen, note, colour, look, ink) {
    const x = this.xOfTick(note.onset_tick), left = this.scroller.scrollLeft;
    if (x > left + this.width) return;
    const drum = this.byTrack.get(note.track)?.is_drum;
    const width = drum ? 4 : Math.max(2.5, this.xOfTick(note.onset_tick + note.duration_ticks) - x - 1);
    if (x + width < left) return;
    const height = drum ? 4 : Math.max(2.5, this.#row() - 0.8);
    pen.beginPath();
    pen.roundRect(x, this.#y(note), width, height, Math.min(2, height / 2));
    if (look === 'hollow') {
      pen.fillStyle = ink.paper; pen.fill();
      pen.strokeStyle = colour; pen.lineWidth = 1.2; pen.stroke();
    } else {
      pen.fillStyle = colour; pen.fill();
    }
  }

  #describe() {
    const { bars, tracks } = this.song;
    const which = this.gap?.tracks?.length ? ` of ${this.gap.tracks.length === 1 ? 'track' : 'tracks'} ${this.gap.tracks.join(', ')}` : '';
    const gap = this.gap?.first ? `; gap in bars ${this.gap.first} to ${this.gap.last}${which}` : '';
    this.canvas.setAttribute('aria-label', `Piano roll: ${bars.length} bars, ${tracks.length} tracks${gap}`);
  }

  #listenToDrags() {
    const barAt = event => {
      const x = event.clientX - this.canvas.getBoundingClientRect().left + this.scroller.scrollLeft;
      const tick = (x - MARGIN) / (this.total - 2 * MARGIN) * this.ticks;
      const bar = this.song.bars.findLast(b => b.start_tick <= tick) || this.song.bars[0];
      return bar.number;
    };
    let from = null;
    // Mice and pens mark bars; a finger scrolls the roll.
    this.canvas.addEventListener('pointerdown', event => {
      if (!this.song || event.pointerType === 'touch' || event.button !== 0) return;
      from = barAt(event);
      this.canvas.setPointerCapture(event.pointerId);
      this.dragged = { first: from, last: from };
      this.draw();
    });
    this.canvas.addEventListener('pointermove', event => {
      if (from === null) return;
      const here = barAt(event);
      this.dragged = { first: Math.min(from, here), last: Math.max(from, here) };
      this.draw();
    });
    const finish = event => {
      if (from === null) return;
      const picked = this.dragged;
      from = null;
      this.gap = { ...this.gap, ...picked };
      this.dragged = null;
      if (event.type === 'pointerup') this.onPick(picked.first, picked.last);
      this.draw();
    };
    this.canvas.addEventListener('pointerup', finish);
    this.canvas.addEventListener('pointercancel', finish);
  }
}
