// Runs a table of cases on server/web/negotiation.js: CASES=table.json node --test negotiation.test.mjs
// A step can also contain the `phase`, `deadline` and `settled` that must follow.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

// Imported as text: before node 20.19, a .js file without a package.json beside it is not loaded as a module.
const source = readFileSync(new URL("../../server/web/negotiation.js", import.meta.url));
const { Negotiation } = await import(`data:text/javascript;base64,${source.toString("base64")}`);

for (const { name, me, remote, steps } of JSON.parse(readFileSync(process.env.CASES))) {
  test(name, () => {
    const core = new Negotiation(me, remote);
    steps.forEach((step, index) => {
      assert.deepEqual(core.handle(step.event, step.now), step.commands, `step ${index}: ${JSON.stringify(step.event)}`);
      for (const field of ["phase", "deadline", "settled"]) {
        if (field in step) assert.equal(core[field], step[field], `${field} after step ${index}`);
      }
    });
  });
}
