// The keyboard shortcuts of the listening page.

import { element } from './page.js';

const KEYS = {
  ' ': 'toggle', 1: 'hear:a', arrowleft: 'hear:a', 2: 'hear:b', arrowright: 'hear:b', l: 'loop',
  a: 'choose:a', b: 'choose:b', t: 'choose:tie', n: 'choose:both_bad', s: 'skip', enter: 'save', u: 'undo',
};
const LISTED = [
  [['Space'], 'play or pause'], [['1', '2'], ['←', '→'], 'listen to A, B'], [['L'], 'loop the fill'],
  [['A', 'B'], 'is better; again: stronger'], [['T'], 'about the same'], [['N'], 'both bad'], [['S'], 'skip'],
  [['Enter'], 'save'], [['U'], 'undo'],
];

export function keyList() {
  return element('dl', { class: 'hx-keys', 'aria-label': 'Keyboard shortcuts' }, ...LISTED.map(entry => {
    const caps = entry.slice(0, -1).flatMap((keys, i) => [...(i ? [' or '] : []), ...keys.map(key => element('kbd', {}, key))]);
    return element('div', {}, element('dt', {}, ...caps), element('dd', {}, entry.at(-1)));
  }));
}

// Call `act(name, argument)` for a shortcut while `isOpen()`, unless the key press belongs to a focused field or button.
export function listenForKeys(isOpen, act) {
  const isShortcut = event => isOpen() && !event.ctrlKey && !event.metaKey && !event.altKey && !isTaken(event);
  document.addEventListener('keydown', event => {
    const [name, argument] = (KEYS[event.key.toLowerCase()] || '').split(':');
    if (!name || !isShortcut(event) || (event.repeat && name !== 'hear')) return;
    event.preventDefault();
    act(name, argument);
  });
}

function isTaken(event) {
  const target = event.target;
  // These two keys press a focused button. A mouse click leaves no focus (see `unfocused`).
  if (event.key === ' ' || event.key === 'Enter') {
    if (target.closest?.('button, a, summary, [role="button"]')) return true;
  }
  return Boolean(target.closest?.('input, textarea, select, [contenteditable], [role="tab"], [role="listbox"]'));
}

// After a mouse click, Space must not press the same button again.
export function unfocused(box) {
  box.addEventListener('click', event => { if (event.detail > 0) event.target.closest('button')?.blur(); });
}
