// What Segment's own transformers make of an event. A line on stdin is a list of questions, a line on stdout the list of
// answers: the event, null when it is dropped, "error" when the engine throws.
//   {"payload": {…}, "transformers": […], "mended": true | false}
//
// Two parts that the engine is published with are not what it was written for: the hash returns a text where bytes are
// read, and ldexp returns 0 (its own dependencies have moved on). Questions that say "mended" get parts that do what
// the engine expects of them; all others get what browsers have.
"use strict";

const readline = require("node:readline");

const home = { paths: [require.resolve("@segment/tsub")] };
let mended = true;

/** Lets every user of a module have `mend(original)` while questions want it so. */
function replace(name, mend) {
  const path = require.resolve(name, home);
  const original = require(path);
  const better = mend(original);
  require.cache[path].exports = (...values) => (mended ? better : original)(...values);
}

replace("tiny-hashes/md5", (md5) => (text) => [...Buffer.from(md5(text), "hex")]);
replace("@stdlib/math-base-special-ldexp", () => (fraction, exponent) => fraction * 2 ** exponent);
const tsub = require("@segment/tsub");

function answer(question) {
  mended = question.mended;
  try {
    return tsub.transform(question.payload, question.transformers);
  } catch {
    return "error";
  }
}

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  process.stdout.write(JSON.stringify(JSON.parse(line).map(answer)) + "\n");
});
