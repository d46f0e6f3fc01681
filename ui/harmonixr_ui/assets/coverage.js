// Which stretches were heard, each counted once. Knows nothing of sound: it is told.

export class Coverage {
  constructor() { this.intervals = []; }

  // Add [from, to), in seconds of the song.
  add(from, to) {
    if (!(to > from)) return;
    const apart = this.intervals.filter(([begin, end]) => end < from || begin > to);
    const touching = this.intervals.filter(([begin, end]) => end >= from && begin <= to);
    const merged = [Math.min(from, ...touching.map(([begin]) => begin)), Math.max(to, ...touching.map(([, end]) => end))];
    this.intervals = [...apart, merged].sort((one, other) => one[0] - other[0]);
  }

  // What part of [start, end) was heard, 0 to 1.
  share(start, end) {
    const heard = this.intervals.reduce((sum, [from, to]) => sum + Math.max(0, Math.min(to, end) - Math.max(from, start)), 0);
    return end > start ? Math.min(1, heard / (end - start)) : 0;
  }

  // As the service takes them: milliseconds are more than enough, and longest first if there are very many.
  rounded(most = 512) {
    const longest = [...this.intervals].sort((one, other) => (other[1] - other[0]) - (one[1] - one[0])).slice(0, most);
    return longest.sort((one, other) => one[0] - other[0]).map(([from, to]) => [Math.round(from * 1000) / 1000, Math.round(to * 1000) / 1000]);
  }
}
