// What Segment's own engines say. A question is a JSON line on stdin, its answer a line on stdout: for each event "1"
// for a match, "0" for none, "E" when the engine throws.
//   {"ir": <JSON form>, "events": […]}       @segment/tsub, as browser SDKs call it
//   {"trigger": "<FQL>", "events": […]}      @segment/destination-subscriptions, as Actions destinations call it
"use strict";

const readline = require("node:readline");
const tsub = require("@segment/tsub");
const { parseFql, validate } = require("@segment/destination-subscriptions");

function engine(question) {
  if ("trigger" in question) {
    const subscription = parseFql(question.trigger);
    return (event) => validate(subscription, event);
  }
  const matcher = { type: "fql", ir: JSON.stringify(question.ir) };
  return (event) => tsub.matches(event, matcher);
}

function ask(matches, event) {
  try {
    return matches(event) ? "1" : "0";
  } catch {
    return "E";
  }
}

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const question = JSON.parse(line);
  const matches = engine(question);
  process.stdout.write(question.events.map((event) => ask(matches, event)).join("") + "\n");
});
