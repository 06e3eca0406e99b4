// Runs a table of reports on server/web/presence.js: CASES=table.json node --test presence.test.mjs

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

// Imported as text: before node 20.19, a .js file without a package.json beside it is not loaded as a module.
const source = readFileSync(new URL("../../server/web/presence.js", import.meta.url));
const { Presence } = await import(`data:text/javascript;base64,${source.toString("base64")}`);

for (const { name, me, steps } of JSON.parse(readFileSync(process.env.CASES))) {
  test(name, () => {
    const presence = new Presence((peer) => peer !== me);
    for (const { method, report, changes, peers } of steps) {
      assert.deepEqual(presence[method](report), changes, JSON.stringify(report));
      assert.deepEqual(presence.peers, peers);
    }
  });
}
