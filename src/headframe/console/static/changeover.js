// While no server decides: look each second whether one does, and then open the page that was asked for.

const sign = /** @type {HTMLElement} */ (document.querySelector("[data-looks]"));
const began = Date.now();

async function look() {
  const answer = await fetch("/readyz", { cache: "no-store" }).catch(() => null);
  if (answer?.ok) return location.reload();
  const seconds = Math.round((Date.now() - began) / 1000);
  if (seconds >= 20) sign.textContent = "This takes longer than it should: ask the operator of this cloud. Still looking…";
  setTimeout(() => void look(), 1000);
}

setTimeout(() => void look(), 1000);
