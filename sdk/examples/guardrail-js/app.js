// Words that must not leave the house: requests with one are blocked, answers have them masked.

import { value } from 'brokle:host/config@0.1.0';

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export function describe() {
  return encoder.encode(JSON.stringify({ stages: ['request', 'response'] }));
}

// The schema in plugin.json says all there is to say.
export function checkConfig() {}

export function selfTest() {
  const found = find([encoder.encode('ab'), encoder.encode('abc')], encoder.encode('xabc'), 0);
  if (found?.start !== 1 || found.end !== 4) {
    throw { kind: { tag: 'upstream' }, message: 'a word was not found' };
  }
}

// Texts are edited by bytes of UTF-8, so they are searched as bytes.
function words() {
  const set = value('/words');
  const words = set ? JSON.parse(decoder.decode(set)) : [];
  return words.map((word) => encoder.encode(word)).filter((word) => word.length > 0);
}

// The first word at or after a place; of those that begin there, the longest.
function find(words, text, from) {
  for (let start = from; start < text.length; start++) {
    const here = words.filter((word) => word.every((byte, at) => text[start + at] === byte));
    if (here.length > 0) {
      return { start, end: start + Math.max(...here.map((word) => word.length)) };
    }
  }
  return undefined;
}

// Edits for the words that begin before `decided`, and where the last of them ends.
function mask(words, index, text, decided) {
  const edits = [];
  let end = 0;
  for (let found; (found = find(words, text, end)) && found.start < decided; ) {
    end = found.end;
    edits.push({ text: index, ...found, replacement: '***' });
  }
  return { edits, end };
}

function ruling(verdict, masked = 0) {
  const annotations = masked > 0 ? [{ name: 'masked', value: encoder.encode(JSON.stringify(masked)) }] : [];
  return { verdict, annotations, state: new Uint8Array() };
}

const allow = { tag: 'allow' };
const changed = (edits) => (edits.length > 0 ? { tag: 'change', val: edits } : allow);

export const guard = {
  onRequest(call, request, texts) {
    const forbidden = words();
    if (texts.some((text) => find(forbidden, encoder.encode(text.value), 0))) {
      // Never put what was found into the reason.
      const reason = 'The request names something that must not leave the house.';
      return ruling({ tag: 'block', val: { category: 'confidential', reason } });
    }
    return ruling(allow);
  },

  onResponse(call, request, texts) {
    const forbidden = words();
    const edits = texts.flatMap((text, index) => {
      const value = encoder.encode(text.value);
      return mask(forbidden, index, value, value.length).edits;
    });
    return ruling(changed(edits), edits.length);
  },

  // A word may be cut in two by the stream: what could still become one, or a longer one, is held back until more has
  // come, so that the same comes of every cut. The fixtures try them all.
  onChunk(call, request, fragments) {
    const forbidden = words();
    const longest = Math.max(0, ...forbidden.map((word) => word.length));
    const masked = fragments.map((fragment, index) => {
      const value = encoder.encode(fragment.value);
      const decided = fragment.last ? value.length : Math.max(value.length - longest, 0);
      const { edits, end } = mask(forbidden, index, value, decided);
      let cut = Math.max(decided, end);
      // Not in the middle of a character.
      while (cut < value.length && (value[cut] & 0xc0) === 0x80) {
        cut--;
      }
      return { edits, hold: value.length - cut };
    });
    const edits = masked.flatMap(({ edits }) => edits);
    return { ruling: ruling(changed(edits)), hold: new Uint32Array(masked.map(({ hold }) => hold)) };
  },
};
