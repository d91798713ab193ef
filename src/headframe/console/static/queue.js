// The queue, kept true while one looks.

import "./chart/timeline.js";
import { freshen } from "./fresh.js";
import { follow } from "./live.js";

follow("events", (event) => /^(job|node|cluster|reservation|quota)_/.test(event.kind) && freshen(5000), () => freshen(0));
setInterval(() => freshen(5000), 60_000); // expected starts move with time alone

for (const choice of document.querySelectorAll("select[data-submits]")) {
  choice.addEventListener("change", () => /** @type {HTMLSelectElement} */ (choice).form?.requestSubmit());
}
