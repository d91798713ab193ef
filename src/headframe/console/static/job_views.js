// Saved views of a list: names for addresses, kept by this browser.
import { element, fill, html } from "./html.js";
import { say } from "./api.js";

const KEY = "headframe-job-views";

/** @returns {[string, string][]} name and query */
function saved() {
  try {
    const found = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(found) ? found.filter((one) => Array.isArray(one) && one.length === 2).map(([name, text]) => [String(name), String(text)]) : [];
  } catch {
    return [];
  }
}

/** @param {[string, string][]} list */
function keep(list) {
  try {
    localStorage.setItem(KEY, JSON.stringify(list.slice(-30)));
  } catch {
    say("This browser keeps nothing for this page.");
  }
}

/** The menu of views. @param {HTMLElement} menu */
export function views(menu) {
  const place = /** @type {HTMLElement} */ (menu.querySelector("[data-own-views]"));
  const draw = () =>
    fill(place, saved().map(([name, text], number) => html`<div><a href="/jobs?${text}">${name}</a><button type="button" data-drop="${number}" aria-label="Forget the view ${name}">×</button></div>`));
  menu.querySelector("[data-save-view]")?.addEventListener("click", () => {
    const dialog = /** @type {HTMLDialogElement} */ (element(html`<dialog aria-label="Save this view"><form method="dialog" class="dialog-body form"><h2>Save this view</h2>
      <div class="field"><label for="view-name">Name</label><input id="view-name" required maxlength="60" autocomplete="off"></div>
      <p class="help">It keeps the filters of this address, in this browser.</p>
      <div class="buttons"><button class="primary" value="save">Save</button><button value="" formnovalidate>Cancel</button></div></form></dialog>`));
    document.getElementById("dialogs")?.append(dialog);
    dialog.addEventListener("close", () => {
      const name = /** @type {HTMLInputElement} */ (dialog.querySelector("input")).value.trim();
      if (dialog.returnValue === "save" && name) {
        keep([...saved().filter(([other]) => other !== name), [name, location.search.slice(1)]]);
        draw();
        say(`The view ${name} is saved.`);
      }
      dialog.remove();
    });
    menu.removeAttribute("open");
    dialog.showModal();
  });
  place.addEventListener("click", (event) => {
    const drop = /** @type {HTMLElement} */ (event.target).dataset.drop;
    if (drop === undefined) return;
    keep(saved().filter((_, number) => number !== Number(drop)));
    draw();
  });
  draw();
}
