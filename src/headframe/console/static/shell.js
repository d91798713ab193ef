// What every page does: theme, shortcuts, copying, times, menus, the palette and the focus on what went wrong.
import { refresh } from "./times.js";
import { say } from "./api.js";

const THEMES = ["system", "light", "dark"];

/** @param {string} theme */
function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  document.cookie = `headframe-theme=${theme}; path=/; max-age=31536000; samesite=lax${location.protocol === "https:" ? "; secure" : ""}`;
  document.querySelector('[data-act="theme"]')?.setAttribute("aria-label", `Theme: ${theme}`);
  document.dispatchEvent(new CustomEvent("hf-theme", { detail: theme }));
}

const nextTheme = () => {
  const theme = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme ?? "system") + 1) % THEMES.length];
  setTheme(theme);
  say(`Theme: ${theme}`);
};

/** @param {string} text */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    say("Copied.");
  } catch {
    say(`This browser does not let pages copy. The text is: ${text}`);
  }
}

const palette = async () => (await import("./palette.js")).open();
const shortcuts = async () => (await import("./palette.js")).shortcuts();
/** @type {Record<string, () => void>} */
const ACTS = { palette, shortcuts, theme: nextTheme };

document.addEventListener("click", (event) => {
  const target = /** @type {HTMLElement} */ (event.target);
  const copied = target.closest("[data-copy]");
  if (copied) void copy(/** @type {HTMLElement} */ (copied).dataset.copy ?? "");
  const act = /** @type {HTMLElement | null} */ (target.closest("[data-act]"))?.dataset.act;
  if (act && ACTS[act]) ACTS[act]();
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(target) || copied) menu.removeAttribute("open");
  }
});

document.addEventListener("change", (event) => {
  const field = /** @type {HTMLElement} */ (event.target).closest("[data-submit]");
  if (field) /** @type {HTMLSelectElement} */ (field).form?.requestSubmit();
});

let jumping = 0;
document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
    event.preventDefault();
    void palette();
    return;
  }
  if (event.key === "Escape") {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      menu.removeAttribute("open");
      menu.querySelector("summary")?.focus();
    }
  }
  const target = /** @type {HTMLElement} */ (event.target);
  const typing = target.closest("input, textarea, select, [contenteditable], dialog");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (jumping && event.timeStamp - jumping < 1500) {
    jumping = 0;
    const link = document.querySelector(`[data-jump="${CSS.escape(event.key)}"]`);
    if (link) {
      event.preventDefault();
      /** @type {HTMLElement} */ (link).click();
      return;
    }
  }
  jumping = 0;
  if (event.key === "g") jumping = event.timeStamp;
  else if (event.key === "t") nextTheme();
  else if (event.key === "?") void shortcuts();
  else if (event.key === "/") {
    const field = /** @type {HTMLElement | null} */ (document.querySelector("[data-filter], .filters input:not([type=hidden])"));
    if (field) {
      event.preventDefault();
      field.focus();
    }
  }
});

/** What scrolls sideways can be scrolled with keys, too. @param {Element} wrap */
function reachable(wrap) {
  const scrolls = wrap.scrollWidth > wrap.clientWidth;
  wrap.toggleAttribute("tabindex", scrolls);
  if (!scrolls) return;
  wrap.setAttribute("tabindex", "0");
  wrap.setAttribute("role", "region");
  const heading = wrap.closest(".card")?.querySelector("h2") ?? document.querySelector("h1");
  if (!wrap.hasAttribute("aria-label")) wrap.setAttribute("aria-label", `Table: ${wrap.querySelector("caption")?.textContent ?? heading?.textContent ?? ""}`.trim());
}

const sizes = new ResizeObserver((entries) => entries.forEach((one) => reachable(one.target)));
for (const wrap of document.querySelectorAll(".table-wrap, .scrolls")) sizes.observe(wrap);

for (const here of document.querySelectorAll(".sections [aria-current], .subnav [aria-current], .ways [aria-current]")) here.scrollIntoView({ block: "nearest", inline: "center" });
document.getElementById("problem")?.focus();
refresh();
setInterval(refresh, 1000);
