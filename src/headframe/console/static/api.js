// Requests to the API from a page: with the session's token where something changes.

/** What went wrong, as the API's problem document tells it. */
export class Refused extends Error {
  /** @param {{detail?: string, next_step?: string, code?: string, status?: number, field?: string}} problem */
  constructor(problem) {
    super([problem.detail, problem.next_step].filter(Boolean).join(" ") || "The server did not answer as it should.");
    this.problem = problem;
  }
}

/**
 * Ask the API; the answer's JSON. Raises `Refused` with the words to show.
 * @param {string} path such as "/v1/jobs" @param {{method?: string, body?: unknown, signal?: AbortSignal}} [more]
 * @returns {Promise<any>}
 */
export async function ask(path, more = {}) {
  /** @type {Record<string, string>} */
  const headers = { Accept: "application/json" };
  if (more.body !== undefined) headers["Content-Type"] = "application/json";
  if (more.method && more.method !== "GET") headers["X-Headframe-Form"] = document.body.dataset.formToken ?? "";
  const body = more.body === undefined ? undefined : JSON.stringify(more.body);
  const answer = await fetch(path, { method: more.method ?? "GET", headers, body, signal: more.signal });
  if (answer.status === 401) location.assign(`/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`);
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(found);
  return found;
}

/** Tell an outcome to everybody, screen readers included. @param {string} words */
export function say(words) {
  const place = document.getElementById("said");
  if (!place) return;
  const line = document.createElement("p");
  line.textContent = words;
  place.replaceChildren(line);
}
