// The yardstick of benchmarks/fql.py: `validate` of @segment/destination-subscriptions. A JSON line on stdin holds
// {triggers, events}; each following line is a number of rounds over all pairs, answered with the seconds of CPU time that
// they took and the number of matches.
"use strict";

const readline = require("node:readline");
const { parseFql, validate } = require("@segment/destination-subscriptions");

let conditions, events;
readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const asked = JSON.parse(line);
  if (typeof asked === "object") {
    conditions = asked.triggers.map((trigger) => parseFql(trigger));
    events = asked.events;
    return;
  }
  let matches = 0;
  const start = process.cpuUsage();
  for (let round = 0; round < asked; round++)
    for (const condition of conditions) for (const event of events) if (validate(condition, event)) matches++;
  const used = process.cpuUsage(start);
  const seconds = (used.user + used.system) / 1e6;
  process.stdout.write(JSON.stringify([seconds, matches]) + "\n");
});
