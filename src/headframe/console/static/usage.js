// Usage and cost: charts, choices that act at once, tables as files, figures kept true.

import "./chart/chart.js";
import { freshen } from "./fresh.js";
import { follow } from "./live.js";

for (const choice of document.querySelectorAll("select[data-submits]")) {
  const form = /** @type {HTMLSelectElement} */ (choice).form;
  choice.addEventListener("change", () => {
    // Dates that nobody chose would pin the range down.
    for (const input of form?.querySelectorAll("[data-implied]") ?? []) /** @type {HTMLInputElement} */ (input).disabled = true;
    form?.requestSubmit();
  });
}

for (const button of document.querySelectorAll("[data-csv]")) {
  button.addEventListener("click", () => {
    const { csv = "", name = "table.csv" } = /** @type {HTMLElement} */ (button).dataset;
    const table = /** @type {HTMLTableElement | null} */ (document.querySelector(csv));
    if (table) save(name, [...table.rows].map((row) => [...row.cells].map((cell) => field(cell.innerText)).join(",")).join("\r\n"));
  });
}

/** A field of CSV; one that a spreadsheet would take for a formula is marked as text. @param {string} text */
function field(text) {
  const plain = text.trim().replace(/\s+/g, " ");
  const safe = /^[=+@\t\r]|^-(?![\d.,]+$)/.test(plain) ? `'${plain}` : plain;
  return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** @param {string} name @param {string} text */
function save(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

if (document.querySelector("[data-fresh]")) {
  follow("events", (event) => /^(job_(started|ended|succeeded|failed|stopped)|price|budget|invoice)/.test(event.kind) && freshen(10_000), () => freshen(0));
  setInterval(() => freshen(10_000), 30_000); // what runs costs with time alone
}
