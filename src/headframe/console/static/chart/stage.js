// The parts that a chart and a timeline share: two canvases, the note beside the cursor, the table and its switch.

/**
 * @typedef {object} Stage
 * @property {HTMLElement} plot takes the focus
 * @property {HTMLCanvasElement} base
 * @property {HTMLCanvasElement} over
 * @property {HTMLElement} note
 * @property {HTMLElement} said the keyboard cursor in words
 * @property {HTMLElement} table
 * @property {HTMLButtonElement} button
 */

/**
 * Build the inside of an element.
 * @param {HTMLElement} host
 * @param {string} role what it is called, such as "chart"
 * @param {() => HTMLTableElement} table made when it is asked for
 * @returns {Stage}
 */
export function stage(host, role, table) {
  const make = (/** @type {string} */ tag, /** @type {string} */ name, /** @type {HTMLElement} */ parent) => {
    const made = document.createElement(tag);
    made.className = name;
    parent.append(made);
    return made;
  };
  const plot = make("div", "chart-plot", host);
  plot.tabIndex = 0;
  plot.setAttribute("role", "application");
  plot.setAttribute("aria-roledescription", role);
  const base = /** @type {HTMLCanvasElement} */ (make("canvas", "chart-base", plot));
  const over = /** @type {HTMLCanvasElement} */ (make("canvas", "chart-over", plot));
  const note = make("div", "chart-note", plot);
  note.hidden = true;
  for (const each of [base, over, note]) each.setAttribute("aria-hidden", "true");
  const foot = make("div", "chart-foot", host);
  const said = make("span", "chart-said", foot);
  said.setAttribute("aria-live", "polite");
  const button = /** @type {HTMLButtonElement} */ (make("button", "chart-switch", foot));
  button.type = "button";
  button.textContent = "Show as table";
  button.setAttribute("aria-expanded", "false");
  const box = make("div", "chart-table", host);
  box.hidden = true;
  box.tabIndex = 0;
  box.setAttribute("role", "region");
  button.addEventListener("click", () => {
    box.hidden = !box.hidden;
    button.setAttribute("aria-expanded", String(!box.hidden));
    button.textContent = box.hidden ? "Show as table" : "Hide the table";
    box.replaceChildren(...(box.hidden ? [] : [table()]));
  });
  return { plot, base, over, note, said, table: box, button };
}

/**
 * Fit a canvas to its box and give its pen, cleared, in CSS pixels.
 * @param {HTMLCanvasElement} canvas
 * @param {number} width
 * @param {number} height
 * @returns {CanvasRenderingContext2D | null}
 */
export function penOf(canvas, width, height) {
  const dots = devicePixelRatio || 1, pen = canvas.getContext("2d");
  const [wide, high] = [Math.round(width * dots), Math.round(height * dots)];
  if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
  if (!pen) return null;
  pen.setTransform(dots, 0, 0, dots, 0, 0);
  pen.clearRect(0, 0, width, height);
  return pen;
}

/**
 * Write lines of text beside a place, on the side where there is room. `signs` are colours of squares before lines.
 * @param {Stage} parts
 * @param {number} x
 * @param {number} y
 * @param {string} head
 * @param {{text: string, tone?: string}[]} lines
 */
export function beside(parts, x, y, head, lines) {
  const { note, plot } = parts;
  const title = document.createElement("b");
  title.textContent = head;
  note.replaceChildren(title, ...lines.map((each) => {
    const line = document.createElement("span");
    if (each.tone) {
      const dot = document.createElement("i");
      dot.style.background = each.tone;
      line.append(dot);
    }
    line.append(each.text);
    return line;
  }));
  note.hidden = false;
  const room = plot.clientWidth, wide = note.offsetWidth;
  const left = x + 14 + wide > room ? x - 14 - wide : x + 14;
  note.style.left = `${Math.min(Math.max(left, 0), Math.max(room - wide, 0))}px`;
  note.style.top = `${Math.max(Math.min(y, plot.clientHeight - note.offsetHeight), 0)}px`;
}

/** What the page gave in `data-spec`, as JSON. @param {HTMLElement} host @returns {any} */
export function given(host) {
  const text = host.dataset["spec"];
  return text ? JSON.parse(text) : null;
}
