// <hf-heat>: the fleet as a map. Drag and wheel move and enlarge it; arrows go from GPU to GPU; Enter opens the node.

import { penOf } from "./chart/stage.js";
import { inks, onTheme } from "./chart/theme.js";
import { beside, blocksOf, hit, layOut, named, place } from "./heat_layout.js";
import { dots, paint } from "./heat_paint.js";
import { gestures, View } from "./heat_view.js";
import { bytes, legend, words } from "./heat_words.js";
import { follow } from "./live.js";

/** @typedef {import("./heat_layout.js").Fleet} Fleet */
/** @typedef {import("./heat_layout.js").Layout} Layout */
/** @typedef {import("./heat_paint.js").Frame} Frame */

export class Heat extends HTMLElement {
  static observedAttributes = ["by"];
  /** @type {Fleet | null} */ #fleet = null;
  /** @type {ReturnType<typeof blocksOf> | null} */ #parts = null;
  /** @type {Layout | null} */ #layout = null;
  /** @type {Frame | null} */ #frame = null;
  /** @type {(() => void)[]} */ #ends = [];
  /** @type {() => void} */ #unfollow = () => {};
  #view = new View();
  #picture = document.createElement("canvas");
  #canvas = document.createElement("canvas");
  #box = document.createElement("div");
  #said = document.createElement("p");
  #legend = document.createElement("div");
  #at = -1;
  #due = false;

  connectedCallback() {
    if (!this.#box.isConnected) this.#build();
    const sized = new ResizeObserver(() => this.#arrange());
    sized.observe(this.#box);
    this.#ends = [() => sized.disconnect(), onTheme(() => this.#colour())];
    void this.#load();
  }

  disconnectedCallback() {
    for (const end of [...this.#ends, this.#unfollow]) end();
    this.#unfollow = () => {};
  }

  attributeChangedCallback() {
    if (this.#fleet) void this.#load();
  }

  get #by() {
    return this.getAttribute("by") || "use";
  }

  #build() {
    this.#box.className = "heat-box";
    this.#box.tabIndex = 0;
    this.#box.setAttribute("role", "application");
    this.#box.setAttribute("aria-roledescription", "map of the fleet");
    this.#box.append(this.#canvas);
    this.#canvas.setAttribute("aria-hidden", "true");
    this.#said.className = "heat-said";
    this.#said.id = "heat-said";
    this.#legend.className = "heat-legend";
    this.replaceChildren(this.#legend, this.#box, this.#said);
    const box = this.#box;
    gestures(box, this.#view, {
      draw: () => this.#draw(),
      over: (event) => this.#go(this.#under(event, hit)?.cell ?? -1, false, this.#under(event, named) !== null),
      click: (event) => this.#open(this.#under(event, hit)?.cell ?? -1, this.#under(event, named)),
      tall: () => this.#layout?.height ?? 0,
    });
    box.addEventListener("pointerleave", () => document.activeElement !== box && this.#go(-1));
    box.addEventListener("blur", () => this.#said.removeAttribute("aria-live"));
    box.addEventListener("keydown", (event) => this.#key(event));
  }

  async #load() {
    const [map, frame] = await Promise.all(["/v1/fleet/map", this.#frameAddress()].map((path) => fetch(path).catch(() => null)));
    if (!map?.ok || !frame?.ok) {
      this.#said.textContent = "The map cannot be loaded now; it is tried again every few seconds.";
      setTimeout(() => this.isConnected && this.#load(), 3000);
      return;
    }
    this.#fleet = /** @type {Fleet} */ (await map.json());
    this.#parts = blocksOf(this.#fleet);
    this.#said.textContent = "";
    this.#arrange();
    this.#hear(await frame.json(), false);
    this.#follow();
  }

  #frameAddress() {
    return `/v1/fleet/frame?by=${encodeURIComponent(this.#by)}`;
  }

  #follow() {
    this.#unfollow();
    this.#unfollow = follow(`fleet:${this.#by}`, (told) => this.#hear(told));
  }

  /** A frame: of this layout, or of another one, which is then fetched. @param {any} told @param {boolean} [again] */
  #hear(told, again = true) {
    if (!this.#fleet || told.by !== this.#by) return;
    if (told.layout !== this.#fleet.id) return again ? void this.#load() : undefined;
    this.#frame = { told, states: bytes(told.states), values: bytes(told.values) };
    legend(this.#legend, this.#frame);
    this.#colour();
    this.dispatchEvent(new CustomEvent("heat-frame", { bubbles: true, detail: told }));
  }

  #arrange() {
    const { clientWidth: width, clientHeight: height } = this.#box;
    if (!this.#fleet || !this.#parts || !width) return;
    const wanted = Number(this.getAttribute("height")) || 460;
    this.#layout = layOut(this.#fleet, this.#parts, width, wanted);
    const tall = Math.min(Math.max(this.#layout.height + 4, 64), Math.max(wanted, 120));
    if (Math.abs(height - tall) > 1) this.#box.style.height = `${tall}px`;
    this.#box.hidden = !this.#fleet.node_ids.length;
    this.#colour();
  }

  #colour() {
    if (this.#layout && this.#frame) dots(this.#picture, this.#layout, this.#frame);
    this.#draw();
  }

  #draw() {
    if (this.#due) return;
    this.#due = true;
    requestAnimationFrame(() => {
      this.#due = false;
      const { clientWidth: width, clientHeight: height } = this.#box;
      const pen = width ? penOf(this.#canvas, width, height) : null;
      if (!pen || !this.#layout || !this.#fleet || !this.#frame) return;
      this.#view.hold(this.#layout, width, height);
      paint(pen, this.#picture, this.#layout, this.#fleet, this.#frame, this.#view, width, height);
      const at = place(this.#layout, this.#at), { cw, ch } = this.#layout, { x, y, zoom } = this.#view;
      if (at) {
        pen.lineWidth = 2;
        pen.strokeStyle = inks()["text"] ?? "";
        pen.strokeRect((at.x - x) * zoom - 1, (at.y - y) * zoom - 1, Math.max(cw * zoom, 5), Math.max(ch * zoom, 5));
      }
      const { counts } = this.#frame.told;
      this.#box.setAttribute("aria-label", `${this.#frame.states.length} GPUs by ${this.#by}: ${Object.entries(counts).filter(([, count]) => count).map(([name, count]) => `${count} ${name}`).join(", ")}. Arrow keys go from GPU to GPU, Enter opens the node, plus and minus change the size.`);
      this.toggleAttribute("data-painted", true);
    });
  }

  /** @template Found @param {MouseEvent} event @param {(layout: Layout, x: number, y: number) => Found | null} found */
  #under(event, found) {
    const box = this.#box.getBoundingClientRect(), { x, y, zoom } = this.#view;
    return this.#layout ? found(this.#layout, x + (event.clientX - box.left) / zoom, y + (event.clientY - box.top) / zoom) : null;
  }

  /** Make it larger or smaller around its middle. @param {number} by */
  enlarge(by) {
    this.#view.enlarge(by, this.#box.clientWidth / 2, this.#box.clientHeight / 2);
    this.#draw();
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const layout = this.#layout, count = this.#frame?.states.length ?? 0;
    if (!layout || !count || event.ctrlKey || event.metaKey || event.altKey) return;
    const way = /** @type {Record<string, [number, number]>} */ ({ ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] })[event.key];
    const at = Math.max(this.#at, 0);
    if (way) this.#go(this.#at < 0 ? 0 : beside(layout, at, ...way), true);
    else if (event.key === "Home") this.#go(0, true);
    else if (event.key === "End") this.#go(count - 1, true);
    else if (event.key === "Enter") this.#open(at);
    else if (event.key === "+" || event.key === "=") this.enlarge(1.5);
    else if (event.key === "-") this.enlarge(1 / 1.5);
    else if (event.key === "0") this.enlarge(0);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** Go to a cell and tell of it; by key it is said aloud and brought into view. @param {number} cell @param {boolean} [aloud] @param {boolean} [link] */
  #go(cell, aloud = false, link = false) {
    const layout = this.#layout, changed = cell !== this.#at;
    this.#at = cell;
    if (!layout || !this.#fleet || !this.#frame) return;
    const at = place(layout, cell);
    if (aloud) this.#said.setAttribute("aria-live", "polite");
    if (at && aloud) this.#view.reveal(layout, at, this.#box.clientWidth, this.#box.clientHeight);
    if (changed) this.#said.textContent = at ? words(this.#fleet, this.#frame, at) : "";
    this.#canvas.style.cursor = at || link ? "pointer" : "grab";
    this.#draw();
  }

  /** The node of a cell, or the rack of a name. @param {number} cell @param {import("./heat_layout.js").Block | null} [rack] */
  #open(cell, rack = null) {
    const at = this.#layout ? place(this.#layout, cell) : null, id = at && this.#fleet?.node_ids[at.node];
    if (id) location.assign(`/nodes/${encodeURIComponent(id)}`);
    else if (rack) location.assign(`/fleet/racks/${encodeURIComponent(this.#fleet?.sites[rack.site]?.name ?? "")}/${encodeURIComponent(rack.name)}`);
  }
}

customElements.define("hf-heat", Heat);
