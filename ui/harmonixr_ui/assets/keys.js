// The keys of the listening page: which there are, how they are listed, and when a key press is meant for a pair.

import { element } from './page.js';

const KEYS = {
  ' ': 'toggle', 1: 'hear:a', arrowleft: 'hear:a', 2: 'hear:b', arrowright: 'hear:b', l: 'loop',
  a: 'choose:a', b: 'choose:b', t: 'choose:tie', n: 'choose:both_bad', s: 'skip', enter: 'save', u: 'undo',
};
const LISTED = [
  [['Space'], 'play or pause'], [['1', '2'], ['←', '→'], 'listen to A, B'], [['L'], 'loop the fill'],
  [['A', 'B'], 'is better; again: by more'], [['T'], 'about the same'], [['N'], 'both bad'], [['S'], 'skip'],
  [['Enter'], 'save'], [['U'], 'undo'],
];

export function keyList() {
  return element('dl', { class: 'hx-keys', 'aria-label': 'Keyboard shortcuts' }, ...LISTED.map(entry => {
    const caps = entry.slice(0, -1).flatMap((keys, i) => [...(i ? [' or '] : []), ...keys.map(key => element('kbd', {}, key))]);
    return element('div', {}, element('dt', {}, ...caps), element('dd', {}, entry.at(-1)));
  }));
}

// Call `act(name, argument)` for keys that `isOpen()` says are wanted, unless somebody writes or presses something else.
export function listenForKeys(isOpen, act) {
  const meant = event => isOpen() && !event.ctrlKey && !event.metaKey && !event.altKey && !isTaken(event);
  document.addEventListener('keydown', event => {
    const [name, argument] = (KEYS[event.key.toLowerCase()] || '').split(':');
    if (!name || !meant(event) || (event.repeat && name !== 'hear')) return;
    event.preventDefault();
    act(name, argument);
  });
}

function isTaken(event) {
  const target = event.target;
  // A focused button is pressed by these two keys, as everywhere; the mouse leaves no focus behind (see `unfocused`).
  if (event.key === ' ' || event.key === 'Enter') {
    if (target.closest?.('button, a, summary, [role="button"]')) return true;
  }
  return Boolean(target.closest?.('input, textarea, select, [contenteditable], [role="tab"], [role="listbox"]'));
}

// A button clicked with the mouse must not be what the next press of Space presses.
export function unfocused(box) {
  box.addEventListener('click', event => { if (event.detail > 0) event.target.closest('button')?.blur(); });
}
