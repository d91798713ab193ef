// One stream of changes for the whole tab, whatever number of modules listen.

/** @typedef {(frame: any, topic: string) => void} Listener */
/** @typedef {{topic: string, hear: Listener, reset?: () => void}} Subscription */

/** @type {Set<Subscription>} */
const subscriptions = new Set();
/** @type {EventSource | null} */
let source = null;
let place = Number(document.body.dataset.sequence ?? 0);
let open = "";
let failures = 0;
/** @type {number | undefined} */
let timer;

/**
 * Hear of a topic: `hear` gets each frame, `reset` is called when frames were lost and the page must fetch anew.
 * Frames of gauges ("fleet") are whole pictures; those of events ("events", "jobs") follow one another from where the
 * page was made. Returns the call that ends it.
 * @param {string} topic such as "home" or "job:job_123" @param {Listener} hear @param {() => void} [reset]
 * @returns {() => void}
 */
export function follow(topic, hear, reset) {
  const subscription = { topic, hear, reset };
  subscriptions.add(subscription);
  plan();
  return () => {
    subscriptions.delete(subscription);
    plan();
  };
}

/** Connect in a moment, when all modules have said what they want. @param {number} [wait] milliseconds */
function plan(wait = 0) {
  clearTimeout(timer);
  timer = setTimeout(connect, wait);
}

function close() {
  source?.close();
  source = null;
  open = "";
}

function connect() {
  const topics = [...new Set([...subscriptions].map((one) => one.topic))].sort();
  // A hidden tab holds no stream: browsers open no more than six connections to one host over HTTP/1.1.
  if (!topics.length || document.hidden) return close();
  if (source && topics.join() === open) return;
  close();
  open = topics.join();
  const stream = new EventSource(`/v1/live?topics=${encodeURIComponent(open)}&after=${place}`);
  source = stream;
  stream.onopen = () => {
    failures = 0;
    tell("");
  };
  stream.onerror = () => {
    if (source !== stream) return;
    failures += 1;
    if (failures > 1) tell(navigator.onLine ? "Reconnecting" : "Offline");
    // A stream that was refused (signed out, another role) does not try again by itself.
    if (stream.readyState === EventSource.CLOSED) {
      close();
      void refused();
    }
  };
  for (const topic of topics) stream.addEventListener(topic, (event) => deliver(topic, /** @type {MessageEvent} */ (event)));
  stream.addEventListener("reset", (event) => {
    note(/** @type {MessageEvent} */ (event));
    for (const one of [...subscriptions]) one.reset?.();
  });
}

/** @param {MessageEvent} event */
function note(event) {
  const id = Number(event.lastEventId);
  if (id > place) place = id;
}

/** @param {string} topic @param {MessageEvent} event */
function deliver(topic, event) {
  note(event);
  const frame = JSON.parse(event.data);
  for (const one of [...subscriptions]) if (one.topic === topic) one.hear(frame, topic);
}

async function refused() {
  const answer = await fetch("/v1/whoami").catch(() => null);
  if (answer?.status === 401) {
    location.assign(`/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`);
    return;
  }
  plan(Math.min(30_000, 500 * 2 ** Math.min(failures, 6)) * (0.5 + Math.random()));
}

/** Show how the connection is: nothing where it is well. @param {string} words */
function tell(words) {
  const sign = /** @type {HTMLElement | null} */ (document.querySelector("hf-connection"));
  if (!sign) return;
  sign.hidden = !words;
  sign.textContent = words;
  document.documentElement.toggleAttribute("data-stale", Boolean(words));
}

document.addEventListener("visibilitychange", () => (document.hidden ? close() : plan()));
window.addEventListener("online", () => plan());
window.addEventListener("offline", () => {
  close();
  if (subscriptions.size) tell("Offline");
});
window.addEventListener("pagehide", close);
window.addEventListener("pageshow", (event) => event.persisted && plan());
