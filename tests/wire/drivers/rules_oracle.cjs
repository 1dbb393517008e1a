// What browsers make of an event under routing rules: the loop of their routing middleware around Segment's engine. A
// line on stdin is a list of questions, a line on stdout the list of answers: the event, null when it is dropped,
// "error" when the engine throws.
//   {"rules": […], "destination": "…", "event": {…}}
"use strict";

const readline = require("node:readline");
const tsub = require("@segment/tsub");

function apply(rules, destination, event) {
  for (const rule of new tsub.Store(rules).getRulesByDestinationName(destination)) {
    for (let step = 0; step < rule.matchers.length; step++) {
      if (tsub.matches(event, rule.matchers[step])) {
        event = tsub.transform(event, rule.transformers[step]);
        if (event === null) return null;
      }
    }
  }
  return event;
}

function answer({ rules, destination, event }) {
  try {
    return apply(rules, destination, event);
  } catch {
    return "error";
  }
}

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  process.stdout.write(JSON.stringify(JSON.parse(line).map(answer)) + "\n");
});
