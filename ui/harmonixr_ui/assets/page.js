// Elements, requests, files and the rater's key: shared by every part of the page.

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, '');
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter(child => child !== null));
  return made;
}

const address = path => new URL(path, document.baseURI);

// Return the response. Every failure is an Error whose message can be shown.
async function checked(request) {
  let response;
  try { response = await request; } catch { throw new Error('The page’s server does not respond; check that it is running.'); }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  const detail = typeof problem.detail === 'string' ? problem.detail : `The server responded with status ${response.status}.`;
  throw Object.assign(new Error(detail), { status: response.status });
}

// `more`: attributes of the button.
export const button = (label, act, more = {}) => element('button', { type: 'button', ...more, onclick: act }, label);

// A button that is on or off; `act` decides which.
export const toggle = (label, act, more = {}) => button(label, act, { 'aria-pressed': 'false', ...more });

export function setPressed(pressed, ...buttons) {
  for (const one of buttons) one.setAttribute('aria-pressed', String(pressed(one)));
}

export const getSound = async path => (await checked(fetch(address(path)))).arrayBuffer();

export const fetchJson = async path => (await checked(fetch(address(path)))).json();

export const post = (path, body) => checked(fetch(address(path), {
  method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body),
}));

export const preview = async (midi_base64, start_s, end_s) =>
  (await post('hx/preview', { midi_base64, start_s, end_s })).arrayBuffer();

export function download(midi_base64, name) {
  const bytes = Uint8Array.from(atob(midi_base64), char => char.charCodeAt(0));
  const url = URL.createObjectURL(new Blob([bytes], { type: 'audio/midi' }));
  element('a', { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

export function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), byte => byte.toString(16).padStart(2, '0')).join('');
}

// A secret of this browser. The service stores only a keyed pseudonym of it.
export function raterKey() {
  let key = localStorage.getItem('harmonixr.rater');
  if (!key) localStorage.setItem('harmonixr.rater', key = randomKey());
  return key;
}

export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, '0')}`;
}

export const fileStem = name => (name || 'song').replace(/\.midi?$/i, '').replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-|-$/g, '').toLowerCase() || 'song';
