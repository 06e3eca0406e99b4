// Runs a table of cases on server/web/negotiation.js: CASES=table.json node --test negotiation.test.mjs
// A step can also contain `startsCall`, and the `phase`, `deadline`, `settled` and `waitingBytes` that must follow.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

// Imported as text: before node 20.19, a .js file without a package.json beside it is not loaded as a module.
const read = (name) => readFileSync(new URL(`../../server/web/${name}`, import.meta.url), "utf8");
const asModule = (source) => `data:text/javascript;base64,${Buffer.from(source).toString("base64")}`;
const identity = asModule(read("description_identity.js"));
const source = read("negotiation.js").replace("./description_identity.js", identity);
const { Negotiation } = await import(asModule(source));

for (const { name, me, remote, steps } of JSON.parse(readFileSync(process.env.CASES))) {
  test(name, () => {
    const core = new Negotiation(me, remote);
    steps.forEach((step, index) => {
      if ("startsCall" in step) assert.equal(core.startsCall(step.event), step.startsCall, `startsCall before ${index}`);
      assert.deepEqual(core.handle(step.event, step.now), step.commands, `step ${index}: ${JSON.stringify(step.event)}`);
      for (const field of ["phase", "deadline", "settled", "waitingBytes"]) {
        if (field in step) assert.equal(core[field], step[field], `${field} after step ${index}`);
      }
    });
  });
}
