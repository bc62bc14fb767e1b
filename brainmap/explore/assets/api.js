// Questions to the server, and its answers with arrays decoded.

const TYPES = {
  float32: Float32Array, float64: Float64Array, uint8: Uint8Array, int16: Int16Array, int32: Int32Array,
  int64: BigInt64Array,
};
export const TAB = Math.random().toString(36).slice(2, 8);
let pending = 0;
const watchers = { pending: () => {}, gone: () => {} };

export class AskError extends Error {
  constructor(words, status) {
    super(words);
    this.status = status;
  }

  /** Whether nobody waits for the answer any more. */
  get isStale() { return this.status === 204; }
}

export function watch(name, tell) { watchers[name] = tell; }

export function countPending() { return pending; }

function decode(value) {
  if (Array.isArray(value)) return value.map(decode);
  if (value === null || typeof value !== "object") return value;
  if (typeof value.base64 === "string" && value.dtype in TYPES) {
    const bytes = Uint8Array.from(atob(value.base64), (letter) => letter.charCodeAt(0));
    return { shape: value.shape, data: new TYPES[value.dtype](bytes.buffer) };
  }
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, decode(one)]));
}

async function call(address, options) {
  pending += 1;
  watchers.pending();
  let answer;
  try {
    answer = await fetch(address, options);
  } catch {
    watchers.gone();
    throw new AskError("The explorer does not answer.", 0);
  } finally {
    pending -= 1;
  }
  if (answer.status === 204) throw new AskError("A newer question took the turn of this one.", 204);
  if (answer.ok) return answer;
  let words = `The explorer answered ${answer.status}.`;
  try { words = (await answer.json()).error ?? words; } catch { /* not JSON: the guard's page */ }
  if (answer.status === 403) watchers.gone();
  throw new AskError(words, answer.status);
}

function addressOf(command, given, slot) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(given)) if (value !== "" && value != null) query.set(name, value);
  if (slot) query.set("slot", `${TAB}.${slot}`);
  return `/api/${command}?${query}`;
}

export async function ask(command, given = {}, slot = "") {
  return decode(await (await call(addressOf(command, given, slot))).json());
}

export async function askBytes(command, given = {}, slot = "") {
  return (await call(addressOf(command, given, slot))).blob();
}

export async function readState() {
  const answer = await fetch("/api/state");
  if (!answer.ok) throw new AskError("", answer.status);
  return answer.json();
}

export async function stopJob(number) {
  await call(`/api/stop?job=${number}`, { method: "POST" });
}

export async function sendSound(bytes, name) {
  return (await call(`/api/upload?name=${encodeURIComponent(name)}`, { method: "POST", body: bytes })).json();
}
