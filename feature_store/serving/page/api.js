// Questions to the API beside which this page lies; the key is kept as long as this tab is open.

const STORED = "feature-store-key";

export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export function key() {
  return sessionStorage.getItem(STORED);
}

export function keep(text) {
  if (text) sessionStorage.setItem(STORED, text);
  else sessionStorage.removeItem(STORED);
}

/** What the API answers, or a `Refused` with what it says is wrong. */
export async function ask(...parts) {
  const sent = key();
  const headers = sent ? { authorization: `Bearer ${sent}` } : {};
  let answer;
  try {
    answer = await fetch(["v1", ...parts.map(encodeURIComponent)].join("/"), { headers });
  } catch {
    throw new Refused(0, "The server does not answer.");
  }
  if (answer.ok) return answer.json();
  const problem = await answer.json().catch(() => ({}));
  throw new Refused(answer.status, problem.detail ?? `The server answered ${answer.status}.`);
}
