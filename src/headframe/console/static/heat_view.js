// What of the map is in view, and the gestures that move it.

/** @typedef {import("./heat_layout.js").Layout} Layout */

const MOST = 40;

export class View {
  x = 0;
  y = 0;
  zoom = 1;

  /** Keep the map inside its box. @param {Layout} layout @param {number} width @param {number} height */
  hold(layout, width, height) {
    this.zoom = Math.min(Math.max(this.zoom, 1), MOST);
    this.x = Math.min(Math.max(this.x, 0), Math.max(layout.width - width / this.zoom, 0));
    this.y = Math.min(Math.max(this.y, 0), Math.max(layout.height + 2 - height / this.zoom, 0));
  }

  /** Larger or smaller around a place of the box. @param {number} by @param {number} px @param {number} py */
  enlarge(by, px, py) {
    const zoom = Math.min(Math.max(this.zoom * by, 1), MOST);
    this.x += px / this.zoom - px / zoom;
    this.y += py / this.zoom - py / zoom;
    this.zoom = zoom;
  }

  /** Bring a cell into the box. @param {Layout} layout @param {{x: number, y: number}} at @param {number} width @param {number} height */
  reveal(layout, at, width, height) {
    this.x = Math.min(Math.max(this.x, at.x + layout.cw - width / this.zoom), at.x);
    this.y = Math.min(Math.max(this.y, at.y + layout.ch - height / this.zoom), at.y);
  }
}

/**
 * Let pointers move and enlarge a view: drag, wheel, two fingers. A press that moved nothing is a click.
 * @param {HTMLElement} box
 * @param {View} view
 * @param {{draw: () => void, over: (event: PointerEvent) => void, click: (event: PointerEvent) => void, tall: () => number}} tell
 */
export function gestures(box, view, tell) {
  /** @type {Map<number, {x: number, y: number}>} */
  const fingers = new Map();
  let moved = false;
  box.addEventListener("pointerdown", (event) => {
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    moved = false;
    box.setPointerCapture(event.pointerId);
  });
  box.addEventListener("pointermove", (event) => {
    const from = fingers.get(event.pointerId);
    if (!from) return tell.over(event);
    const [dx, dy] = [event.clientX - from.x, event.clientY - from.y];
    if (!moved && Math.hypot(dx, dy) < 4) return;
    moved = true;
    const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
    if (other) {
      const [was, is] = [Math.hypot(from.x - other.x, from.y - other.y), Math.hypot(event.clientX - other.x, event.clientY - other.y)];
      const edge = box.getBoundingClientRect();
      if (was > 0) view.enlarge(is / was, (event.clientX + other.x) / 2 - edge.left, (event.clientY + other.y) / 2 - edge.top);
    } else {
      view.x -= dx / view.zoom;
      view.y -= dy / view.zoom;
    }
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    tell.draw();
  });
  const up = (/** @type {PointerEvent} */ event) => {
    const pressed = fingers.delete(event.pointerId);
    if (pressed && !moved && event.type === "pointerup") tell.click(event);
  };
  box.addEventListener("pointerup", up);
  box.addEventListener("pointercancel", up);
  box.addEventListener(
    "wheel",
    (event) => {
      const asked = event.ctrlKey || event.metaKey;
      const whole = view.zoom <= 1 && tell.tall() <= box.clientHeight + 4;
      // The page's own scrolling is not stolen, unless the map has been enlarged or has the focus.
      if (!asked && view.zoom <= 1 && (document.activeElement !== box || (whole && event.deltaY > 0))) return;
      event.preventDefault();
      const edge = box.getBoundingClientRect();
      view.enlarge(2 ** (-event.deltaY / 300), event.clientX - edge.left, event.clientY - edge.top);
      tell.draw();
    },
    { passive: false },
  );
}
