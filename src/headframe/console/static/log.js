// <hf-log data-job>: a log with search, wrap, times, streams and ranks, followed while the job runs.
import { Refused, say } from "./api.js";
import { plain } from "./ansi.js";
import { fill, html, mark } from "./html.js";
import { Source } from "./log_source.js";
import { View } from "./log_view.js";

/** @typedef {import("./log_lines.js").Line} Line */

const MOST_PANES = 4;

class Log extends HTMLElement {
  /** @type {View[]} */ #views = [];
  /** @type {Line[][]} */ #shown = [];
  #source = new Source(this.dataset.job ?? "", () => this.#changed(), (words) => this.#note(words));
  #looks = { wrap: false, times: false, ranks: false, needle: "" };
  #stream = "";
  #mode = "merged"; // "merged", "split", or a rank
  #only = false;
  #following = true;
  #seen = -1;
  #touched = -1e6; // when somebody last did what scrolls

  connectedCallback() {
    const ranks = Number(this.dataset.ranks ?? 1);
    this.#looks.ranks = ranks > 1;
    this.#looks.wrap = matchMedia("(max-width: 600px)").matches;
    fill(this, tools(ranks, this.dataset.job ?? "", this.#looks.wrap));
    this.#panes();
    this.addEventListener("click", (event) => this.#act(/** @type {HTMLElement | null} */ (/** @type {HTMLElement} */ (event.target).closest("[data-log]"))?.dataset.log ?? ""));
    this.querySelector("[data-log-search]")?.addEventListener("input", (event) => this.#search(/** @type {HTMLInputElement} */ (event.target).value));
    this.querySelector("[data-log-search]")?.addEventListener("keydown", (event) => {
      if (/** @type {KeyboardEvent} */ (event).key === "Enter") this.#step(/** @type {KeyboardEvent} */ (event).shiftKey ? -1 : 1);
    });
    this.addEventListener("change", (event) => {
      const choice = /** @type {HTMLSelectElement} */ (event.target);
      if (choice.dataset.logChoice === "stream") this.#stream = choice.value;
      if (choice.dataset.logChoice === "ranks") {
        this.#mode = choice.value;
        this.#panes();
      }
      this.#draw(false);
    });
    this.#source.start().catch((error) => this.#note(error instanceof Refused ? error.message : "The log cannot be read now."));
  }

  /** One pane, or one for each rank. */
  #panes() {
    const ranks = Math.min(Number(this.dataset.ranks ?? 1), MOST_PANES);
    const split = this.#mode === "split";
    const names = split ? [...Array(ranks).keys()].map((rank) => `Log of rank ${rank}`) : ["Log"];
    const panes = /** @type {HTMLElement} */ (this.querySelector(".log-panes"));
    fill(panes, names.map((name) => html`<section class="log-pane" aria-label="${name}">${split ? html`<p class="log-pane-head">${name.slice(7)}</p>` : ""}<div class="log-scroll" tabindex="0" role="log" aria-live="off" aria-label="${name}"></div></section>`));
    this.#views = [.../** @type {NodeListOf<HTMLElement>} */ (panes.querySelectorAll(".log-scroll"))].map((scroller) => {
      const view = new View(scroller);
      for (const kind of ["wheel", "touchmove", "keydown", "pointerdown", "pointermove"]) {
        scroller.addEventListener(kind, (event) => {
          if (kind !== "pointermove" || /** @type {PointerEvent} */ (event).buttons) this.#touched = performance.now();
        }, { passive: true });
      }
      scroller.addEventListener("scroll", () => this.#scrolled(view), { passive: true });
      return view;
    });
  }

  /** Who scrolls up wants to read; who comes to the end, to follow. @param {View} view */
  #scrolled(view) {
    if (performance.now() - this.#touched < 1000) this.#setFollowing(view.atEnd());
    if (view.scroller.scrollTop < 400 && this.#source.older) void this.#older(view);
  }

  /** @param {View} view */
  async #older(view) {
    const count = await this.#source.more().catch(() => 0);
    if (!count) return;
    const before = this.#shown[this.#views.indexOf(view)]?.length ?? 0;
    this.#draw(false);
    view.keep((this.#shown[this.#views.indexOf(view)]?.length ?? 0) - before);
  }

  #changed() {
    this.#draw(true);
    if (this.#following) for (const view of this.#views) view.toEnd();
  }

  /** @param {boolean} more whether lines were only added at the end */
  #draw(more) {
    const all = this.#source.lines.all;
    const first = all[0]?.number ?? 0;
    const grown = more && first === this.#seen;
    this.#seen = first;
    const split = this.#mode === "split";
    this.#shown = this.#views.map((_, rank) => this.#chosen(all, split ? rank : this.#mode === "merged" ? -1 : Number(this.#mode)));
    this.#views.forEach((view, place) => view.show(this.#shown[place] ?? [], { ...this.#looks, ranks: this.#looks.ranks && this.#mode === "merged" }, grown));
    this.#tell(all.length);
  }

  /** @param {Line[]} all @param {number} rank */
  #chosen(all, rank) {
    const needle = this.#only ? this.#looks.needle : "";
    if (rank < 0 && !this.#stream && !needle) return all;
    return all.filter((line) => (rank < 0 || line.rank === rank || line.stream === "system") && (!this.#stream || line.stream === this.#stream) && (!needle || plain(line.text).toLowerCase().includes(needle)));
  }

  /** @param {number} count */
  #tell(count) {
    const { lines, ended, older, begin } = this.#source;
    const place = this.querySelector("[data-log-count]");
    const part = begin > 0 || lines.dropped || this.#source.cut;
    if (place) place.textContent = lines.progress || `${part ? "the last " : ""}${count.toLocaleString("en")} line${count === 1 ? "" : "s"}${ended ? "" : ", followed"}`;
    const first = /** @type {HTMLElement | null} */ (this.querySelector("[data-log-first]"));
    if (first) first.hidden = !(begin > 0 && !older);
    if (!count) this.#note(lines.progress || (ended ? "The job wrote nothing." : "Nothing has been written yet."));
    else if (this.querySelector(".log-note")?.textContent !== "") this.#note("");
  }

  /** @param {string} words */
  #note(words) {
    const note = /** @type {HTMLElement | null} */ (this.querySelector(".log-note"));
    if (!note) return;
    note.textContent = words;
    note.hidden = !words;
  }

  /** @param {boolean} on */
  #setFollowing(on) {
    if (on === this.#following && this.#views.every((view) => view.stick === on)) return;
    this.#following = on;
    for (const view of this.#views) view.stick = on;
    this.querySelector('[data-log="follow"]')?.setAttribute("aria-pressed", String(on));
  }

  /** @param {string} act */
  #act(act) {
    if (act === "follow") {
      this.#setFollowing(!this.#following);
      if (this.#following) for (const view of this.#views) view.toEnd();
    } else if (act === "wrap" || act === "times") {
      this.#looks[act] = !this.#looks[act];
      this.#pressed(act, this.#looks[act]);
      this.#draw(false);
      if (this.#following) for (const view of this.#views) view.toEnd();
    } else if (act === "only") {
      this.#only = !this.#only;
      this.#pressed(act, this.#only);
      this.#draw(false);
    } else if (act === "next" || act === "before") this.#step(act === "next" ? 1 : -1);
    else if (act === "first") {
      this.#setFollowing(false);
      void this.#source.fromBeginning().then(() => this.#views.forEach((view) => (view.scroller.scrollTop = 0)));
    }
  }

  /** @param {string} act @param {boolean} on */
  #pressed(act, on) {
    this.querySelector(`[data-log="${act}"]`)?.setAttribute("aria-pressed", String(on));
  }

  /** @param {string} text */
  #search(text) {
    this.#looks.needle = text.toLowerCase();
    for (const view of this.#views) view.marked = -1;
    this.#draw(false);
    this.#found();
  }

  /** How many lines hold what is sought. @returns {number[]} */
  #found() {
    const needle = this.#looks.needle;
    const found = needle ? (this.#shown[0] ?? []).flatMap((line, place) => (plain(line.text).toLowerCase().includes(needle) ? [place] : [])) : [];
    const place = this.querySelector("[data-log-found]");
    if (place) place.textContent = needle ? `${found.length.toLocaleString("en")} found` : "";
    return found;
  }

  /** To the next line that holds what is sought. @param {number} way */
  #step(way) {
    const found = this.#found();
    const view = this.#views[0];
    if (!view || !found.length) return say("Nothing like that was found.");
    const at = way > 0 ? found.find((place) => place > view.marked) : found.findLast((place) => view.marked < 0 || place < view.marked);
    this.#setFollowing(false);
    view.to(at ?? (way > 0 ? found[0] : found[found.length - 1]) ?? 0);
  }
}

/** @param {number} ranks @param {string} job @param {boolean} wrap */
function tools(ranks, job, wrap) {
  const button = (/** @type {string} */ act, /** @type {string} */ words, on = false) => html`<button type="button" class="small" data-log="${act}" aria-pressed="${on}">${words}</button>`;
  return html`<div class="log-tools"><div class="log-find"><input type="search" data-log-search data-filter aria-label="Search in the log" placeholder="Search" spellcheck="false"><button type="button" class="small" data-log="before" aria-label="Found before">${mark("up")}</button><button type="button" class="small" data-log="next" aria-label="Found next">${mark("down")}</button>${button("only", "Only found")}<span class="quiet" data-log-found role="status"></span></div>
    <select data-log-choice="stream" aria-label="Stream"><option value="">All streams</option><option value="stdout">stdout</option><option value="stderr">stderr</option><option value="system">Headframe</option></select>
    ${ranks > 1 ? html`<select data-log-choice="ranks" aria-label="Ranks"><option value="merged">All ranks merged</option><option value="split">Ranks side by side</option>${[...Array(Math.min(ranks, 256)).keys()].map((rank) => html`<option value="${rank}">Rank ${rank}</option>`)}</select>` : ""}
    ${button("follow", "Follow", true)}${button("wrap", "Wrap", wrap)}${button("times", "Times")}<a class="button small" href="/jobs/${job}/log.txt" download>${mark("download")}Download</a></div>
    <p class="log-note" hidden></p><div class="log-panes"></div><p class="log-foot quiet"><span data-log-count></span> <span data-log-first hidden>The server finds the last 100,000 lines. <button type="button" class="small" data-log="first">Show the beginning</button></span></p>`;
}

customElements.define("hf-log", Log);
