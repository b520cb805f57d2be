// Acme's text API: what was said goes in, a text comes out, in lines of JSON when it is streamed.

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const json = (value) => encoder.encode(JSON.stringify(value));
const parsed = (bytes) => JSON.parse(decoder.decode(bytes));

// What is said in Acme's words, or changes nothing of the answer. All else is refused by its name rather than left out.
const KNOWN = [
  'messages', 'max_tokens', 'max_completion_tokens', 'temperature', 'model', 'stream', 'stream_options', 'user',
];

export function describe() {
  return json({ operations: { 'chat.completions': ['stream'] } });
}

// The schema in plugin.json says all there is to say.
export function checkConfig() {}

export function selfTest() {
  const { prompt } = requestOf({ messages: [{ role: 'user', content: 'hi' }] });
  if (prompt[0].text !== 'hi') {
    throw problem('upstream', 'a text was lost');
  }
}

// The caller's request in Acme's words.
function requestOf(request) {
  for (const [name, value] of Object.entries(request)) {
    if (!KNOWN.includes(name) && value !== null) {
      // What is thrown is the error of the WIT function's result.
      throw problem('unsupported', "Acme's models have nothing like it.", { param: name });
    }
  }
  const prompt = request.messages.map(({ role, content }, index) => {
    if (typeof content !== 'string') {
      throw problem('unsupported', 'Acme takes texts only.', { param: `messages[${index}].content` });
    }
    return { from: role, text: content };
  });
  const limit = request.max_completion_tokens ?? request.max_tokens ?? undefined;
  return { prompt, limit, temperature: request.temperature ?? undefined };
}

// What an error of Acme's comes to: the kind decides the status, and whether another candidate is tried.
function kindOf(code, status) {
  if (code === 'too_long') return 'context-length';
  if (code === 'busy') return 'overloaded';
  if (status === 401) return 'authentication';
  if (status === 404) return 'not-found';
  if (status === 429) return 'rate-limit';
  return status >= 400 && status < 500 ? 'invalid-request' : 'upstream';
}

function problem(tag, message, more) {
  return { kind: { tag }, message, ...more };
}

// One for each answer; it lives as long as that.
class Decoder {
  constructor(call) {
    this.call = call;
    this.begun = false;
    this.ended = false;
  }

  // The frames of one read: lines of a stream, or the whole answer.
  push(frames) {
    return frames.flatMap(({ data }) => this.line(data));
  }

  finish() {
    if (!this.ended) {
      throw problem('upstream', "Acme's answer was cut short.");
    }
    return { outputs: [] };
  }

  line(data) {
    const { error, text, ended, tokens } = lineOf(data);
    if (error) {
      this.ended = true;
      return [{ tag: 'failure', val: problem(kindOf(error.code, 500), error.message) }];
    }
    this.ended = ended !== undefined;
    const said = this.begun ? { content: text } : { role: 'assistant', content: text };
    this.begun = true;
    const { requestId, created, model, streaming } = this.call;
    const answer = {
      id: `chatcmpl-${requestId}`,
      object: streaming ? 'chat.completion.chunk' : 'chat.completion',
      // Numbers of 64 bits come as BigInt, and go as that.
      created: Number(created),
      model,
      choices: [
        {
          index: 0,
          [streaming ? 'delta' : 'message']: said,
          logprobs: null,
          finish_reason: ended === undefined ? null : ended === 'limit' ? 'length' : 'stop',
        },
      ],
    };
    const outputs = [];
    if (tokens) {
      // For the account, as soon as it is known.
      const entry = (kind, amount) => ({ kind, amount: BigInt(amount) });
      outputs.push({ tag: 'usage', val: [entry('input', tokens.in), entry('output', tokens.out)] });
      const total = tokens.in + tokens.out;
      answer.usage = { prompt_tokens: tokens.in, completion_tokens: tokens.out, total_tokens: total };
    }
    return [...outputs, { tag: 'chunk', val: json(answer) }];
  }
}

// A line of Acme's; what isn't one is the vendor's fault.
function lineOf(data) {
  let line;
  try {
    line = parsed(data);
  } catch {
    // Told apart below.
  }
  const counts = line?.tokens ? [line.tokens.in, line.tokens.out] : [];
  const counted = counts.every((count) => Number.isSafeInteger(count) && count >= 0);
  if (typeof (line?.error ? line.error.message : line?.text) !== 'string' || !counted) {
    throw problem('upstream', "Acme's answer can't be understood.");
  }
  return line;
}

export const adapter = {
  prepare(call, body) {
    if (call.operation !== 'chat.completions') {
      throw problem('unsupported', `Acme has no ${call.operation}.`);
    }
    const request = requestOf(parsed(body.read(0n, Number(body.size()))));
    const data = json({ engine: call.model, ...request, stream: call.streaming });
    const val = {
      method: 'POST',
      path: '/generate',
      headers: [],
      // The host puts the credential in; nobody here sees it.
      auth: { tag: 'bearer' },
      body: { tag: 'replaced', val: { contentType: 'application/json', data } },
      response: { tag: 'decoded', val: call.streaming ? 'ndjson' : 'whole' },
    };
    return { tag: 'request', val };
  },

  mapError(call, head, body) {
    let error;
    try {
      ({ error } = parsed(body));
    } catch {
      // Somebody before Acme has answered.
    }
    const message = error?.message ?? `Acme answered ${head.status} without a message.`;
    const after = head.headers.find(({ name }) => name === 'retry-after')?.value ?? '';
    const retryAfterMs = /^[0-9]{1,7}$/.test(after) ? BigInt(after) * 1000n : undefined;
    return { tag: 'problem', val: problem(kindOf(error?.code, head.status), String(message), { retryAfterMs }) };
  },

  Decoder,
};
