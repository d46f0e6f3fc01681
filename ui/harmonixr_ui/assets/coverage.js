// The stretches that were heard, each counted once.

export class Coverage {
  constructor() { this.intervals = []; }

  // Add [from, to), in seconds of the song.
  add(from, to) {
    if (!(to > from)) return;
    const separate = this.intervals.filter(([begin, end]) => end < from || begin > to);
    const touching = this.intervals.filter(([begin, end]) => end >= from && begin <= to);
    const merged = [Math.min(from, ...touching.map(([begin]) => begin)), Math.max(to, ...touching.map(([, end]) => end))];
    this.intervals = [...separate, merged].sort((one, other) => one[0] - other[0]);
  }

  // Return the share of [start, end) that was heard, 0 to 1.
  share(start, end) {
    const heard = this.intervals.reduce((sum, [from, to]) => sum + Math.max(0, Math.min(to, end) - Math.max(from, start)), 0);
    return end > start ? Math.min(1, heard / (end - start)) : 0;
  }

  // Return the intervals in the form of a request: rounded to milliseconds, and only the longest `most` of them.
  rounded(most = 512) {
    const longest = [...this.intervals].sort((one, other) => (other[1] - other[0]) - (one[1] - one[0])).slice(0, most);
    return longest.sort((one, other) => one[0] - other[0]).map(([from, to]) => [Math.round(from * 1000) / 1000, Math.round(to * 1000) / 1000]);
  }
}
