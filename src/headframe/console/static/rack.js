// A rack, kept true while one looks.
import { freshen } from "./fresh.js";
import { follow } from "./live.js";

follow("events", (event) => /^(allocation|node|cluster)_/.test(event.kind) && freshen(5000), () => freshen(0));
setInterval(() => freshen(5000), 10_000); // what is measured changes without an event
