// Ctrl-K: go somewhere, do something, find by id or name. Loaded when it is first opened.
import { ask } from "./api.js";
import { element, fill, html } from "./html.js";

/** @typedef {{words: string, kind: string, go?: string, act?: () => void}} Choice */

/** The sections, and what the page itself offers. @returns {Choice[]} */
function offered() {
  /** @type {Choice[]} */
  const found = [];
  for (const link of document.querySelectorAll(".sections a, .subnav a")) {
    found.push({ words: link.textContent?.trim() ?? "", kind: "go", go: /** @type {HTMLAnchorElement} */ (link).href });
  }
  found.push({ words: "New job", kind: "go", go: "/jobs/new" }, { words: "You and your devices", kind: "go", go: "/account" });
  for (const one of document.querySelectorAll(".actions a, .actions button, .popover [data-act]")) {
    const words = one.textContent?.trim() ?? "";
    if (words) found.push({ words, kind: "do", act: () => /** @type {HTMLElement} */ (one).click() });
  }
  return found.filter((one, place) => found.findIndex((other) => other.words === one.words) === place);
}

/** Where each kind of thing is looked at. @type {Record<string, (one: {id: string, name: string}) => string>} */
const PLACES = {
  job: (one) => `/jobs/${encodeURIComponent(one.id)}`,
  node: (one) => `/nodes/${encodeURIComponent(one.id)}`,
  cluster: () => "/admin/clusters",
  project: (one) => `/jobs?project=${encodeURIComponent(one.name)}`,
  member: () => "/admin/members",
  organization: (one) => `/admin/members?organization=${encodeURIComponent(one.name)}`,
};

/** @param {string} text @returns {Promise<Choice[]>} */
async function search(text) {
  const found = await ask(`/v1/find?text=${encodeURIComponent(text)}`).catch(() => ({ items: [] }));
  return found.items.map((/** @type {{kind: string, id: string, name: string, state: string}} */ one) => ({
    words: one.name, kind: [one.kind, one.state].filter(Boolean).join(", "), go: PLACES[one.kind]?.(one) ?? "/home",
  }));
}

export function open() {
  const dialog = /** @type {HTMLDialogElement} */ (element(html`<dialog class="palette" aria-label="Go, act, find">
    <input type="text" role="combobox" aria-expanded="true" aria-controls="palette-list" aria-label="Go, act, find by name or id" placeholder="Go to, do, or find a job, node, project…" autocomplete="off" spellcheck="false">
    <ul role="listbox" id="palette-list" aria-label="Choices"></ul></dialog>`));
  const input = /** @type {HTMLInputElement} */ (dialog.querySelector("input"));
  const list = /** @type {HTMLElement} */ (dialog.querySelector("ul"));
  const pages = offered();
  /** @type {Choice[]} */
  let shown = [];
  let chosen = 0;
  let asked = 0;

  const draw = () => {
    fill(list, shown.length ? shown.map((one, place) => html`<li role="option" id="choice-${place}" aria-selected="${place === chosen}"><span>${one.words}</span><span class="kind">${one.kind}</span></li>`) : html`<li class="none" role="option" aria-selected="false" aria-disabled="true">Nothing is called that here.</li>`);
    input.setAttribute("aria-activedescendant", shown.length ? `choice-${chosen}` : "");
    list.querySelector('[aria-selected="true"]')?.scrollIntoView({ block: "nearest" });
  };
  const take = (/** @type {Choice | undefined} */ choice) => {
    if (!choice) return;
    dialog.close();
    if (choice.go) location.assign(choice.go);
    else choice.act?.();
  };
  const narrow = async () => {
    const text = input.value.trim().toLowerCase();
    const mine = ++asked;
    shown = pages.filter((one) => one.words.toLowerCase().includes(text));
    chosen = 0;
    if (shown.length || !text) draw();
    if (text.length < 2) return;
    const found = await search(text);
    if (mine === asked) {
      shown = [...shown, ...found];
      draw();
    }
  };
  input.addEventListener("input", () => void narrow());
  input.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && shown.length) {
      event.preventDefault();
      chosen = (chosen + step + shown.length) % shown.length;
      draw();
    } else if (event.key === "Enter") {
      event.preventDefault();
      take(shown[chosen]);
    }
  });
  list.addEventListener("click", (event) => {
    const option = /** @type {HTMLElement} */ (event.target).closest('[id^="choice-"]');
    if (option) take(shown[Number(option.id.slice(7))]);
  });
  show(dialog);
  void narrow();
}

export function shortcuts() {
  const jumps = [...document.querySelectorAll("[data-jump]")].map((one) => html`<span><kbd>g</kbd> <kbd>${/** @type {HTMLElement} */ (one).dataset.jump}</kbd></span><span>${one.textContent}</span>`);
  const own = [...document.querySelectorAll("[data-shortcut]")].map((one) => html`<span><kbd>${/** @type {HTMLElement} */ (one).dataset.shortcut}</kbd></span><span>${one.getAttribute("data-shortcut-words")}</span>`);
  show(/** @type {HTMLDialogElement} */ (element(html`<dialog aria-label="Shortcuts"><div class="dialog-body"><h2>Shortcuts</h2><div class="keys">
    <span><kbd>Ctrl</kbd> <kbd>K</kbd></span><span>Go, act, find by name or id</span>
    <span><kbd>/</kbd></span><span>Filter</span><span><kbd>t</kbd></span><span>Theme</span><span><kbd>?</kbd></span><span>This list</span>
    ${jumps}${own}</div></div></dialog>`)));
}

/** @param {HTMLDialogElement} dialog */
function show(dialog) {
  document.querySelector("#dialogs dialog")?.remove();
  document.getElementById("dialogs")?.append(dialog);
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.showModal();
}
